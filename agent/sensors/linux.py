"""What every Linux tells: temperatures, clocks, power where hwmon has it, load, memory and the process under test.

Formats: the kernel's documentation of thermal sysfs, cpufreq, hwmon and procfs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from agent.host import try_text
from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, HeldFile, Sensor, SensorContext, open_held

#: Colder than this is no temperature but a sign that the block is off (Tegra reports -256 °C).
_LOWEST_MILLIDEGREES = -100_000
_ScaledPath = Tuple[SensorInfo, Path, float]


class _ScaledFiles(Sensor):
    """Channels that are each one whole number in one file, times a factor."""

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._files: List[Tuple[Optional[HeldFile], float]] = []

    def find(self) -> List[_ScaledPath]:
        """Return channel, file and factor to the channel's unit."""
        raise NotImplementedError

    def probe(self) -> List[SensorInfo]:
        channels: List[SensorInfo] = []
        names: Dict[str, int] = {}
        for info, path, factor in self.find():
            # Two zones may share a type: the second is told apart by a number.
            names[info.name] = names.get(info.name, 0) + 1
            if names[info.name] > 1:
                stem, underscore, unit = info.name.rpartition("_")
                info = replace(info, name=f"{stem}{names[info.name]}{underscore}{unit}")
            held, error = None, None
            try:
                held = HeldFile(path)
                int(held.read())
            except (OSError, ValueError) as failure:
                error = f"first reading failed: {failure}"
            self._files.append((held, factor))
            channels.append(replace(info, error=error))
        return channels

    def read_into(self, values: List[float], offset: int) -> None:
        for index, (held, factor) in enumerate(self._files):
            try:
                values[offset + index] = int(held.read()) * factor if held is not None else MISSING
            except (OSError, ValueError):
                values[offset + index] = MISSING

    def close(self) -> None:
        for held, _ in self._files:
            if held is not None:
                held.close()
        self._files = []


class ThermalZones(_ScaledFiles):
    """``thermal.<type>_c`` for each thermal zone, ``cooling.<type>_level`` for each cooling device.

    Zone numbers move between boots, types do not.
    """

    def find(self) -> List[_ScaledPath]:
        found = []
        for zone in _numbered(self.context.host.sys / "class" / "thermal", "thermal_zone"):
            kind = _word(try_text(zone / "type") or zone.name)
            found.append((SensorInfo(f"thermal.{kind}_c", "°C", str(zone / "temp")), zone / "temp", 0.001))
        for device in _numbered(self.context.host.sys / "class" / "thermal", "cooling_device"):
            kind = _word(try_text(device / "type") or device.name)
            found.append((SensorInfo(f"cooling.{kind}_level", "level", str(device / "cur_state")), device / "cur_state", 1.0))
        return found

    def read_into(self, values: List[float], offset: int) -> None:
        super().read_into(values, offset)
        for index in range(offset, offset + len(self._files)):
            if values[index] < _LOWEST_MILLIDEGREES / 1000:
                values[index] = MISSING


class CpuClocks(_ScaledFiles):
    """``clock.policyN_khz``: what the hardware says where that may be read, else what was requested last; ``source`` tells which."""

    def find(self) -> List[_ScaledPath]:
        found = []
        for policy in _numbered(self.context.host.sys / "devices" / "system" / "cpu" / "cpufreq", "policy"):
            measured = policy / "cpuinfo_cur_freq"
            path = measured if try_text(measured) is not None else policy / "scaling_cur_freq"
            found.append((SensorInfo(f"clock.{policy.name}_khz", "kHz", str(path)), path, 1.0))
        return found


class HardwareMonitors(_ScaledFiles):
    """``hwmon.<chip>.<label>_c`` and ``_mw``. hwmon gives m°C and µW."""

    def find(self) -> List[_ScaledPath]:
        found = []
        for chip in _numbered(self.context.host.sys / "class" / "hwmon", "hwmon"):
            name = _word(try_text(chip / "name") or chip.name)
            for kind, unit_name, unit, factor in (("temp", "c", "°C", 0.001), ("power", "mw", "mW", 0.001)):
                for path in sorted(chip.glob(f"{kind}[0-9]*_input")) or sorted(chip.glob(f"{kind}[0-9]*_average")):
                    channel = path.name.rpartition("_")[0]
                    label = _word(try_text(chip / f"{channel}_label") or channel)
                    found.append((SensorInfo(f"hwmon.{name}.{label}_{unit_name}", unit, str(path)), path, factor))
        return found


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
            SensorInfo("cpu_busy_percent", "% of all CPUs", str(proc / "stat"), errors[0]),
            SensorInfo("runner_cpu_percent", "% of all CPUs", str(proc / "PID" / "stat"), errors[0] or errors[2]),
            SensorInfo("memory_available_mb", "MB", str(proc / "meminfo"), errors[1]),
            SensorInfo("runner_rss_mb", "MB", str(proc / "PID" / "stat"), errors[2]),
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


def _numbered(folder: Path, prefix: str) -> List[Path]:
    """Return the folder's entries of that prefix in the order of their numbers."""
    return sorted(folder.glob(f"{prefix}[0-9]*"), key=lambda path: (len(path.name), path.name))


def _word(label: str) -> str:
    """Return a label as one lower-case word, so that names are stable: boards change the case of zone types between releases."""
    return "".join(letter if letter.isalnum() else "_" for letter in label.lower())


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
