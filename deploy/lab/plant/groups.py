"""The control group of a device: how much CPU it had, and how much it may have. Both versions of the kernel's interface.

Formats: the kernel's documentation of cgroup v1 (cpuacct, CFS bandwidth) and cgroup v2 (cpu).
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

_REMOVE_SECS = 10.0
#: By version of the interface: the file that weighs a group against others, and the most that it takes.
_PRECEDENCE = {1: ("cpu.shares", 262_144), 2: ("cpu.weight", 10_000)}


class NoControlGroups(Exception):
    """This machine lets nobody limit the CPU of a group."""


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy: its folder, and how to mount the same again (file system type, options)."""

    folder: Path
    kind: str
    options: str

    @property
    def place(self) -> str:
        """Where a device's own group is mounted, below its ``/sys``."""
        return "fs/cgroup" if self.kind == "cgroup2" else f"fs/cgroup/{self.folder.name}"


class ControlGroup:
    """A group of that name right below the root of the hierarchies. Nothing is made or changed before :meth:`make`."""

    def __init__(self, name: str, mounts: Path = Path("/proc/self/mounts")) -> None:
        self.name = name
        self.hierarchies = _hierarchies(mounts.read_text())
        self.version = 2 if self.hierarchies[0].kind == "cgroup2" else 1
        self._quota = self._folder("cpu")
        self._usage = self._folder("cpuacct")

    def make(self) -> None:
        """Make the group, which goes before everybody else on its core: a board has its cores to itself. Raises OSError."""
        for hierarchy in self.hierarchies:
            if self.version == 2:
                (hierarchy.folder / "cgroup.subtree_control").write_text("+cpu")
            (hierarchy.folder / self.name).mkdir(exist_ok=True)
        name, most = _PRECEDENCE[self.version]
        (self._quota / name).write_text(str(most))

    def entrances(self) -> list[Path]:
        """Files into which a process writes its number to be of the group, with all its children to come."""
        return [hierarchy.folder / self.name / "cgroup.procs" for hierarchy in self.hierarchies]

    def remove(self) -> None:
        """Remove the group once its last process is gone. Raises OSError when that takes too long."""
        deadline = time.monotonic() + _REMOVE_SECS
        for hierarchy in self.hierarchies:
            while True:
                try:
                    (hierarchy.folder / self.name).rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
                    continue
                break

    def usage_ns(self) -> int:
        """CPU time that the group has had, in nanoseconds."""
        if self.version == 1:
            return int((self._usage / "cpuacct.usage").read_bytes())
        words = (self._usage / "cpu.stat").read_text().split()
        return 1000 * int(words[words.index("usage_usec") + 1])

    def limit(self, cores: float | None, period_us: int) -> None:
        """Let the group have so many cores' time in each period, None for all there is. Raises OSError."""
        quota = None if cores is None else round(cores * period_us)
        if self.version == 2:
            (self._quota / "cpu.max").write_text(f"{'max' if quota is None else quota} {period_us}")
            return
        if quota is None:
            (self._quota / "cpu.cfs_quota_us").write_text("-1")
            (self._quota / "cpu.cfs_period_us").write_text(str(period_us))
        else:
            (self._quota / "cpu.cfs_quota_us").write_text(str(quota))

    def unlimit(self) -> None:
        """Take the limit away, also from a group that is gone."""
        with contextlib.suppress(OSError):
            self.limit(None, 100_000)

    def _folder(self, controller: str) -> Path:
        found = next((item for item in self.hierarchies if item.kind == "cgroup2" or controller in item.options.split(",")), None)
        if found is None:
            raise NoControlGroups(f"the control groups of this machine have no controller {controller}")
        return found.folder / self.name


def _hierarchies(mounts: str) -> list[Hierarchy]:
    """Those that count and limit CPU time: of version 1 one or two, of version 2 one."""
    lines = [line.split() for line in mounts.splitlines()]
    first = []
    for _, folder, kind, options, *_ in lines:
        controllers = [word for word in options.split(",") if word in ("cpu", "cpuacct")]
        if kind == "cgroup" and controllers:
            first.append(Hierarchy(Path(folder), kind, ",".join(controllers)))
    if first:
        return first
    for _, folder, kind, *_ in lines:
        place = Path(folder)
        with contextlib.suppress(OSError):
            if kind == "cgroup2" and "cpu" in (place / "cgroup.controllers").read_text().split() and os.access(place, os.W_OK):
                return [Hierarchy(place, kind, "")]
    raise NoControlGroups("no control group here can limit CPU time")
