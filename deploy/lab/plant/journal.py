"""The plant's own record: what was true at each moment, whatever the device's sensors said. Bounded: the file before the last is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

#: Monotonic nanoseconds; °C; W; CPU nanoseconds of the group since it was made; cooling state and clock ratio; the fan's rpm; faults
#: joined by ``+``.
COLUMNS = ("time_ns", "die_c", "board_c", "ambient_c", "watts", "usage_ns", "level", "ratio", "rpm", "faults")
MAX_BYTES = 16 * 1024 * 1024


class Journal:
    """A CSV file that is begun anew when the plant starts."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = self._open()

    def note(self, *values: object) -> None:
        """Write one row, in the order of COLUMNS."""
        self._file.write(",".join(_cell(value) for value in values) + "\n")
        self._file.flush()
        if self._file.tell() > self._max_bytes:
            self._file.close()
            os.replace(self._path, earlier(self._path))
            self._file = self._open()

    def close(self) -> None:
        self._file.close()

    def _open(self) -> IO[str]:
        file = self._path.open("w", encoding="utf-8")
        file.write(",".join(COLUMNS) + "\n")
        return file


def earlier(path: Path) -> Path:
    """Where the rows before those in ``path`` are, when there were too many for one file."""
    return path.with_name(f"{path.name}.1")


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
