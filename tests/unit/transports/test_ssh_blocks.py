"""Blocks of a file come together whatever the server gives of each, and what it sends beyond what was asked for is refused."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.message import Message
from paramiko.sftp import CMD_DATA

from orchestrator.transports.ssh_blocks import Blocks, Buffered


class Server:
    """A server of one file that gives between one byte and what it was asked for, and tells nothing of limits."""

    def __init__(self, content: bytes, generous: random.Random) -> None:
        self._content, self._generous = content, generous
        self._asked: dict[int, tuple[int, int]] = {}

    def _request(self, kind: int, *about: Any) -> Any:
        raise OSError("Operation unsupported")

    def get_channel(self) -> Any:
        return SimpleNamespace(closed=False)

    def _async_request(self, who: Any, kind: int, handle: bytes, offset: Any, size: int) -> int:
        number = len(self._asked)
        self._asked[number] = (int(offset), size)
        return number

    def _read_response(self, number: int) -> tuple[int, Message]:
        offset, size = self._asked[number]
        there = self._content[offset : offset + size]
        if not there:
            raise EOFError
        reply = Message()
        reply.add_string(there[: self._generous.randint(1, len(there))])
        reply.rewind()
        return CMD_DATA, reply


FILE: Any = SimpleNamespace(handle=b"h")


@given(
    size=st.integers(0, 200_000),
    start=st.integers(0, 210_000),
    count=st.integers(0, 210_000),
    seed=st.integers(0, 1000),
)
def test_a_file_is_read_whole_from_a_server_that_gives_little_at_a_time(size: int, start: int, count: int, seed: int) -> None:
    content = random.Random(seed).randbytes(size)

    class Stingy(random.Random):
        def randint(self, low: int, high: int) -> int:
            return high if self.random() < 0.5 else max(low, high // 2)

    server: Any = Server(content, Stingy(seed))
    assert Blocks(server).read(FILE, start, start + count) == content[start : start + count]


@pytest.mark.parametrize("extra", [b"", b"x" * 100_000])
def test_a_server_that_gives_nothing_or_more_than_was_asked_for_is_none(extra: bytes) -> None:
    class Liar(Server):
        def _read_response(self, number: int) -> tuple[int, Message]:
            reply = Message()
            reply.add_string(extra)
            reply.rewind()
            return CMD_DATA, reply

    server: Any = Liar(b"content", random.Random(1))
    with pytest.raises(paramiko.SFTPError, match="were asked for"):
        Blocks(server).read(FILE, 0, 1000)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.lists(st.integers(1, 60), max_size=30))
def test_what_a_channel_brings_is_handed_on_in_order_in_whatever_pieces_it_is_taken(pieces: list[bytes], takes: list[int]) -> None:
    waiting = list(pieces)
    channel: Any = SimpleNamespace(recv=lambda count: waiting.pop(0) if waiting else b"")
    buffered, told = Buffered(channel), b""
    for take in takes:
        part = buffered.recv(take)
        assert len(part) <= take
        told += part
    assert b"".join(pieces).startswith(told)
