"""What the machine is busy with: load, memory, stalls, the process under test, and the CPU time its control group was granted.

Formats: the kernel's documentation of procfs, PSI and control groups (versions 1 and 2).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from agent.host import HostFiles, exists, try_text
from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, HeldFile, Sensor, SensorContext, open_held


class HostLoad(Sensor):
    """``cpu_busy_percent`` and ``runner_cpu_percent``, both as shares of all CPUs together, so that their difference is everybody
    else; ``memory_available_mb`` and ``runner_rss_mb`` (1 MB = 10^6 bytes). Shares are over the time since the reading before, the
    first since probe.
    """

    # /proc/stat is written anew for every reading, for all CPUs and interrupts, and counts in hundredths of a second.
    min_period_secs = 0.5

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._stat: Optional[HeldFile] = None
        self._meminfo: Optional[HeldFile] = None
        self._process: Optional[HeldFile] = None
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._before: Optional[Tuple[int, int, int]] = None

    def probe(self) -> List[SensorInfo]:
        proc = self.context.host.proc
        errors: List[Optional[str]] = []
        held: List[Optional[HeldFile]] = []
        for path, max_bytes in ((proc / "stat", 256), (proc / "meminfo", 256), (proc / str(self.context.runner_pid) / "stat", 1024)):
            try:
                file = open_held(path, max_bytes)
                held.append(file)
                errors.append(None if file is not None else f"{path} does not exist")
            except OSError as error:
                held.append(None)
                errors.append(f"{path}: {error.strerror}")
        self._stat, self._meminfo, self._process = held
        self.read_into([MISSING] * 4, 0)
        return [
            SensorInfo("cpu_busy_percent", "% of all CPUs", str(proc / "stat"), errors[0], quantity="share"),
            SensorInfo("runner_cpu_percent", "% of all CPUs", str(proc / "PID" / "stat"), errors[0] or errors[2], quantity="share"),
            SensorInfo("memory_available_mb", "MB", str(proc / "meminfo"), errors[1], quantity="memory"),
            SensorInfo("runner_rss_mb", "MB", str(proc / "PID" / "stat"), errors[2], quantity="memory"),
        ]

    def read_into(self, values: List[float], offset: int) -> None:
        values[offset : offset + 4] = [MISSING] * 4
        runner_ticks: Optional[int] = None
        try:
            if self._process is not None:
                runner_ticks, rss_pages = _process_stat(self._process.read())
                values[offset + 3] = rss_pages * self._page_bytes / 1e6
        except (OSError, ValueError, IndexError):
            pass
        try:
            if self._stat is not None:
                busy, total = _cpu_ticks(self._stat.read())
                if self._before is not None and total > self._before[1]:
                    elapsed = total - self._before[1]
                    values[offset] = 100 * (busy - self._before[0]) / elapsed
                    if runner_ticks is not None:
                        values[offset + 1] = 100 * (runner_ticks - self._before[2]) / elapsed
                self._before = (busy, total, runner_ticks or 0)
        except (OSError, ValueError, IndexError):
            pass
        try:
            if self._meminfo is not None:
                values[offset + 2] = _available_bytes(self._meminfo.read()) / 1e6
        except (OSError, ValueError, IndexError):
            pass

    def close(self) -> None:
        for file in (self._stat, self._meminfo, self._process):
            if file is not None:
                file.close()
        self._stat = self._meminfo = self._process = None


class RunnerTime(Sensor):
    """``runner_cpu_secs``: CPU seconds of all threads of the process under test since it started; a gap once it has ended."""

    def probe(self) -> List[SensorInfo]:
        error = None
        try:
            self.context.cpu_secs(self.context.runner_pid)
        except OSError as failure:
            error = f"the process' CPU clock cannot be read: {failure.strerror}"
        return [SensorInfo("runner_cpu_secs", "s", "process CPU clock", error, quantity="counter")]

    def read_into(self, values: List[float], offset: int) -> None:
        try:
            values[offset] = self.context.cpu_secs(self.context.runner_pid)
        except OSError:
            values[offset] = MISSING

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _Counter:
    """A counter that stands behind a word in a held file; an empty word: the file is the number."""

    held: HeldFile
    word: bytes
    factor: float


class _Counters(Sensor):
    """Counters that only grow; analysis takes differences."""

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._counters: List[_Counter] = []
        self._held: List[HeldFile] = []

    def find(self) -> List[Tuple[SensorInfo, Path, bytes, float]]:
        """Return channel, file, word before the number and factor to seconds, of what can be read now."""
        raise NotImplementedError

    def probe(self) -> List[SensorInfo]:
        opened: Dict[Path, HeldFile] = {}
        told = []
        for info, path, before, factor in self.find():
            try:
                if path not in opened:
                    opened[path] = HeldFile(path, 1024)
                counter = _Counter(opened[path], before, factor)
                _number_after(counter.held.read(), before)
            except (OSError, ValueError, IndexError):
                continue
            self._counters.append(counter)
            told.append(info)
        self._held = list(opened.values())
        return told

    def read_into(self, values: List[float], offset: int) -> None:
        texts: Dict[int, bytes] = {}
        for index, counter in enumerate(self._counters, offset):
            try:
                # Counters of one file are of one moment.
                text = texts.get(id(counter.held))
                if text is None:
                    text = texts[id(counter.held)] = counter.held.read()
                values[index] = _number_after(text, counter.word) * counter.factor
            except (OSError, ValueError, IndexError, OverflowError):
                values[index] = MISSING

    def close(self) -> None:
        for held in self._held:
            held.close()
        self._held, self._counters = [], []


class Pressure(_Counters):
    """``pressure.{cpu,memory,io}_some_secs``: time in which at least one task stood still for want of it."""

    # The kernel adds up all CPUs for every reading.
    min_period_secs = 0.5

    def find(self) -> List[Tuple[SensorInfo, Path, bytes, float]]:
        found = []
        for kind in ("cpu", "memory", "io"):
            path = self.context.host.proc / "pressure" / kind
            # The line ``some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`` is the first.
            found.append((SensorInfo(f"pressure.{kind}_some_secs", "s", str(path), quantity="counter"), path, b"total=", 1e-6))
        return found


class ControlGroup(_Counters):
    """``cgroup.cpu_secs``, CPU time granted to the agent's own control group, and ``cgroup.throttled_secs``, how long it stood still
    because its quota was used up. Where the group's own path is not visible (a container), the top of what is visible is the group. An
    agent in no group of its own has neither channel: the counters would be the whole machine's.
    """

    def find(self) -> List[Tuple[SensorInfo, Path, bytes, float]]:
        cpu, accounting, unified = own_groups(self.context.host)
        candidates = [
            ("cgroup.cpu_secs", accounting, "cpuacct.usage", b"", 1e-9),
            ("cgroup.throttled_secs", cpu, "cpu.stat", b"throttled_time ", 1e-9),
            ("cgroup.cpu_secs", unified, "cpu.stat", b"usage_usec ", 1e-6),
            ("cgroup.throttled_secs", unified, "cpu.stat", b"throttled_usec ", 1e-6),
        ]
        found: Dict[str, Tuple[SensorInfo, Path, bytes, float]] = {}
        for name, folder, file, before, factor in candidates:
            text = try_text(folder / file) if folder is not None and name not in found else None
            if folder is None or text is None or before not in text.encode() or _is_whole_machine(folder):
                continue
            found[name] = (SensorInfo(name, "s", str(folder / file), quantity="counter"), folder / file, before, factor)
        return list(found.values())


def own_groups(host: HostFiles) -> Tuple[Optional[Path], Optional[Path], Optional[Path]]:
    """Return the folders of this process' control groups: version 1 cpu, version 1 cpuacct, and version 2; None where there is none."""
    top = host.sys / "fs" / "cgroup"
    lines = [line.split(":", 2) for line in (try_text(host.proc / "self" / "cgroup") or "").splitlines()]
    paths = {name: path for _, names, path in (line for line in lines if len(line) == 3) for name in names.split(",")}

    def folder(tops: List[Path], path: Optional[str], file: str) -> Optional[Path]:
        own = [mount / path.strip("/") for mount in tops] if path is not None else []
        return next((place for place in (*own, *tops) if exists(place / file)), None)

    def mounts(name: str) -> List[Path]:
        # Controllers that share a hierarchy are mounted under both names joined, mostly with links from each.
        return [top / name, *(place for place in sorted(top.glob(f"*{name}*")) if name in place.name.split(","))]

    return (
        folder(mounts("cpu"), paths.get("cpu"), "cpu.stat"),
        folder(mounts("cpuacct"), paths.get("cpuacct"), "cpuacct.usage"),
        folder([top, top / "unified"], paths.get(""), "cpu.stat"),
    )


def _is_whole_machine(folder: Path) -> bool:
    """Say whether this is the top of the kernel's hierarchy, which is not the top of what a container sees: version 1 has a
    release_agent there alone, version 2 a cgroup.type everywhere else.
    """
    return exists(folder / "release_agent") or (exists(folder / "cgroup.controllers") and not exists(folder / "cgroup.type"))


def _number_after(text: bytes, before: bytes) -> int:
    return int(text.partition(before)[2].split()[0]) if before else int(text)


def _cpu_ticks(stat: bytes) -> Tuple[int, int]:
    """Return busy and all ticks from the first line of /proc/stat. Time stolen by the hypervisor is busy; waiting for disks is idle."""
    fields = [int(field) for field in stat.split(b"\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def _process_stat(stat: bytes) -> Tuple[int, int]:
    """Return user + system ticks and resident pages from /proc/PID/stat; the command's name may hold anything but ends at the last
    ``)``.
    """
    fields = stat.rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12]), int(fields[21])


def _available_bytes(meminfo: bytes) -> int:
    return int(meminfo.partition(b"MemAvailable:")[2].split()[0]) * 1024
