"""The supervisor: one process that stays with a run from its start to its outcome and needs no connection to anybody.

It verifies the content, starts the runner, samples telemetry beside it and writes ``outcome.json`` as its last act. It holds
``supervisor.lock`` for life: whoever finds the lock free knows that no supervisor lives, whatever became of its process number.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
import traceback
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import agent
from agent import conditions, custody, fence, host, layout, locks, protocol, verdict
from agent.content import mark_used
from agent.environment import environment_facts
from agent.errors import DigestMismatch, EdgematrixError, InternalError, RunOrphaned, RunTimeout, storage_error
from agent.host import HostFiles, try_text
from agent.runner_process import RunnerProcess, start_ticks
from agent.sensors import SENSORS, SensorContext
from agent.telemetry import Sampler
from agent.watch import ReadMark, Watch

NATIVE_DIGESTS_FILE = "native_digests.json"
_RESERVE_FILE = ".reserve"
#: Freed when the disk is full, so that there is room left to say so.
_RESERVE_BYTES = 128 * 1024
#: How often the folder is looked at for cancel, read_mark and owner.
_HOUSEKEEPING_NS = 250_000_000
_TAIL_BYTES = 32 * 1024

Ending = Tuple[str, Optional[Dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """What a supervisor is given. The supervisor adds ``--supervisor PID`` to ``runner_argv``."""

    root: Path
    folder: Path
    request: protocol.RunRequest
    runner_argv: Sequence[str]
    runner_environment: Mapping[str, str]
    agent_sha256: str
    host: HostFiles = field(default_factory=HostFiles)
    clock_ns: Callable[[], int] = time.monotonic_ns


class Supervisor:
    """Supervises one run. Used once: ``Supervisor(run).supervise()``."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._request = run.request
        self._conditions: Dict[str, Any] = {}
        self._events: Optional[Any] = None
        self._telemetry: Optional[Any] = None
        self._sampler: Optional[Sampler] = None
        self._runner: Optional[RunnerProcess] = None
        self._report: Optional[protocol.RunnerReport] = None
        self._signal: Optional[int] = None
        self._owner = run.request.fence
        self._memory_available: Optional[int] = None

    def supervise(self) -> protocol.RunOutcome:
        """Run to the end and return the outcome, which then also lies in the folder. Never raises for what the run or the device did.

        Raises OSError only when not even the outcome can be written: such a run is `lost`.
        """
        started_utc, started_ns = _utc_now(), self._run.clock_ns()
        custody.note(self._run.root, custody.TAKEN, self._run.folder.name, self._request.fence)
        self._write_reserve()
        wakeup = self._catch_signals()
        status, error = self._guarded(lambda: self._attempt(wakeup))
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
            started_utc=started_utc,
            ended_utc=_utc_now(),
            duration_secs=(self._run.clock_ns() - started_ns) / 1e9,
            error=error,
            runner=self._report,
            conditions=self._conditions,
            sensors=self._sampler.channels() if self._sampler is not None else [],
            streams=_stream_digests(self._run.folder),
        )
        # Before the outcome: the runner is gone by now, and whoever reads the outcome may find the record of its end already.
        custody.note(self._run.root, custody.RELEASED, self._run.folder.name, outcome.fence)
        return self._publish(outcome)

    # --- the attempt -----------------------------------------------------------------------------------------

    def _attempt(self, wakeup: int) -> Ending:
        # The supervisor's own arrays are tiny; BLAS threads would only be memory. The runner's environment was copied before.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        from agent.spool import SpoolWriter

        folder, request = self._run.folder, self._request
        self._events = SpoolWriter(folder / f"{protocol.EVENTS}.spool", protocol.EVENTS, protocol.EVENT_COLUMNS)
        self._event("supervisor_started", os.getpid())
        for content in (request.model, request.inputs.content):
            _verify(layout.content_path(self._run.root, content.sha256), content)
        self._conditions = conditions.collect(self._run.host, environment_facts(self._run.root / NATIVE_DIGESTS_FILE))
        self._conditions["start"] = conditions.volatile(self._run.host)
        if request.telemetry_hz > 0:
            self._telemetry = SpoolWriter(folder / f"{protocol.TELEMETRY}.spool", protocol.TELEMETRY, protocol.TELEMETRY_COLUMNS)
        oom_kills = _oom_kills(self._run.host)
        runner = self._start_runner()
        now_ns = self._run.clock_ns()
        if self._telemetry is not None:
            context = SensorContext(self._run.host, runner.pid)
            self._sampler = Sampler([kind(context) for kind in SENSORS.values()], request.telemetry_hz, self._telemetry, now_ns)
        reason = self._watch(runner, Watch(now_ns, request.timeout_secs, request.orphan_after_secs), wakeup)
        exit_status = runner.kill()
        self._event("runner_ended", exit_status)
        runner.close()
        report, problem = verdict.parse_report(self._read_report())
        if reason is not None and not (reason == "timeout_reached" and verdict.only_placement_missing(report)):
            return self._ended_early(reason)
        self._report = report
        tail = (layout.read_file(folder / "runner.stderr") or b"")[-_TAIL_BYTES:].decode("utf-8", "replace")
        killed = _oom_kills(self._run.host) - oom_kills
        return verdict.judge(verdict.RunnerEnd(exit_status, self._report, problem, tail, self._memory_available, killed))

    def _start_runner(self) -> RunnerProcess:
        folder = self._run.folder
        lock = locks.take(folder / layout.RUNNER_LOCK_FILE)
        if lock is None:
            raise InternalError(f"{folder} has a runner already", "clean this run and start a new attempt")
        try:
            argv = [*self._run.runner_argv, "--supervisor", str(os.getpid())]
            self._runner = RunnerProcess(argv, folder, self._run.runner_environment, lock)
        finally:
            os.close(lock)
        pid = self._runner.pid
        layout.write_file(folder / layout.RUNNER_PID_FILE, json.dumps({"pid": pid, "start_ticks": start_ticks(pid)}).encode())
        self._event("runner_started", pid)
        return self._runner

    def _watch(self, runner: RunnerProcess, watch: Watch, wakeup: int) -> Optional[str]:
        """Stay with the runner until it ends (None) or must be ended (why). Sleeps until the next thing that is due or happens."""
        poller = select.poll()
        poller.register(wakeup, select.POLLIN)
        for output in runner.outputs.values():
            poller.register(output.descriptor, select.POLLIN)
        housekeeping_ns = 0
        while runner.poll() is None:
            now_ns = self._run.clock_ns()
            if now_ns >= min(housekeeping_ns, watch.next_ns()) or self._signal is not None:
                housekeeping_ns = now_ns + _HOUSEKEEPING_NS
                reason = self._look_around(watch, now_ns)
                if reason is not None:
                    return reason
            due_ns = housekeeping_ns
            if self._sampler is not None:
                late_secs = self._sampler.sample(now_ns)
                if late_secs:
                    self._event("sample_late", late_secs)
                due_ns = min(due_ns, self._sampler.next_due_ns())
            # Rounded up: waking a little early would only mean going to sleep again.
            for descriptor, _ in poller.poll(max(0, -(-(due_ns - self._run.clock_ns()) // 1_000_000))):
                if descriptor == wakeup:
                    os.read(wakeup, 4096)
            for output in runner.open_outputs():
                output.drain()
                if output.ended:
                    poller.unregister(output.descriptor)
        return None

    def _look_around(self, watch: Watch, now_ns: int) -> Optional[str]:
        folder = self._run.folder
        self._memory_available = conditions.memory_available_bytes(self._run.host)
        owner = fence.owner(folder, self._owner)
        if owner != self._owner:
            self._owner = owner
            self._event("fence_adopted", owner)
        canceled = self._signal is not None or (folder / protocol.CANCEL_FILE).exists()
        reason = watch.decide(now_ns, _read_mark(folder), canceled)
        if reason is not None:
            self._event(reason, float(self._signal or 0))
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
        with contextlib.ExitStack() as stack:
            for spool in (self._events, self._telemetry):
                if spool is not None:
                    stack.callback(spool.close)
            if self._sampler is not None:
                stack.callback(self._sampler.close)
                stack.callback(self._sampler.flush, self._run.clock_ns())
            if self._runner is not None:
                self._runner.kill()
        return "completed", None

    def _publish(self, outcome: protocol.RunOutcome) -> protocol.RunOutcome:
        path = self._run.folder / protocol.OUTCOME_FILE
        outcome = _serializable(outcome)
        for last in (False, False, True):
            if last:
                outcome = replace(outcome, conditions={}, sensors=[])
            try:
                layout.write_file(path, protocol.to_json(outcome).encode())
                break
            except OSError:
                if last:
                    raise
                with contextlib.suppress(OSError):
                    os.unlink(self._run.folder / _RESERVE_FILE)
        with contextlib.suppress(OSError):
            os.unlink(self._run.folder / _RESERVE_FILE)
        return outcome

    # --- small parts -----------------------------------------------------------------------------------------

    def _event(self, name: str, value: float) -> None:
        if self._events is None:
            return
        import numpy

        self._events.write(
            {
                "time_ns": numpy.array([self._run.clock_ns()], dtype="<u8"),
                "code": numpy.array([protocol.EVENT_CODES.index(name)], dtype="<u2"),
                "value": numpy.array([value], dtype="<f8"),
            }
        )

    def _read_report(self) -> Optional[bytes]:
        try:
            return layout.read_file(self._run.folder / protocol.RUNNER_REPORT_FILE)
        except EdgematrixError as error:
            host.log(f"the runner's report cannot be used: {error}")
            return b""

    def _write_reserve(self) -> None:
        # Random bytes: a file system that compresses would keep no room for zeros. A full disk is told by what needs the room.
        with contextlib.suppress(OSError):
            (self._run.folder / _RESERVE_FILE).write_bytes(os.urandom(_RESERVE_BYTES))

    def _catch_signals(self) -> int:
        """Let SIGTERM, SIGINT and SIGHUP end the run as `cancel` does; return a descriptor that becomes readable when any signal comes."""
        reader, writer = os.pipe()
        for descriptor in (reader, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def remember(number: int, frame: object) -> None:
            self._signal = number

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, remember)
        # The runner's end wakes the loop through the descriptor; the default would not.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        return reader


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


def _serializable(outcome: protocol.RunOutcome) -> protocol.RunOutcome:
    """Return the outcome, without the runner's report when that is what cannot be sent (not-a-number values, or larger than a message
    may be).
    """
    try:
        size = len(protocol.to_json(outcome))
    except ValueError as error:
        problem = f"the runner's report cannot be sent: {error}"
    else:
        if size <= protocol.MAX_MESSAGE_BYTES:
            return outcome
        problem = f"the outcome of {size} bytes is more than the {protocol.MAX_MESSAGE_BYTES} a message may have"
    return replace(outcome, status="error", runner=None, error=InternalError(problem, "report this with the run's folder").to_json())


def _stream_digests(folder: Path) -> Dict[str, protocol.ContentRef]:
    found = {}
    for stream in protocol.STREAMS:
        with contextlib.suppress(EdgematrixError, OSError):
            content = layout.file_digest(folder / f"{stream}.spool")
            if content is not None:
                found[stream] = content
    return found


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
