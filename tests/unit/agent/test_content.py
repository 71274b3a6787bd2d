from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from agent import content, layout, protocol
from agent.errors import DeviceBusy, DigestMismatch, RequestInvalid

DAY_SECS = 86400.0


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put_parts(root: Path, sha256: str, parts: list[bytes]) -> Path:
    folder = root / "content" / f"{sha256}.parts"
    folder.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(parts):
        (folder / f"{index:06d}-{digest(data)}").write_bytes(data)
    return folder


def test_content_is_listed_verified_and_removed_when_wrong(device: Any) -> None:
    good, bad = device.content(b"good"), device.content(b"bad")
    layout.content_path(device.root, bad.sha256).write_bytes(b"worse")
    (device.root / "content" / "half.part").write_bytes(b"x")
    listed = content.contents(device.root)["content"]
    assert {item["sha256"] for item in listed} == {good.sha256, bad.sha256}
    assert content.verify(device.root, good.sha256) == {"present": True, "valid": True, "size_bytes": 4}
    assert not content.verify(device.root, bad.sha256)["valid"]
    assert [item["sha256"] for item in content.contents(device.root)["content"]] == [good.sha256]
    assert not content.verify(device.root, bad.sha256)["present"]


def test_a_device_without_content_or_root_has_none(tmp_path: Path) -> None:
    assert content.contents(tmp_path / "no")["content"] == []
    assert not (tmp_path / "no").exists()


def test_parts_become_the_file_they_are_parts_of_and_are_gone(tmp_path: Path) -> None:
    parts = [b"one", b"two", b"three"]
    sha256 = digest(b"".join(parts))
    folder = put_parts(tmp_path, sha256, parts)
    assert content.join(tmp_path, sha256, 3) == {"joined": True, "missing": []}
    assert (tmp_path / "content" / sha256).read_bytes() == b"onetwothree"
    assert not folder.exists()
    assert content.join(tmp_path, sha256, 3) == {"joined": True, "missing": []}


def test_a_part_that_did_not_arrive_or_arrived_damaged_is_named_and_only_that_one_is_sent_again(tmp_path: Path) -> None:
    parts = [b"one", b"two", b"three"]
    sha256 = digest(b"".join(parts))
    folder = put_parts(tmp_path, sha256, parts)
    (folder / f"000001-{digest(b'two')}").unlink()
    (folder / "000001-half").write_bytes(b"t")
    assert content.join(tmp_path, sha256, 3) == {"joined": False, "missing": [1]}
    (folder / f"000001-{digest(b'two')}").write_bytes(b"tvo")
    assert content.join(tmp_path, sha256, 3) == {"joined": False, "missing": [1]}
    assert not (folder / f"000001-{digest(b'two')}").exists()
    assert not (tmp_path / "content" / sha256).exists()
    put_parts(tmp_path, sha256, parts)
    assert content.join(tmp_path, sha256, 3)["joined"]
    assert [path.name for path in (tmp_path / "content").iterdir()] == [sha256]


def test_parts_of_something_else_are_refused_and_removed(tmp_path: Path) -> None:
    folder = put_parts(tmp_path, "a" * 64, [b"one", b"two"])
    with pytest.raises(DigestMismatch, match="do not make it"):
        content.join(tmp_path, "a" * 64, 2)
    assert not folder.exists()
    assert list((tmp_path / "content").iterdir()) == []


def test_a_link_in_the_place_of_parts_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    sha256 = digest(b"one")
    (secret / f"000000-{sha256}").write_bytes(b"one")
    (tmp_path / "root" / "content").mkdir(parents=True)
    os.symlink(secret, tmp_path / "root" / "content" / f"{sha256}.parts")
    assert content.join(tmp_path / "root", sha256, 1) == {"joined": False, "missing": [0]}


@pytest.mark.parametrize("parts", [0, -1, 100_001])
def test_a_number_of_parts_that_no_file_has_is_refused(tmp_path: Path, parts: int) -> None:
    with pytest.raises(RequestInvalid, match="parts"):
        content.join(tmp_path, "a" * 64, parts)


# --- making room ---------------------------------------------------------------------------------------------


def lay_out(root: Path, now: float) -> dict[str, Path]:
    """An agent, two contents, half-pushed parts and a bundle; the later named, the later used."""
    made = {
        "agent": root / protocol.AGENTS_FOLDER / f"{'a' * 64}.pyz",
        "old": root / protocol.CONTENT_FOLDER / ("b" * 64),
        "parts": root / protocol.CONTENT_FOLDER / f"{'c' * 64}.parts" / "000000-x",
        "bundle": root / protocol.BUNDLES_FOLDER / ("d" * 64) / "lib" / "libc.so",
        "new": root / protocol.CONTENT_FOLDER / ("e" * 64),
    }
    for path in made.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    for age, name in enumerate(reversed(made)):
        top = made[name]
        while top.parent.parent != root:
            top = top.parent
        os.utime(top, (now - age * DAY_SECS, now - age * DAY_SECS))
    return made


def test_what_nobody_used_for_long_is_removed_and_what_is_needed_stays(tmp_path: Path) -> None:
    made = lay_out(tmp_path, now=1e9)
    reply = content.prune(tmp_path, frozenset({"a" * 64}), 1.5 * DAY_SECS, None, now=1e9)
    assert reply == {"removed": 2, "freed_bytes": 200, "left_bytes": 300}
    assert {name for name, path in made.items() if path.exists()} == {"agent", "bundle", "new"}


def test_above_a_size_the_longest_unused_goes_first(tmp_path: Path) -> None:
    made = lay_out(tmp_path, now=1e9)
    assert content.prune(tmp_path, frozenset(), None, 250, now=1e9)["left_bytes"] == 200
    assert {name for name, path in made.items() if path.exists()} == {"bundle", "new"}


def test_nothing_is_removed_while_a_run_lies_on_the_device(tmp_path: Path) -> None:
    made = lay_out(tmp_path, now=1e9)
    (tmp_path / protocol.JOBS_FOLDER / "job.1").mkdir(parents=True)
    with pytest.raises(DeviceBusy, match="runs lie"):
        content.prune(tmp_path, frozenset(), 0.0, 0, now=1e9)
    assert all(path.exists() for path in made.values())


def test_an_empty_device_has_nothing_to_prune(tmp_path: Path) -> None:
    assert content.prune(tmp_path / "root", frozenset(), 0.0, 0, now=1e9)["removed"] == 0
