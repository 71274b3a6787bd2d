"""Which CPU the supervisor samples on, so that the runner never shares it where one is free.

Holding the supervisor on a CPU is not enough: the kernel would go on putting the runner there, too, and wake the supervisor in the middle
of a query. So the runner is started on the others, but only where that leaves it at least one CPU for each of its threads and co-load
workers; else both keep what they have, and the run says that they share. The supervisor takes the slowest CPU, and of equal ones the last:
where CPUs differ, the fast ones are what is being measured.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Iterable, Iterator, List, Tuple

from agent.host import HostFiles, try_int


@dataclass(frozen=True)
class CpuShare:
    """The CPUs of each, by number; both empty when nobody is held anywhere, and then ``is_shared``."""

    supervisor: List[int] = field(default_factory=list)
    runner: List[int] = field(default_factory=list)

    @property
    def is_shared(self) -> bool:
        return not self.supervisor


def divide(usable: Iterable[int], busy_threads: int, host: HostFiles) -> CpuShare:
    """Return who runs where when ``busy_threads`` of the runner compute at once: apart when a CPU is left over, else nobody is held."""
    cpus = sorted(usable)
    if busy_threads >= len(cpus):
        return CpuShare()
    own = min(cpus, key=lambda cpu: (speed(host, cpu), -cpu))
    return CpuShare([own], [cpu for cpu in cpus if cpu != own])


def hold(cpus: Iterable[int]) -> bool:
    """Hold this process on ``cpus``; False where the system does not allow it."""
    with contextlib.suppress(OSError, ValueError):
        os.sched_setaffinity(0, cpus)
        return True
    return False


@contextlib.contextmanager
def held(cpus: Iterable[int]) -> Iterator[bool]:
    """Hold this process on ``cpus`` for the body, whose children inherit that; yields whether it could. No CPUs: as it is."""
    wanted = set(cpus)
    before = os.sched_getaffinity(0)
    is_held = hold(wanted) if wanted else False
    try:
        yield is_held
    finally:
        if is_held:
            hold(before)


def speed(host: HostFiles, cpu: int) -> Tuple[int, int]:
    """Return the kernel's own measure of a CPU's capacity where it has one, and its highest clock (kHz); 0 for what is unknown."""
    folder = host.sys / "devices" / "system" / "cpu" / f"cpu{cpu}"
    return try_int(folder / "cpu_capacity") or 0, try_int(folder / "cpufreq" / "cpuinfo_max_freq") or 0
