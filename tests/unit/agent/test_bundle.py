"""A bundle is unpacked whole or not at all, and whatever its archive says, nothing is written outside of its own folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from agent import bundle
from agent.errors import DigestMismatch, RequestInvalid

Member = tuple[str, bytes, dict[str, object]]
GOOD: list[Member] = [("bin/python3", b"interpreter", {"mode": 0o755}), ("lib/os.py", b"module", {"mode": 0o644})]


def put(root: Path, members: list[Member], name: str | None = None) -> str:
    """Put an archive of ``members`` on the device as content; return the digest it is asked for by."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for path, data, about in members:
            member = tarfile.TarInfo(path)
            member.size = len(data)
            for key, value in about.items():
                setattr(member, key, value)
            packed.addfile(member, io.BytesIO(data))
    return put_bytes(root, buffer.getvalue(), name)


def put_bytes(root: Path, data: bytes, name: str | None = None) -> str:
    sha256 = name or hashlib.sha256(data).hexdigest()
    (root / "content").mkdir(parents=True, exist_ok=True)
    (root / "content" / sha256).write_bytes(data)
    return sha256


def everything(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def test_a_bundle_is_unpacked_and_archive_and_seed_are_gone(tmp_path: Path) -> None:
    sha256 = put(tmp_path, GOOD)
    seed = tmp_path / "bundles" / f"{sha256}.seed"
    seed.mkdir(parents=True)
    (seed / "python3").touch()
    assert bundle.unpack(tmp_path, sha256) == {"unpacked": True}
    assert everything(tmp_path) == [f"bundles/{sha256}/bin/python3", f"bundles/{sha256}/lib/os.py"]
    place = tmp_path / "bundles" / sha256
    assert (place / "bin" / "python3").stat().st_mode & 0o777 == 0o700
    assert (place / "lib" / "os.py").stat().st_mode & 0o777 == 0o600


def test_unpacking_again_changes_nothing_and_removes_what_was_sent_again(tmp_path: Path) -> None:
    sha256 = put(tmp_path, GOOD)
    bundle.unpack(tmp_path, sha256)
    put(tmp_path, GOOD)
    assert bundle.unpack(tmp_path, sha256) == {"unpacked": False}
    assert not (tmp_path / "content" / sha256).exists()


def test_what_a_broken_unpacking_left_is_removed_by_the_next(tmp_path: Path) -> None:
    sha256 = put(tmp_path, GOOD)
    half = tmp_path / "bundles" / f"{sha256}.incoming"
    half.mkdir(parents=True)
    (half / "stranger").touch()
    bundle.unpack(tmp_path, sha256)
    assert not [name for name in everything(tmp_path) if "stranger" in name]


def test_a_bundle_that_is_not_there_or_arrived_damaged_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch, match="is not on the device"):
        bundle.unpack(tmp_path, "a" * 64)
    put_bytes(tmp_path, b"damaged", name="b" * 64)
    with pytest.raises(DigestMismatch, match="was removed"):
        bundle.unpack(tmp_path, "b" * 64)
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    "member",
    [
        ("../escaped", b"x", {}),
        ("lib/../../escaped", b"x", {}),
        ("/escaped", b"x", {}),
        ("lib//x", b"x", {}),
        ("lib/./x", b"x", {}),
        ("", b"x", {}),
        ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "lib/os.py"}),
        ("hard", b"", {"type": tarfile.LNKTYPE, "linkname": "../../fence.json"}),
        ("device", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ("pipe", b"", {"type": tarfile.FIFOTYPE}),
        ("folder", b"", {"type": tarfile.DIRTYPE}),
    ],
)
def test_anything_but_a_plain_file_inside_is_refused_and_nothing_of_it_stays(tmp_path: Path, member: Member) -> None:
    root = tmp_path / "outer" / "root"
    sha256 = put(root, [*GOOD, member])
    with pytest.raises(RequestInvalid, match="no plain file inside"):
        bundle.unpack(root, sha256)
    assert everything(tmp_path) == [f"outer/root/content/{sha256}"]


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    sha256 = put(tmp_path, GOOD + GOOD)
    with pytest.raises(RequestInvalid, match="holds 'bin/python3' twice"):
        bundle.unpack(tmp_path, sha256)
    assert everything(tmp_path) == [f"content/{sha256}"]


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    sha256 = put(tmp_path, [("lib", b"x", {}), ("lib/os.py", b"x", {})])
    with pytest.raises(RequestInvalid):
        bundle.unpack(tmp_path, sha256)
    assert everything(tmp_path) == [f"content/{sha256}"]


def test_an_archive_that_would_fill_the_device_is_refused_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_MAX_BYTES", 1_000_000)
    sha256 = put(tmp_path, [("zeros", bytes(1_000_001), {})])
    with pytest.raises(RequestInvalid, match="larger than"):
        bundle.unpack(tmp_path, sha256)
    monkeypatch.setattr(bundle, "_MAX_FILES", 2)
    many = put(tmp_path, [(f"file{number}", b"", {}) for number in range(3)])
    with pytest.raises(RequestInvalid, match="larger than 2 files"):
        bundle.unpack(tmp_path, many)


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b\x08\x00garbage", None])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes | None) -> None:
    if data is None:  # a good one, cut in the middle
        whole = put(tmp_path, [("random", bytes(range(256)) * 4000, {})])
        data = (tmp_path / "content" / whole).read_bytes()[:-600]
        (tmp_path / "content" / whole).unlink()
    sha256 = put_bytes(tmp_path, data)
    with pytest.raises(RequestInvalid, match="no archive"):
        bundle.unpack(tmp_path, sha256)
    assert everything(tmp_path) == [f"content/{sha256}"]
