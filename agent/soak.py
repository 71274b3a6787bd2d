"""The soak: sustained load in a pattern, with rounds of probes in its midst. What comes when is told in ``agent.soak_settings``.

The loop decides between bursts; a burst itself (``agent.loadgen.burst``) holds nothing but queries and stamps. It ends 0.2 s after it began
at the latest, so a stop that is asked for is obeyed within one query or that time, whichever is longer.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from agent.coload import CoLoadWorkers
from agent.errors import DiskFull, RequestInvalid, SensorUnavailable
from agent.load_patterns import FAR_NS, ControlTemperature, Pattern, Rest, Turn, check_pattern, make_pattern
from agent.loadgen import Pipeline, Report, Rule, burst, no_garbage_collection, run_phase
from agent.probes import Prober
from agent.protocol import MAX_STREAM_BYTES, TELEMETRY, LoadSettings, SoakReport, SoakSettings
from agent.recorder import BLOCK_ROWS, PROGRESS_NS, Clock, QueryRecorder

_SECOND_NS = 1_000_000_000

#: The most that a block of ``queries`` can take: no column of it packed.
_BLOCK_BYTES = 37 * BLOCK_ROWS + 1024
#: Between two looks at the room there may be a block of queries and one of probes.
_NEEDED_BYTES = 2 * _BLOCK_BYTES
#: What a soak leaves free on the file system: reports, telemetry of the cool-down, and the device's own life.
FREE_BYTES = 64 * 1024 * 1024
#: The most that telemetry may take: 50 readings a second of 44 channels for 19 hours. Twice as many rows, and nobody would read it.
MAX_TELEMETRY_BYTES = 2 * 1024 * 1024 * 1024
#: Below this no soak is worth starting.
MIN_QUERIES_BYTES = 4 * 1024 * 1024

#: Before an arrival the last stretch is spent looking at the clock: a sleep ends late by up to this (timer slack, waking up).
SPIN_NS = 200_000

#: For how long the first reading of the control temperature is waited for.
_CONTROL_SECS = 5.0
_CONTROL_LOOK_SECS = 0.1

_ASKED, _DISK = "asked", "disk_bound"


@dataclass(frozen=True)
class SoakResult:
    """What the runner reports of a soak. ``steady_ns`` runs from the first steady query's turn to the end of the part, rests and probes
    included.
    """

    warmup_count: int
    steady_count: int
    steady_ns: int
    min_duration_met: bool
    soak: SoakReport


class Room:
    """How much the ``queries`` spool may still grow, by its own limit, by what telemetry beside it takes and by what the file system has
    left.
    """

    def __init__(self, spool: Path, max_bytes: int, free_bytes: Optional[Callable[[], int]] = None) -> None:
        self._spool, self._max_bytes = spool, max_bytes
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(spool.parent).free)

    def used_bytes(self) -> int:
        """Return what the spool holds."""
        return self._spool.stat().st_size

    def is_used_up(self) -> bool:
        """Whether the next blocks might break a bound."""
        if self.used_bytes() + _NEEDED_BYTES > self._max_bytes or self._free_bytes() < FREE_BYTES + _NEEDED_BYTES:
            return True
        telemetry = self._spool.with_name(f"{TELEMETRY}.spool")
        return telemetry.exists() and telemetry.stat().st_size > MAX_TELEMETRY_BYTES


class Machine(NamedTuple):
    """The outside world of a soak: clock, sleep (seconds), stop flag, progress, control temperature, room, and co-load when asked."""

    clock: Clock
    sleep: Callable[[float], None]
    should_stop: Callable[[], bool]
    report: Report
    control: ControlTemperature
    room: Room
    co_load: Callable[[], Optional[CoLoadWorkers]]


class _Part(NamedTuple):
    answered: int
    elapsed_ns: int
    ended_by: Optional[str]


def check_soak(soak: SoakSettings) -> None:
    """Raise :class:`RequestInvalid` for settings that make no sense."""
    check_pattern(soak.pattern)
    numbers = {
        "duration_secs": soak.duration_secs,
        "idle_secs": soak.idle_secs,
        "precondition_secs": soak.precondition_secs,
        "probe.every_secs": soak.probe.every_secs if soak.probe else 1.0,
    }
    wrong = [name for name, value in numbers.items() if not math.isfinite(value) or value < 0]
    wrong += [name for name in ("duration_secs", "probe.every_secs") if numbers[name] == 0]
    if soak.probe and not (1 <= soak.probe.samples <= 4096 and 0 <= soak.probe.cold_rounds <= 1000):
        wrong.append("probe")
    if not (0 <= soak.co_load.cpu_workers <= 256 and 0 <= soak.co_load.memory_workers <= 256):
        wrong.append("co_load")
    if not MIN_QUERIES_BYTES <= soak.max_queries_bytes <= MAX_STREAM_BYTES:
        wrong.append("max_queries_bytes")
    if wrong:
        raise RequestInvalid(f"a soak with {', '.join(wrong)} out of range: {soak!r:.600}", "correct the soak in the spec")


def run_soak(
    pipeline: Pipeline,
    samples: Sequence[np.ndarray],
    load: LoadSettings,
    soak: SoakSettings,
    recorder: QueryRecorder,
    prober: Optional[Prober],
    machine: Machine,
) -> SoakResult:
    """Go through the parts of a soak after the first query.

    Raises :class:`SensorUnavailable` when a thermal cycle has no temperature to go by, :class:`DiskFull` when there is no room before the
    measured part begins, InvokeFailed, and what co-load and writing the spool raise.
    """
    with no_garbage_collection():
        return _Soak(pipeline, samples, load, soak, recorder, prober, machine).run()


class _Soak:
    def __init__(
        self,
        pipeline: Pipeline,
        samples: Sequence[np.ndarray],
        load: LoadSettings,
        soak: SoakSettings,
        recorder: QueryRecorder,
        prober: Optional[Prober],
        machine: Machine,
    ) -> None:
        self._pipeline, self._samples, self._load, self._soak = pipeline, samples, load, soak
        self._recorder, self._prober, self._machine = recorder, prober, machine
        self._facts: Dict[str, Any] = {}

    def run(self) -> SoakResult:
        soak, machine = self._soak, self._machine
        warmup_count, steady = 0, _Part(0, 0, _ASKED)
        pattern: Pattern = Rest()
        if self._prepare():
            # Ready before the warm-up, so that nothing cools between that and the load.
            with self._co_load() as co_load:
                warmup_count = self._warm_up()
                if not machine.should_stop():
                    if co_load is not None:
                        co_load.begin()
                    started_ns = machine.clock()
                    pattern = make_pattern(soak.pattern, started_ns, machine.control.read)
                    if self._prober is not None:
                        self._prober.begin(started_ns)
                    steady = self._part("steady", pattern, soak.duration_secs, self._prober, started_ns=started_ns)
        is_whole = steady.elapsed_ns >= soak.duration_secs * _SECOND_NS
        return SoakResult(warmup_count, steady.answered, steady.elapsed_ns, is_whole, self._told(pattern, steady))

    def _prepare(self) -> bool:
        """Cold probes, rest and preconditioning; return whether to go on."""
        soak, machine = self._soak, self._machine
        if soak.pattern.kind == "thermal_cycle":
            self._await_control()
        if self._prober is not None and soak.probe is not None:
            for number in range(soak.probe.cold_rounds):
                machine.report("probe", number, soak.probe.cold_rounds, soak.idle_secs + soak.precondition_secs + self._measured_secs())
                if not self._prober.round(machine.should_stop):
                    return False
        if soak.idle_secs > 0:
            self._before_load(self._part("idle", Rest(), soak.idle_secs, None, soak.precondition_secs + self._measured_secs()))
        if soak.precondition_secs > 0 and not machine.should_stop():
            part = self._part("precondition", Pattern(), soak.precondition_secs, None, self._measured_secs(), is_reached=self._is_warm)
            self._facts["precondition_count"] = part.answered
            self._before_load(part)
        return not machine.should_stop()

    @contextlib.contextmanager
    def _co_load(self) -> Iterator[Optional[CoLoadWorkers]]:
        workers = self._machine.co_load()
        try:
            yield workers
        finally:
            if workers is not None:
                self._facts["co_load_cpus"], self._facts["co_load_lost"] = workers.cpus, workers.end()

    def _warm_up(self) -> int:
        load, machine = self._load, self._machine
        rule = Rule(
            int(load.warmup_min_secs * _SECOND_NS), load.warmup_runs, int(max(load.warmup_min_secs, load.max_duration_secs) * _SECOND_NS)
        )
        return run_phase(
            "warmup", rule, self._pipeline, self._samples, self._recorder, machine.clock, machine.should_stop, machine.report
        ).answered

    def _part(
        self,
        phase: str,
        pattern: Pattern,
        secs: float,
        prober: Optional[Prober],
        later_secs: float = 0.0,
        *,
        started_ns: Optional[int] = None,
        is_reached: Callable[[int], bool] = lambda now_ns: False,
    ) -> _Part:
        """Follow a pattern for ``secs`` or until ``is_reached``; ``later_secs`` is what the parts after this one are planned to take."""
        recorder, machine = self._recorder, self._machine
        recorder.begin(phase, recorder.next_sample)
        started = now = machine.clock() if started_ns is None else started_ns
        end_ns = started + round(secs * _SECOND_NS)
        count, report_due, ended_by = 0, now, None
        while now < end_ns and not is_reached(now):
            if machine.should_stop():
                ended_by = _ASKED
                break
            if now >= report_due:
                left_secs = (end_ns - now) / _SECOND_NS
                expected = count + round(count * left_secs * _SECOND_NS / (now - started)) if now > started else 0
                machine.report(phase, count, expected, left_secs + later_secs)
                report_due = now + PROGRESS_NS
            if recorder.is_due(now):
                recorder.flush()
                if machine.room.is_used_up():
                    ended_by = _DISK
                    break
            if prober is not None and now >= prober.due_ns:
                prober.round(machine.should_stop)
                now = machine.clock()
                pattern.resumed(now)
                # A round has flushed, too: where rounds come every second, no other flush is ever due.
                if machine.room.is_used_up():
                    ended_by = _DISK
                    break
                continue
            wake_ns = min(report_due, end_ns, prober.due_ns if prober is not None else FAR_NS)
            turn = pattern.turn(now)
            if turn.limit == 0 or turn.begin_ns > now:
                self._wait(turn, wake_ns)
                now = machine.clock()
                continue
            with self._pipeline.querying():
                limit, until_ns = min(turn.limit, recorder.free), min(turn.until_ns, wake_ns)
                answered, now = burst(self._pipeline, self._samples, recorder, limit, until_ns, machine.clock)
            count += answered
            pattern.answered(now)
        recorder.flush()
        machine.report(phase, count, count, later_secs)
        return _Part(count, now - started, ended_by)

    def _wait(self, turn: Turn, wake_ns: int) -> None:
        """Sleep until the turn's queries may come (exactly then) or something else is due (about then)."""
        clock = self._machine.clock
        due_ns = min(turn.until_ns if turn.limit == 0 else turn.begin_ns, wake_ns)
        is_arrival = turn.limit > 0 and turn.begin_ns <= wake_ns
        rest_ns = due_ns - clock() - (SPIN_NS if is_arrival else 0)
        if rest_ns > 0:
            self._machine.sleep(rest_ns / _SECOND_NS)
        while is_arrival and clock() < due_ns:
            pass

    def _await_control(self) -> None:
        machine = self._machine
        until_ns = machine.clock() + round(_CONTROL_SECS * _SECOND_NS)
        while machine.control.read(machine.clock()) is None and not machine.should_stop():
            if machine.clock() >= until_ns:
                raise SensorUnavailable(
                    f"a thermal cycle goes by the device's temperature, and none could be read in {_CONTROL_SECS:g} s",
                    "name a channel that this device has (control_sensor), or use another load pattern: edgematrix device check NAME",
                )
            machine.sleep(_CONTROL_LOOK_SECS)

    def _is_warm(self, now_ns: int) -> bool:
        wanted_c = self._soak.precondition_until_c
        temperature_c = None if wanted_c is None else self._machine.control.read(now_ns)
        return temperature_c is not None and wanted_c is not None and temperature_c >= wanted_c

    def _before_load(self, part: _Part) -> None:
        if part.ended_by == _DISK:
            message = f"less than {(FREE_BYTES + _NEEDED_BYTES) / 1e6:.0f} MB are free on the device before the measured part began"
            raise DiskFull(message, "make room on the device: edgematrix device clean NAME, or its own files")

    def _measured_secs(self) -> float:
        return self._load.warmup_min_secs + self._soak.duration_secs

    def _told(self, pattern: Pattern, steady: _Part) -> SoakReport:
        prober = self._prober
        return SoakReport(
            probe_count=prober.query_count if prober is not None else 0,
            probe_rounds=prober.round_count if prober is not None else 0,
            probe_ns=prober.hot_ns if prober is not None else 0,
            dropped_count=pattern.dropped_count,
            dropped_for_probes=pattern.held_up_count,
            control_unknown_ns=pattern.unknown_ns,
            queries_bytes=self._machine.room.used_bytes(),
            stopped=_DISK if steady.ended_by == _DISK else None,
            **self._facts,
        )
