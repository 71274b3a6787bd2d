"""Runs one command on a host: the only place where arguments become a line for a shell, and where its output is bounded."""

from __future__ import annotations

import selectors
import shlex
import time
from collections.abc import Sequence

import paramiko

from agent.errors import DeviceUnreachable, RequestInvalid
from orchestrator.transports.base import CommandResult
from orchestrator.transports.ssh_channel import REPLY_TIMEOUT_SECS, kill_command, start_channel
from orchestrator.transports.ssh_errors import link_lost

_CHUNK_BYTES = 64 * 1024
#: The exit status that the library gives for a command which a signal ended, or whose channel closed without a word.
_NO_STATUS = -1


def quote_command(argv: Sequence[str]) -> str:
    """Write ``argv`` as one line that any POSIX shell takes apart into exactly these words.

    Raises :class:`RequestInvalid` for no words and for a NUL byte, which no argument can hold.
    """
    if not argv or any("\0" in word for word in argv):
        raise RequestInvalid("a command needs at least one word, and none may hold a NUL byte")
    return " ".join(shlex.quote(word) for word in argv)


def run_command(transport: paramiko.Transport, argv: Sequence[str], timeout_secs: float, max_output_bytes: int) -> CommandResult:
    """Run ``argv`` to its end. One deadline is over everything, and both outputs are kept up to ``max_output_bytes`` only.

    A command whose standard output goes beyond the limit is cut off there and ended. Raises :class:`DeviceUnreachable` when the deadline
    passes, :class:`LinkLost` when the connection breaks.
    """
    deadline = time.monotonic() + timeout_secs
    line = quote_command(argv)
    try:
        channel = start_channel(transport, lambda opened: opened.exec_command(line), min(timeout_secs, REPLY_TIMEOUT_SECS))
        try:
            channel.settimeout(max(deadline - time.monotonic(), 0.01))
            channel.shutdown_write()
            return _Output(channel, max_output_bytes).read_to_end(argv[0], deadline, timeout_secs)
        finally:
            if not channel.exit_status_ready():
                kill_command(channel)
            channel.close()
    except (paramiko.SSHException, EOFError, OSError) as error:
        if time.monotonic() >= deadline:
            raise _too_late(argv[0], timeout_secs) from error
        raise link_lost(f"while {argv[0]} ran", error) from error


def _too_late(command: str, timeout_secs: float) -> DeviceUnreachable:
    return DeviceUnreachable(
        f"{command} did not answer within {timeout_secs:g} s", "see whether the device is overloaded or its storage hangs"
    )


class _Output:
    def __init__(self, channel: paramiko.Channel, limit_bytes: int) -> None:
        self._channel = channel
        self._limit_bytes = limit_bytes
        self._stdout = bytearray()
        self._stderr = bytearray()

    def read_to_end(self, command: str, deadline: float, timeout_secs: float) -> CommandResult:
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            while True:
                closed = self._channel.closed or self._channel.eof_received
                moved = self._read_what_is_there()
                if len(self._stdout) >= self._limit_bytes:
                    return self._result(_NO_STATUS)
                if self._channel.exit_status_ready() and closed and not moved:
                    status = self._channel.recv_exit_status()
                    if status == _NO_STATUS and not self._channel.get_transport().is_active():
                        raise link_lost(f"while {command} ran")
                    return self._result(status)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise _too_late(command, timeout_secs)
                if not moved:
                    # The exit status comes without anything to read; a short wait sees it.
                    selector.select(min(left, 0.02 if closed else 1.0))

    def _read_what_is_there(self) -> bool:
        moved = False
        while self._channel.recv_ready() and len(self._stdout) < self._limit_bytes:
            self._stdout += self._channel.recv(_CHUNK_BYTES)
            moved = True
        while self._channel.recv_stderr_ready():
            data = self._channel.recv_stderr(_CHUNK_BYTES)
            # What goes beyond the limit is read and dropped: a command must not stand still because nobody reads its complaints.
            self._stderr += data[: max(0, self._limit_bytes - len(self._stderr))]
            moved = True
            if len(data) == _CHUNK_BYTES:
                break
        return moved

    def _result(self, status: int) -> CommandResult:
        return CommandResult(status, bytes(self._stdout[: self._limit_bytes]), bytes(self._stderr))
