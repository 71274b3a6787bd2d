"""Watches the memory of a home's processes from outside, by the kernel's own figures, while a command runs."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from agent import protocol

_LOOK_SECS = 1.0
#: Looking at every process of the machine costs more: it is done less often.
_SCAN_EVERY = 5
#: What is compared: the first and the last minute of the steady part, or a fifth of a shorter one.
_EDGE_SECS = 60.0

Reading = tuple[float, int]


@dataclass(frozen=True)
class Growth:
    """Resident memory over the steady part: medians of its first and last minute, the highest, the slope of a straight line, and the
    median of each minute.
    """

    secs: float
    first_bytes: int
    last_bytes: int
    highest_bytes: int
    slope_bytes_per_min: float
    minutes_bytes: list[int]

    @property
    def grown_bytes(self) -> int:
        return self.last_bytes - self.first_bytes


def growth(readings: list[Reading]) -> Growth | None:
    """Return how memory grew; None for fewer than ten readings."""
    if len(readings) < 10:
        return None
    times, sizes = np.array([item[0] for item in readings]), np.array([item[1] for item in readings])
    secs = float(times[-1] - times[0])
    edge_secs = min(_EDGE_SECS, secs / 5)
    first, last = sizes[times <= times[0] + edge_secs], sizes[times >= times[-1] - edge_secs]
    slope = float(np.polyfit(times - times[0], sizes.astype(float), 1)[0])
    minute = ((times - times[0]) // 60).astype(int)
    minutes = [int(np.median(sizes[minute == number])) for number in np.unique(minute)]
    return Growth(secs, int(median(first.tolist())), int(median(last.tolist())), int(sizes.max()), slope * 60, minutes)


class HomeMemory:
    """What the processes of one home take: the agent's two while a run is in its steady part, the others at their highest."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._readings: dict[str, list[Reading]] = {"runner": [], "supervisor": []}
        self._peaks: dict[int, tuple[str, int]] = {}
        self._agent_ended = 0.0
        self.after_agent_secs = 0.0

    @property
    def orchestrator_peaks(self) -> dict[str, int]:
        """The highest resident memory (VmHWM) of the largest process of each kind, largest first."""
        found: dict[str, int] = {}
        for name, size in self._peaks.values():
            found[name] = max(size, found.get(name, 0))
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def of(self, name: str) -> list[Reading]:
        """The readings of ``runner`` or ``supervisor``: monotonic seconds and bytes."""
        return self._readings[name]

    def watch(self, command: subprocess.Popen[bytes]) -> None:
        """Look every second until the command ends."""
        looks = 0
        while command.poll() is None:
            self._look_at_agent()
            # Often once the agent is done: then the trace is read and measured.
            if looks % _SCAN_EVERY == 0 or self._agent_ended:
                self._look_at_orchestrator()
            looks += 1
            time.sleep(_LOOK_SECS if not self._agent_ended else 0.1)
        self.after_agent_secs = time.monotonic() - self._agent_ended if self._agent_ended else 0.0

    def _look_at_agent(self) -> None:
        for folder in self._home.glob(f"devices/*/{protocol.JOBS_FOLDER}/*"):
            if (folder / protocol.OUTCOME_FILE).exists():
                self._agent_ended = self._agent_ended or time.monotonic()
                continue
            with suppress(OSError, ValueError, KeyError):
                phase = protocol.PROGRESS.unpack((folder / protocol.PROGRESS_FILE).read_bytes())[0]
                if protocol.PHASES[phase] != "steady":
                    continue
                pids = {
                    "runner": int(json.loads((folder / "runner_pid.json").read_text())["pid"]),
                    "supervisor": int((folder / "supervisor.lock").read_text()),
                }
                for name, pid in pids.items():
                    self._readings[name].append((time.monotonic(), _status(pid)["VmRSS"]))

    def _look_at_orchestrator(self) -> None:
        mark = f"EDGEMATRIX_HOME={self._home}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, KeyError):
                if mark not in (entry / "environ").read_bytes():
                    continue
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                name = _kind(words)
                if name:
                    self._peaks[int(entry.name)] = (name, _status(int(entry.name))["VmHWM"])


def _kind(words: list[str]) -> str:
    """Name a process of the orchestrator by its command; nothing for those of the agent."""
    line = " ".join(words)
    if ".pyz" in line or not line.strip():
        return ""
    for name in ("redis", "scheduler", "worker"):
        if name in line:
            return name
    return "command"


def _status(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
