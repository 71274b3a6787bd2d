"""Telemetry of one run: its spool, the CPU it is read on, and what reading it cost."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Callable, List, Optional

from agent import cpu_share, protocol
from agent.cpu_share import CpuShare
from agent.host import HostFiles
from agent.sensors import SENSORS, SensorContext
from agent.spool import SpoolWriter
from agent.telemetry import Sampler, Teller


class Sampling:
    """Opened before the runner starts, which then runs on ``runner_cpus`` (empty: wherever it likes); samples from :meth:`begin` on.

    ``cpu_secs`` tells the CPU time of this process, which is held on a CPU of its own from here on where one is free.
    """

    def __init__(self, folder: Path, request: protocol.RunRequest, host: HostFiles, cpu_secs: Callable[[], float]) -> None:
        self.sampler: Optional[Sampler] = None
        self._host = host
        self._hertz = request.telemetry_hz
        self._cpu_secs = cpu_secs
        self._began = (0.0, 0)
        self._spool = SpoolWriter(folder / f"{protocol.TELEMETRY}.spool", protocol.TELEMETRY, protocol.TELEMETRY_COLUMNS)
        co_load = request.soak.co_load if request.soak is not None else protocol.CoLoad()
        threads = request.settings.num_threads + co_load.cpu_workers + co_load.memory_workers
        share = cpu_share.divide(os.sched_getaffinity(0), threads, host)
        self._share = share if not share.is_shared and cpu_share.hold(share.supervisor) else CpuShare()

    @property
    def runner_cpus(self) -> List[int]:
        return self._share.runner

    def begin(self, runner_pid: int, now_ns: int, tell: Teller) -> Sampler:
        """Find and open the channels; the first readings are due at once."""
        context = SensorContext(self._host, runner_pid)
        self.sampler = Sampler([kind(context) for kind in SENSORS.values()], self._hertz, self._spool, now_ns, tell)
        self._began = self._cpu_secs(), now_ns
        return self.sampler

    def channels(self) -> List[protocol.SensorInfo]:
        """Return the channels as they are known now."""
        return self.sampler.channels() if self.sampler is not None else []

    def cost(self, now_ns: int) -> Optional[protocol.SamplingCost]:
        """Return what sampling has cost so far, the supervisor's other work since then included; None before :meth:`begin`.

        Processes that a sensor starts are not counted.
        """
        if self.sampler is None:
            return None
        cpu_secs, since_ns = self._began
        return protocol.SamplingCost(
            cpu_secs=self._cpu_secs() - cpu_secs,
            wall_secs=(now_ns - since_ns) / 1e9,
            hertz=self._hertz,
            cpus=self._share.supervisor,
            shares_core=self._share.is_shared,
            rounds=self.sampler.rounds,
            late_rounds=self.sampler.late_rounds,
            longest_late_secs=self.sampler.longest_late_ns / 1e9,
        )

    def close(self, now_ns: int) -> None:
        """Write what is left and close everything, each even when another fails. Raises DiskFull or FolderUnwritable."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._spool.close)
            if self.sampler is not None:
                stack.callback(self.sampler.close)
                stack.callback(self.sampler.flush, now_ns)
