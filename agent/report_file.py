"""Publishing the runner's report, whole or not at all, also on a full disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from agent.errors import storage_error
from agent.protocol import RunnerReport, to_json

#: Room held for the report from the start: an error's report, "the disk is full" above all, must still find a place.
RESERVED_BYTES = 32 * 1024


class ReportFile:
    """A temporary file beside ``path`` that holds RESERVED_BYTES until the first :meth:`publish` writes and renames it.

    Raises :class:`DiskFull` or :class:`FolderUnwritable` when even that cannot be had.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._descriptor: Optional[int] = None
        try:
            self._descriptor = self._open()
            os.write(self._descriptor, bytes(RESERVED_BYTES))
        except OSError as error:
            raise storage_error(error, path) from error

    def publish(self, report: RunnerReport) -> None:
        """Write the report, make it durable and give it its name; one that was published before stands until then.

        Raises :class:`DiskFull` or :class:`FolderUnwritable`.
        """
        data = to_json(report).encode()
        try:
            descriptor = self._open() if self._descriptor is None else self._descriptor
            self._descriptor = None
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.ftruncate(descriptor, len(data))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(self._temporary, self._path)
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _open(self) -> int:
        return os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o644)
