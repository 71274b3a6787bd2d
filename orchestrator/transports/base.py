"""How a device is reached. Nothing above this room knows whether a device is this computer, an SSH host or a phone.

A transport moves bytes and runs commands; it knows nothing of jobs. Every call is bounded in time and in size, because a device may
answer anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CommandResult:
    """How a command on the device ended; ``stdout`` and ``stderr`` are cut at the limit the caller gave."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Transport(ABC):
    """One way to reach one device. Paths are strings: they belong to the device and are never opened here.

    Every method raises :class:`agent.errors.DeviceUnreachable` when the device cannot be reached, and :class:`agent.errors.DiskFull` or
    :class:`agent.errors.FolderUnwritable` when it can but will not take what is sent.
    """

    @abstractmethod
    def run(self, argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        """Run a command to its end. ``argv`` is passed as a list; no shell sees it."""

    @abstractmethod
    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        """Copy a local file to the device; the target appears whole or not at all. Folders above it are made."""

    @abstractmethod
    def put_bytes(self, data: bytes, target: str) -> None:
        """Like :meth:`put`, from memory."""

    @abstractmethod
    def read_from(self, path: str, offset: int, max_bytes: int) -> bytes | None:
        """Read at most ``max_bytes`` of a file from ``offset``; empty at its end, None when there is no such file."""

    @abstractmethod
    def size_of(self, path: str) -> int | None:
        """The size of a file in bytes, None when there is no such file."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the transport holds open; it may be used again afterwards."""
