"""Large content goes in parts; what lies on the device whole is never sent again."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent import content
from agent.errors import DeviceUnreachable, DigestMismatch
from orchestrator.dispatch.push import PART_BYTES, PartedPush
from orchestrator.transports import CommandResult, LocalTransport, Transport

SIZE = 3 * PART_BYTES + 12345
PARTS = 4


class CountingWire(Transport):
    """This computer; counts the bytes that move, and goes dead after ``cut_after`` of them."""

    def __init__(self) -> None:
        self._real = LocalTransport()
        self.moved_bytes = 0
        self.cut_after: float = float("inf")
        self.damage: Callable[[bytes], bytes] = lambda data: data

    def put_bytes(self, data: bytes, target: str) -> None:
        if self.moved_bytes + len(data) > self.cut_after:
            raise DeviceUnreachable("the link was cut", "mend it")
        self.moved_bytes += len(data)
        self._real.put_bytes(self.damage(data), target)

    def size_of(self, path: str) -> int | None:
        return self._real.size_of(path)

    def run(self, argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        raise NotImplementedError

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        raise NotImplementedError

    def read_from(self, path: str, offset: int, max_bytes: int) -> bytes | None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held open."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(random.Random(3).randbytes(SIZE))
    return path


def push_of(source: Path, wire: Transport, root: Path) -> tuple[PartedPush, Callable[[int], Sequence[int]]]:
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    push = PartedPush(wire, str(root / "content"), sha256, source.stat().st_size)
    return push, lambda parts: content.join(root, sha256, parts)["missing"]


def never() -> bool:
    return False


def test_a_large_file_arrives_whole_and_moves_its_bytes_once(source: Path, tmp_path: Path) -> None:
    wire = CountingWire()
    push, join = push_of(source, wire, tmp_path / "root")
    assert push.send(source, join, never)
    assert wire.moved_bytes == SIZE
    assert (tmp_path / "root" / "content" / push.sha256).read_bytes() == source.read_bytes()


def test_a_push_cut_at_half_goes_on_from_there(source: Path, tmp_path: Path) -> None:
    wire = CountingWire()
    push, join = push_of(source, wire, tmp_path / "root")
    wire.cut_after = SIZE / 2
    with pytest.raises(DeviceUnreachable):
        push.send(source, join, never)
    assert wire.moved_bytes == PART_BYTES
    wire.cut_after = float("inf")
    again, join = push_of(source, wire, tmp_path / "root")
    assert again.send(source, join, never)
    assert wire.moved_bytes == SIZE


def test_a_push_that_runs_out_of_time_sends_at_least_a_part_each_time_and_gets_there(source: Path, tmp_path: Path) -> None:
    wire = CountingWire()
    push, join = push_of(source, wire, tmp_path / "root")
    calls = 1
    while not push.send(source, join, lambda: True):
        calls += 1
    assert calls == PARTS
    assert wire.moved_bytes == SIZE


def test_a_part_damaged_on_the_way_is_sent_again_alone(source: Path, tmp_path: Path) -> None:
    wire = CountingWire()
    push, join = push_of(source, wire, tmp_path / "root")
    damaged: list[int] = []

    def damage(data: bytes) -> bytes:
        if wire.moved_bytes != 2 * PART_BYTES or damaged:
            return data
        damaged.append(1)
        return b"\0" + data[1:]

    wire.damage = damage
    assert push.send(source, join, never)
    assert wire.moved_bytes == SIZE + PART_BYTES


def test_a_device_that_damages_everything_is_not_sent_to_for_ever(source: Path, tmp_path: Path) -> None:
    wire = CountingWire()
    push, join = push_of(source, wire, tmp_path / "root")
    wire.damage = lambda data: bytes(len(data))
    with pytest.raises(DigestMismatch, match="again and again"):
        push.send(source, join, never)


def test_a_cached_file_that_is_not_what_it_should_be_is_never_sent(source: Path, tmp_path: Path) -> None:
    wire = CountingWire()
    push = PartedPush(wire, str(tmp_path / "content"), "a" * 64, SIZE)
    with pytest.raises(DigestMismatch, match="is not the content"):
        push.send(source, lambda parts: [], never)
    assert wire.moved_bytes == 0
