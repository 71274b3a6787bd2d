"""Publishing the runner's report as one atomic last act, also on a full disk."""

from __future__ import annotations

import os
from pathlib import Path

from agent.errors import storage_error
from agent.protocol import RunnerReport, to_json

#: Room held for the report from the start: an error's report, "the disk is full" above all, must still find a place.
RESERVED_BYTES = 32 * 1024


class ReportFile:
    """A temporary file beside ``path`` that holds RESERVED_BYTES until :meth:`publish` writes and renames it.

    Raises :class:`DiskFull` or :class:`FolderUnwritable` when even that cannot be had.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        try:
            self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o644)
            os.write(self._descriptor, bytes(RESERVED_BYTES))
        except OSError as error:
            raise storage_error(error, path) from error

    def publish(self, report: RunnerReport) -> None:
        """Write the report, make it durable and give it its name."""
        data = to_json(report).encode()
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.ftruncate(self._descriptor, len(data))
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            os.replace(self._temporary, self._path)
        except OSError as error:
            raise storage_error(error, self._path) from error
