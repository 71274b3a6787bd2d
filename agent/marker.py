"""A square wave of load, on which the trace of an external power meter can be aligned: three times a second of work, a second of rest.

The work is done by processes of its own, one for each CPU, which end by themselves: the supervisor goes on sampling beside them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Callable, Iterable, List, Optional

from agent.runner_process import die_with_parent
from agent.vigil import Vigil

WAVES = 3
LOAD_NS = 1_000_000_000
REST_NS = 1_000_000_000


def make(vigil: Vigil, cpus: Iterable[int], clock_ns: Callable[[], int], tell: Callable[[str, float], None]) -> Optional[str]:
    """Make the wave on ``cpus`` and tell each edge as ``marker``, 1 for load and 0 for rest.

    Returns None, or why the vigil had to end before. Raises OSError where no process can be started.
    """
    for _ in range(WAVES):
        reason = _wave(vigil, sorted(cpus), clock_ns, tell)
        if reason is not None:
            return reason
    return None


def _wave(vigil: Vigil, cpus: Iterable[int], clock_ns: Callable[[], int], tell: Callable[[str, float], None]) -> Optional[str]:
    work = _Work()
    tell("marker", 1.0)
    try:
        work.start(cpus, time.monotonic_ns() + LOAD_NS)
        reason = vigil.keep(lambda now_ns: work.is_over())
    finally:
        work.end()
    tell("marker", 0.0)
    rested_ns = clock_ns() + REST_NS
    return reason or vigil.keep(lambda now_ns: now_ns >= rested_ns, until=lambda: rested_ns)


class _Work:
    """The processes of one second of work."""

    def __init__(self) -> None:
        self._pids: List[int] = []

    def start(self, cpus: Iterable[int], end_ns: int) -> None:
        for cpu in cpus:
            pid = os.fork()
            if not pid:
                try:
                    _count_until(end_ns, cpu)
                finally:
                    os._exit(0)
            self._pids.append(pid)

    def is_over(self) -> bool:
        self._pids = [pid for pid in self._pids if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        return not self._pids

    def end(self) -> None:
        """Make sure that none of them lives."""
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._pids = []


def _count_until(end_ns: int, cpu: int) -> None:
    # In this order: until the handlers are gone, a signal to this process would be taken for one to the supervisor.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent()
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {cpu})
    while time.monotonic_ns() < end_ns:
        pass
