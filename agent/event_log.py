"""The ``events`` stream of a run: rare facts, each written at once."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy

from agent import protocol
from agent.spool import SpoolWriter


class EventLog:
    """Writes events at the time at which they are told. Raises DiskFull or FolderUnwritable, from the constructor too."""

    def __init__(self, folder: Path, clock_ns: Callable[[], int]) -> None:
        self._spool = SpoolWriter(folder / f"{protocol.EVENTS}.spool", protocol.EVENTS, protocol.EVENT_COLUMNS)
        self._clock_ns = clock_ns

    def tell(self, name: str, value: float) -> None:
        """Write one event of EVENT_CODES."""
        self._spool.write(
            {
                "time_ns": numpy.array([self._clock_ns()], dtype="<u8"),
                "code": numpy.array([protocol.EVENT_CODES.index(name)], dtype="<u2"),
                "value": numpy.array([value], dtype="<f8"),
            }
        )

    def close(self) -> None:
        self._spool.close()
