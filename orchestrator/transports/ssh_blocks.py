"""The fast part of SFTP: blocks of a file, many on their way at once, each answer heard."""

from __future__ import annotations

from collections import deque
from typing import IO, Any

import paramiko
from paramiko.message import Message
from paramiko.sftp import CMD_DATA, CMD_READ, CMD_WRITE, int64

EXTENDED, EXTENDED_REPLY = 200, 201
#: What every server takes at once, less what lets it go as one SSH packet; and what is asked of those that tell that they take more.
_BLOCK_BYTES = 32 * 1024 - 512
_LARGE_READ_BYTES = 255 * 1024
_LARGE_WRITE_BYTES = 128 * 1024 - 512
#: How much is on its way at most: what a link of 100 ms needs for 40 MB/s.
_UNDERWAY_BYTES = 4 * 1024 * 1024
_BUFFER_BYTES = 2**31 - 1


class Buffered:
    """A channel that is read as much as there is: the library takes a few bytes, and moves all the rest in memory each time."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._data = memoryview(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def recv(self, count: int) -> bytes:
        if not self._data:
            self._data = memoryview(self._channel.recv(_BUFFER_BYTES))
        taken, self._data = self._data[:count], self._data[count:]
        return bytes(taken)


class Blocks:
    """Reads and writes open files of one SFTP session; raises what the library raises."""

    def __init__(self, sftp: paramiko.SFTPClient) -> None:
        self._sftp = sftp
        self._read_bytes, self._write_bytes = self._sizes()

    def write(self, file: paramiko.SFTPFile, data: IO[bytes]) -> None:
        """Write all of ``data``. The library would do so, too, but drops what the host says of the last hundred blocks: a full disk."""
        underway: deque[int] = deque()
        offset = 0
        while block := data.read(self._write_bytes):
            underway.append(self._sftp._async_request(type(None), CMD_WRITE, file.handle, int64(offset), block))
            offset += len(block)
            if len(underway) * self._write_bytes > _UNDERWAY_BYTES:
                self._sftp._read_response(underway.popleft())
        while underway:
            self._sftp._read_response(underway.popleft())

    def read(self, file: paramiko.SFTPFile, start: int, end: int) -> bytes:
        """Read from ``start`` to ``end``; what the file has lost meanwhile is missing at the end."""
        underway: deque[tuple[int, int, int]] = deque()
        found: list[bytes] = []
        ended = False
        while underway or (start < end and not ended):
            while start < end and not ended and len(underway) * self._read_bytes < _UNDERWAY_BYTES:
                size = min(self._read_bytes, end - start)
                underway.append((self._ask(file, start, size), start, size))
                start += size
            number, offset, size = underway.popleft()
            block = self._answer(number, size)
            # A server may give less than it was asked for; only nothing means the end.
            while block and len(block) < size and not ended:
                found.append(block)
                offset, size = offset + len(block), size - len(block)
                block = self._answer(self._ask(file, offset, size), size)
            if not ended:
                found.append(block)
            ended = ended or not block
        return b"".join(found)

    def _ask(self, file: paramiko.SFTPFile, offset: int, size: int) -> int:
        number: int = self._sftp._async_request(type(None), CMD_READ, file.handle, int64(offset), size)
        return number

    def _answer(self, number: int, size: int) -> bytes:
        try:
            kind, reply = self._sftp._read_response(number)
        except EOFError:  # of the file; the library calls that of the connection otherwise
            return b""
        block: bytes = reply.get_binary() if kind == CMD_DATA else b""
        if not 0 < len(block) <= size:
            raise paramiko.SFTPError(f"{len(block)} bytes where 1 to {size} were asked for")
        return block

    def _sizes(self) -> tuple[int, int]:
        """How many bytes this server gives and takes at once; OpenSSH tells since version 8.5."""
        try:
            kind, reply = self._sftp._request(EXTENDED, "limits@openssh.com")
        except OSError as error:
            if isinstance(error, TimeoutError) or self._sftp.get_channel().closed:
                raise
            return _BLOCK_BYTES, _BLOCK_BYTES
        if kind != EXTENDED_REPLY or not isinstance(reply, Message):
            return _BLOCK_BYTES, _BLOCK_BYTES
        _, read_bytes, write_bytes = (int(reply.get_int64()) for _ in range(3))
        return max(_BLOCK_BYTES, min(read_bytes, _LARGE_READ_BYTES)), max(_BLOCK_BYTES, min(write_bytes, _LARGE_WRITE_BYTES))
