"""A sensor: a few telemetry channels read together. Tiny on purpose; a new kind of board is one new file."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from agent.host import HostFiles
from agent.protocol import SensorInfo

#: What a reading is when it failed.
MISSING = math.nan


@dataclass(frozen=True)
class SensorContext:
    """What sensors look at: the kernel's files and the process under test."""

    host: HostFiles
    runner_pid: int


class Sensor(ABC):
    """Some channels that are opened once, read often and closed.

    ``min_period_secs``: reading more often tells nothing new or costs too much.
    """

    min_period_secs = 0.0

    def __init__(self, context: SensorContext) -> None:
        self.context = context

    @abstractmethod
    def probe(self) -> List[SensorInfo]:
        """Find and open the channels, in the order in which they are read.

        A channel that cannot be read carries ``error``. Never raises.
        """

    @abstractmethod
    def read_into(self, values: List[float], offset: int) -> None:
        """Write one reading per probed channel to ``values[offset:]``, MISSING where it fails. Never raises OSError or ValueError."""

    @abstractmethod
    def close(self) -> None:
        """Close what probe opened."""


class HeldFile:
    """A kernel file kept open: reading it again costs one system call."""

    def __init__(self, path: Path, max_bytes: int = 64) -> None:
        self._max_bytes = max_bytes
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def read(self) -> bytes:
        """Return what the file holds now. Raises OSError."""
        return os.pread(self._descriptor, self._max_bytes, 0)

    def close(self) -> None:
        os.close(self._descriptor)


def open_held(path: Path, max_bytes: int = 64) -> Optional[HeldFile]:
    """Open a file to hold, None when it does not exist. Raises other OSErrors."""
    try:
        return HeldFile(path, max_bytes)
    except FileNotFoundError:
        return None
