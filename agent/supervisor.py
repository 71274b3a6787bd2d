"""The supervisor: one process that stays with a run from its start to its outcome and needs no connection to anybody.

It verifies the content, starts the runner, samples telemetry beside it and, after a soak, until the device has cooled down, and writes
``outcome.json`` as its last act. It holds ``supervisor.lock`` for life: whoever finds the lock free knows that no supervisor lives,
whatever became of its process number.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import agent
from agent import conditions, cpu_share, custody, fence, host, layout, locks, marker, outcome_file, protocol, soak_watch, verdict
from agent.content import mark_used
from agent.environment import environment_facts
from agent.errors import DigestMismatch, EdgematrixError, InternalError, RunOrphaned, RunTimeout, storage_error
from agent.host import HostFiles, try_text
from agent.runner_process import RunnerProcess, start_ticks
from agent.soak_watch import SoakWatch
from agent.vigil import Signals, Vigil
from agent.watch import ReadMark, Watch

NATIVE_DIGESTS_FILE = "native_digests.json"
_TAIL_BYTES = 32 * 1024
#: How long a runner may take to end after a rule of its run asked it to.
_STOP_NS = 10_000_000_000
#: Channels that tell about the runner alone.
_OF_THE_RUNNER = "runner_"

Ending = Tuple[str, Optional[Dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """What a supervisor is given. The supervisor adds ``--supervisor PID`` to ``runner_argv``.

    ``cpu_secs`` tells the CPU time that this process has had so far.
    """

    root: Path
    folder: Path
    request: protocol.RunRequest
    runner_argv: Sequence[str]
    runner_environment: Mapping[str, str]
    agent_sha256: str
    host: HostFiles = field(default_factory=HostFiles)
    clock_ns: Callable[[], int] = time.monotonic_ns
    cpu_secs: Callable[[], float] = time.process_time


class Supervisor:
    """Supervises one run. Used once: ``Supervisor(run).supervise()``."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._request = run.request
        self._started_utc = _utc_now()
        self._conditions: Dict[str, Any] = {}
        self._events: Optional[Any] = None
        self._sampling: Optional[Any] = None
        self._cpus = os.sched_getaffinity(0)
        self._soak: Optional[SoakWatch] = None
        self._runner: Optional[RunnerProcess] = None
        self._report: Optional[protocol.RunnerReport] = None
        self._owner = run.request.fence
        self._memory_available: Optional[int] = None
        self._cost: Optional[protocol.SamplingCost] = None
        self._stop: Optional[str] = None
        self._stop_ns = 0
        self._stopped: Optional[str] = None

    def supervise(self) -> protocol.RunOutcome:
        """Run to the end and return the outcome, which then also lies in the folder. Never raises for what the run or the device did.

        Raises OSError only when not even the outcome can be written: such a run is `lost`.
        """
        started_ns = self._run.clock_ns()
        custody.note(self._run.root, custody.TAKEN, self._run.folder.name, self._request.fence)
        outcome_file.reserve(self._run.folder)
        signals = Signals.catch()
        status, error = self._guarded(lambda: self._attempt(signals))
        # What ends a run must not hide how it ended: a failure while closing counts only where nothing failed before.
        _, late_error = self._guarded(self._close)
        if error is None and late_error is not None and status == "completed":
            status, error = "error", late_error
        if self._conditions:
            self._conditions["end"] = conditions.volatile(self._run.host)
        outcome = protocol.RunOutcome(
            protocol=protocol.PROTOCOL_VERSION,
            job_id=self._request.job_id,
            attempt=self._request.attempt,
            fence=fence.owner(self._run.folder, self._owner),
            agent_version=agent.__version__,
            agent_sha256=self._run.agent_sha256,
            status=status,
            started_utc=self._started_utc,
            ended_utc=_utc_now(),
            duration_secs=(self._run.clock_ns() - started_ns) / 1e9,
            error=error,
            runner=self._report,
            conditions=self._conditions,
            sensors=self._channels(),
            streams=outcome_file.stream_digests(self._run.folder),
            sampling=self._cost,
            stopped=self._stopped,
        )
        # Before the outcome: the runner is gone by now, and whoever reads the outcome may find the record of its end already.
        custody.note(self._run.root, custody.RELEASED, self._run.folder.name, outcome.fence)
        return outcome_file.publish(self._run.folder, outcome)

    # --- the attempt -----------------------------------------------------------------------------------------

    def _attempt(self, signals: Signals) -> Ending:
        # The supervisor's own arrays are tiny; BLAS threads would only be memory. The runner's environment was copied before.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        from agent.event_log import EventLog
        from agent.sampling import Sampling

        folder, request = self._run.folder, self._request
        self._events = EventLog(folder, self._run.clock_ns)
        self._event("supervisor_started", os.getpid())
        for content in (request.model, request.inputs.content):
            _verify(layout.content_path(self._run.root, content.sha256), content)
        self._conditions = conditions.collect(self._run.host, environment_facts(self._run.root / NATIVE_DIGESTS_FILE))
        self._conditions["start"] = conditions.volatile(self._run.host)
        if request.telemetry_hz > 0:
            self._sampling = Sampling(folder, request, self._run.host, self._run.cpu_secs)
        self._conditions["runner_cpus"] = self._runner_cpus() or sorted(self._cpus)
        if request.soak is not None and request.soak.marker:
            reason = self._mark(self._vigil(signals))
            if reason is not None:
                return self._ended_early(reason)
        oom_kills = _oom_kills(self._run.host)
        self._write_start()
        runner = self._start_runner()
        vigil = self._vigil(signals)
        self._begin_sampling(vigil, runner.pid)
        reason = vigil.keep(lambda now_ns: self._is_runner_over(runner, now_ns), list(runner.outputs.values()))
        was_overdue = reason is None and runner.poll() is None
        exit_status = runner.kill()
        self._event("runner_ended", exit_status)
        runner.close()
        report, problem = verdict.parse_report(self._read(protocol.RUNNER_REPORT_FILE))
        self._report = report or verdict.report_of_killed(self._read(protocol.RUNNER_START_FILE))
        if reason is not None and not (reason == "timeout_reached" and verdict.only_placement_missing(report)):
            return self._ended_early(reason)
        tail = (layout.read_file(folder / "runner.stderr") or b"")[-_TAIL_BYTES:].decode("utf-8", "replace")
        killed = _oom_kills(self._run.host) - oom_kills
        end = verdict.RunnerEnd(
            exit_status, report, problem, tail, self._memory_available, killed, was_asked=self._stop is not None, was_overdue=was_overdue
        )
        ending = verdict.judge(end)
        # What was measured whole by then was not ended by the rule: only the look at the placement was.
        if self._stop is not None and exit_status != 0 and not verdict.only_placement_missing(report):
            self._stopped = soak_watch.STOP_WORDS[self._stop]
        elif report is not None and report.soak is not None:
            self._stopped = report.soak.stopped
        if self._soak is not None and (ending[0] == "completed" or was_overdue) and self._cool_down(vigil, self._soak) == "cancel_seen":
            return self._ended_early("cancel_seen")
        return ending

    def _start_runner(self) -> RunnerProcess:
        folder = self._run.folder
        lock = locks.take(folder / layout.RUNNER_LOCK_FILE)
        if lock is None:
            raise InternalError(f"{folder} has a runner already", "clean this run and start a new attempt")
        try:
            argv = [*self._run.runner_argv, "--supervisor", str(os.getpid())]
            with cpu_share.held(self._runner_cpus()):
                self._runner = RunnerProcess(argv, folder, self._run.runner_environment, lock)
        finally:
            os.close(lock)
        pid = self._runner.pid
        layout.write_file(folder / layout.RUNNER_PID_FILE, json.dumps({"pid": pid, "start_ticks": start_ticks(pid)}).encode())
        self._event("runner_started", pid)
        return self._runner

    def _begin_sampling(self, vigil: Vigil, runner_pid: int) -> None:
        now_ns = self._run.clock_ns()
        if self._sampling is not None:
            vigil.sampler = self._sampling.begin(runner_pid, now_ns, self._event)
            # Before the first reading: one without its channel's name would be worth nothing.
            self._write_start()
        if self._request.soak is not None:
            control = soak_watch.ControlFile(self._run.folder / protocol.CONTROL_FILE)
            self._soak = SoakWatch(self._request.soak, self._channels(), control, now_ns)
            if vigil.sampler is not None:
                vigil.sampler.listen(self._soak.heard)

    def _is_runner_over(self, runner: RunnerProcess, now_ns: int) -> bool:
        """Tell whether the runner has ended, or did not although a rule of the soak asked it to; ask it to when a rule wants that."""
        if runner.poll() is not None:
            return True
        if self._stop is None and self._soak is not None:
            self._stop = self._soak.stop(now_ns)
            if self._stop is not None:
                self._stop_ns = now_ns
                self._event(self._stop, self._soak.temperature_c(now_ns))
                runner.terminate()
        return self._stop is not None and now_ns - self._stop_ns >= _STOP_NS

    def _cool_down(self, vigil: Vigil, soak: SoakWatch) -> Optional[str]:
        """Go on sampling without the runner, as the soak asks; return why that ended early, None when it did not.

        Everything is measured by then: only a cancel may still change how the run ended.
        """
        from agent.recorder import ProgressFile

        settings, reason = soak.settings, None
        if vigil.sampler is not None:
            vigil.sampler.leave_out(_OF_THE_RUNNER)
        if settings.cooldown_secs > 0:
            now_ns = self._run.clock_ns()
            cool_down = soak.begin_cool_down(now_ns)
            self._event("cooldown_started", soak.temperature_c(now_ns))
            with contextlib.closing(ProgressFile(self._run.folder / protocol.PROGRESS_FILE)) as progress:

                def is_over(now_ns: int) -> bool:
                    passed_secs = cool_down.passed_secs(now_ns)
                    progress.write("cooldown", int(passed_secs), int(cool_down.most_secs), max(0.0, cool_down.most_secs - passed_secs))
                    return cool_down.is_over(now_ns)

                reason = vigil.keep(is_over)
            self._event("cooldown_ended", soak.temperature_c(self._run.clock_ns()))
        if settings.marker and reason is None:
            reason = self._mark(vigil)
        return reason

    def _mark(self, vigil: Vigil) -> Optional[str]:
        return marker.make(vigil, self._cpus, self._run.clock_ns, self._event)

    def _vigil(self, signals: Signals) -> Vigil:
        """Return a vigil whose limits count from now."""
        watch = Watch(self._run.clock_ns(), self._request.timeout_secs, self._request.orphan_after_secs)

        def look(now_ns: int) -> Optional[str]:
            return self._look_around(watch, signals, now_ns)

        return Vigil(signals, self._run.clock_ns, look, watch.next_ns, self._event)

    def _look_around(self, watch: Watch, signals: Signals, now_ns: int) -> Optional[str]:
        folder = self._run.folder
        self._memory_available = conditions.memory_available_bytes(self._run.host)
        owner = fence.owner(folder, self._owner)
        if owner != self._owner:
            self._owner = owner
            self._event("fence_adopted", owner)
        canceled = signals.number is not None or (folder / protocol.CANCEL_FILE).exists()
        reason = watch.decide(now_ns, _read_mark(folder), canceled)
        if reason is not None:
            self._event(reason, float(signals.number or 0))
        return reason

    def _ended_early(self, reason: str) -> Ending:
        request = self._request
        if reason == "timeout_reached":
            message = f"the run was not done after {request.timeout_secs:g} s"
            return "timeout", RunTimeout(message, "raise limits.timeout_secs, or see why this model is slow or hangs here").to_json()
        if reason == "orphaned":
            message = f"nobody read this run for {request.orphan_after_secs:g} s, so it ended itself"
            return "error", RunOrphaned(message, "the job is tried again; see whether the gateway can reach the device").to_json()
        return "canceled", None

    # --- ends ------------------------------------------------------------------------------------------------

    def _guarded(self, act: Callable[[], Ending]) -> Ending:
        try:
            return act()
        except EdgematrixError as error:
            return "error", error.to_json()
        except OSError as error:
            host.log(traceback.format_exc())
            return "error", storage_error(error, error.filename or self._run.folder).to_json()
        except BaseException:  # noqa: BLE001 (whatever it was, the outcome must say so)
            host.log(traceback.format_exc())
            return "error", InternalError(f"the supervisor failed: {traceback.format_exc()[-4000:]}", "report this").to_json()

    def _close(self) -> Ending:
        """Close everything that is open, each even when another fails."""
        now_ns = self._run.clock_ns()
        with contextlib.ExitStack() as stack:
            if self._events is not None:
                stack.callback(self._events.close)
            if self._sampling is not None:
                self._cost = self._sampling.cost(now_ns)
                stack.callback(self._sampling.close, now_ns)
            if self._soak is not None:
                stack.callback(self._soak.close)
            if self._runner is not None:
                self._runner.kill()
        return "completed", None

    # --- small parts -----------------------------------------------------------------------------------------

    def _write_start(self) -> None:
        start = protocol.RunStart(
            protocol=protocol.PROTOCOL_VERSION,
            job_id=self._request.job_id,
            attempt=self._request.attempt,
            fence=self._owner,
            agent_version=agent.__version__,
            agent_sha256=self._run.agent_sha256,
            started_utc=self._started_utc,
            boot_id=conditions.boot_id(self._run.host),
            conditions=self._conditions,
            sensors=self._channels(),
        )
        layout.write_file(self._run.folder / protocol.START_FILE, protocol.to_json(start).encode())

    def _channels(self) -> List[protocol.SensorInfo]:
        return list(self._sampling.channels()) if self._sampling is not None else []

    def _runner_cpus(self) -> List[int]:
        return list(self._sampling.runner_cpus) if self._sampling is not None else []

    def _event(self, name: str, value: float) -> None:
        if self._events is not None:
            self._events.tell(name, value)

    def _read(self, name: str) -> Optional[bytes]:
        try:
            return layout.read_file(self._run.folder / name)
        except EdgematrixError as error:
            host.log(f"what the runner left cannot be used: {error}")
            return b""


def _verify(path: Path, expected: protocol.ContentRef) -> None:
    """Raise :class:`DigestMismatch` unless the file is what its name says; wrong content is removed, so that it is pushed anew."""
    found = layout.file_digest(path)
    if found is None:
        raise DigestMismatch(f"content {expected.sha256} is not on the device", "push it and start a new attempt")
    if found != expected:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise DigestMismatch(
            f"content {expected.sha256} ({expected.size_bytes} bytes) was {found.sha256} ({found.size_bytes} bytes) here and was removed",
            "push it and start a new attempt; see the device's storage when this repeats",
        )
    mark_used(path)


def _read_mark(folder: Path) -> ReadMark:
    try:
        state = os.lstat(folder / protocol.READ_MARK_FILE)
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns


def _oom_kills(host: HostFiles) -> int:
    """Return how many processes the kernel has killed for lack of memory since boot; 0 where it does not count (before Linux 4.13)."""
    lines: List[str] = (try_text(host.proc / "vmstat") or "").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")  # noqa: UP017 (the alias is Python 3.11's)
