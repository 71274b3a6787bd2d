"""Whoever holds a stale lease changes nothing on a device."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from agent import fence, locks
from agent.errors import InfrastructureError, RequestInvalid, StaleFence


def test_a_lower_fence_than_the_highest_seen_is_refused_and_an_equal_one_is_not(tmp_path: Path) -> None:
    with fence.owned(tmp_path, 5):
        pass
    with fence.owned(tmp_path, 5):
        pass
    with pytest.raises(StaleFence, match="has seen 5"), fence.owned(tmp_path, 4):
        raise AssertionError("must not get here")
    assert fence.read(tmp_path) == 5


def test_the_fence_outlives_the_process_and_a_new_device_starts_at_zero(tmp_path: Path) -> None:
    root = tmp_path / "new"
    assert fence.read(root) == 0
    with fence.owned(root, 2**62):
        pass
    assert json.loads((root / "fence.json").read_text()) == {"fence": 2**62}


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"fence": "7"}', b'{"fence": true}', b'{"fence": -1}', b"\xff" * 10])
def test_a_damaged_fence_lets_nobody_in(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "fence.json").write_bytes(damage)
    with pytest.raises(InfrastructureError, match="damaged"), fence.owned(tmp_path, 2**62):
        raise AssertionError("must not get here")


@pytest.mark.parametrize("number", [-1, 2**63])
def test_what_sql_could_not_have_given_is_no_fence(tmp_path: Path, number: int) -> None:
    with pytest.raises(RequestInvalid), fence.owned(tmp_path, number):
        raise AssertionError("must not get here")


def test_a_link_in_the_place_of_the_fence_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"fence": 1}')
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "fence.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestInvalid, match="link"), fence.owned(tmp_path / "root", 9):
        raise AssertionError("must not get here")
    assert (tmp_path / "elsewhere").read_text() == '{"fence": 1}'


def _count_up(root: str, rounds: int) -> None:
    path = Path(root) / "count"
    for _ in range(rounds):
        with fence.locked(Path(root)):
            path.write_text(str(int(path.read_text()) + 1))


def test_commands_never_overlap(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    context: Any = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count_up, args=(str(tmp_path), 200)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == "600"


def test_a_run_belongs_to_the_highest_fence_that_adopted_it(tmp_path: Path) -> None:
    assert fence.owner(tmp_path, 3) == 3
    fence.adopt(tmp_path, 7)
    fence.adopt(tmp_path, 5)
    assert fence.owner(tmp_path, 3) == 7


def test_a_lock_is_free_again_when_its_holder_has_closed_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not locks.is_held(path)
    descriptor = locks.take(path)
    assert descriptor is not None
    assert locks.is_held(path)
    assert locks.take(path) is None
    assert not locks.wait_until_free(path, 0.0)
    import os

    os.close(descriptor)
    assert not locks.is_held(path)
    assert locks.wait_until_free(path, 0.0)
