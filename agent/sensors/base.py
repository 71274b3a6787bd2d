"""A sensor: a few telemetry channels read together. Tiny on purpose; a new kind of board is one new file."""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, List, Optional

from agent.host import HostFiles
from agent.programs import Programs
from agent.protocol import SensorInfo

#: What a reading is when it failed.
MISSING = math.nan


def process_cpu_secs(pid: int) -> float:
    """Return the CPU seconds of all threads of a process, exact to the nanosecond and also under a quota. Raises OSError when it is gone.

    Source: the Linux kernel's encoding of process CPU clocks (include/linux/posix-timers.h), as clock_getcpuclockid(3) gives it.
    """
    return time.clock_gettime((~pid << 3) | 2)


@dataclass(frozen=True)
class SensorContext:
    """What sensors look at: the kernel's files, the programs of the machine and the process under test."""

    host: HostFiles
    runner_pid: int
    programs: Programs = field(default_factory=Programs)
    cpu_secs: Callable[[int], float] = process_cpu_secs


class Sensor(ABC):
    """Some channels that are opened once, read often and closed.

    ``min_period_secs``: reading more often tells nothing new or costs too much. It is final when ``probe`` has returned.
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


def numbered(folder: Path, prefix: str) -> List[Path]:
    """Return the folder's entries of that prefix in the order of their numbers."""
    return sorted(folder.glob(f"{prefix}[0-9]*"), key=lambda path: (len(path.name), path.name))


def word(label: str) -> str:
    """Return a label as one lower-case word, so that names are stable: boards change the case of zone types between releases."""
    return "".join(letter if letter.isalnum() else "_" for letter in label.lower())
