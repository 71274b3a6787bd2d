"""One attempt of a soak, laid out for its story: every time in seconds from the first steady query, every channel by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.protocol import EVENT_CODES, EVENTS, PHASES, PROBES, QUERIES, TELEMETRY, RunnerReport, RunOutcome, SensorInfo
from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.streams import Arrays, Columns, checked_events, checked_probes, checked_queries, checked_telemetry
from orchestrator.analysis.telemetry import Channel, split_channels
from orchestrator.domain.soak import PlannedSoak
from orchestrator.domain.states import Emulation

NANOSECONDS_PER_SEC = 1e9

#: No sensor reads as much, in whatever unit; sums and squares of less stay finite.
_NO_READING = 1e15
#: Phases that heat the device, in the order in which they come.
LOAD = ("precondition", "warmup", "steady")


@dataclass(frozen=True)
class Series:
    """Readings of one channel, ascending: ``secs`` from the first steady query; arrays of shape (n,)."""

    secs: FloatArray
    value: FloatArray

    def between(self, start: float, end: float) -> Series:
        """Return the readings of a part of the run, both ends included."""
        low, high = np.searchsorted(self.secs, start, "left"), np.searchsorted(self.secs, end, "right")
        return Series(self.secs[low:high], self.value[low:high])

    def at(self, moment: float) -> float | None:
        """Return the last reading at or before a moment, None when there is none."""
        index = int(np.searchsorted(self.secs, moment, "right")) - 1
        return float(self.value[index]) if index >= 0 else None


@dataclass(frozen=True)
class SoakRun:
    """What the device left, checked. ``zero_ns`` is the first steady query's start, counted from the runner's origin.

    ``steady_*`` are the queries of the load pattern, probes left out, in the order of their ends; arrays of shape (queries,).
    ``load_start`` is where any load began (precondition or warm-up), ``rest`` the idle stretch before it, where there was one.
    """

    outcome: RunOutcome
    soak: PlannedSoak
    emulated: Emulation
    hertz: float
    zero_ns: int
    steady_secs: float
    steady_end: FloatArray
    steady_invoke_ns: NDArray[np.uint64]
    probe_start: FloatArray
    probe_end: FloatArray
    last_query_end: float
    load_start: float
    rest: tuple[float, float] | None
    channels: Mapping[str, Series]
    telemetry_secs: FloatArray
    events: Arrays
    probes: Arrays
    queries: Arrays

    @property
    def runner(self) -> RunnerReport:
        """What the runner reported, an empty report when it could not."""
        return self.outcome.runner or RunnerReport()

    @property
    def sensors(self) -> Sequence[SensorInfo]:
        return self.outcome.sensors

    @property
    def period(self) -> float:
        """The sampling period asked for, seconds; infinite when nothing was sampled."""
        return 1 / self.hertz if self.hertz > 0 else float("inf")

    @property
    def flat_out(self) -> bool:
        """Whether one query followed the other without a rest."""
        return isinstance(self.soak.pattern, str)

    def named(self, prefix: str) -> dict[str, Series]:
        """Return the channels whose names begin so."""
        return {name: series for name, series in self.channels.items() if name.startswith(prefix)}

    def event_times(self, code: str) -> FloatArray:
        """Return when an event was recorded, seconds from the first steady query."""
        times: FloatArray = self.events["secs"][self.events["code"] == EVENT_CODES.index(code)]
        return times


def lay_out(
    *, streams: Mapping[str, Columns], outcome: RunOutcome, soak: PlannedSoak, emulated: Emulation, complete: bool, telemetry_hz: float
) -> SoakRun:
    """Check the streams of one attempt and bring them to one clock. Raises DeviceReplyInvalid when one breaks the protocol."""
    runner = outcome.runner or RunnerReport()
    queries = checked_queries(streams.get(QUERIES))
    telemetry = checked_telemetry(streams.get(TELEMETRY), runner.origin_monotonic_ns)
    events = checked_events(streams.get(EVENTS), runner.origin_monotonic_ns)
    steady = _rows(queries, ("steady",))
    start_ns = queries["start_ns"]
    zero_ns = int(start_ns[steady][0]) if _any(steady, start_ns) else 0
    end = _ends(queries, steady, zero_ns)
    invoke = queries["invoke_ns"][steady]
    if end.size and bool((np.diff(end) < 0).any()):
        order = np.argsort(end, kind="stable")
        end, invoke = end[order], invoke[order]
    hot_probe = _rows(queries, ("probe",), after_ns=zero_ns)
    probe_start = (start_ns[hot_probe].astype(np.int64) - zero_ns) / NANOSECONDS_PER_SEC
    probe_end = _ends(queries, hot_probe, zero_ns)
    last = max(float(end[-1]) if end.size else 0.0, float(probe_end.max()) if probe_end.size else 0.0)
    load = _rows(queries, LOAD)
    load_start = (int(start_ns[load][0]) - zero_ns) / NANOSECONDS_PER_SEC if _any(load, start_ns) else 0.0
    return SoakRun(
        outcome=outcome,
        soak=soak,
        emulated=emulated,
        hertz=telemetry_hz,
        zero_ns=zero_ns,
        steady_secs=_steady_secs(last, end.size, runner, soak, complete),
        steady_end=end,
        steady_invoke_ns=invoke,
        probe_start=probe_start,
        probe_end=probe_end,
        last_query_end=last,
        load_start=load_start,
        rest=_rest(queries, zero_ns, load_start),
        channels={
            name: series
            for name, channel in split_channels(telemetry, outcome.sensors).items()
            if (series := _series(channel, zero_ns)).value.size
        },
        telemetry_secs=np.unique((telemetry["time_ns"] - zero_ns) / NANOSECONDS_PER_SEC),
        events={**events, "secs": (events["time_ns"] - zero_ns) / NANOSECONDS_PER_SEC},
        probes=checked_probes(streams.get(PROBES)),
        queries=queries,
    )


def _series(channel: Channel, zero_ns: int) -> Series:
    sane = np.abs(channel.value) < _NO_READING
    return Series((channel.time_ns[sane] - zero_ns) / NANOSECONDS_PER_SEC, channel.value[sane].astype(np.float64))


def _rows(queries: Arrays, phases: Sequence[str], after_ns: int | None = None) -> slice | NDArray[np.bool_]:
    """Select the rows of phases; a slice where they lie together, so that millions of queries are not copied."""
    chosen = np.isin(queries["phase"], [PHASES.index(phase) for phase in phases])
    if after_ns is not None:
        chosen &= queries["start_ns"] >= after_ns
    count = int(np.count_nonzero(chosen))
    if count == 0:
        return slice(0, 0)
    first = int(np.argmax(chosen))
    return slice(first, first + count) if bool(chosen[first : first + count].all()) else chosen


def _any(rows: slice | NDArray[np.bool_], column: NDArray[np.generic]) -> bool:
    return bool(column[rows].size)


def _ends(queries: Arrays, rows: slice | NDArray[np.bool_], zero_ns: int) -> FloatArray:
    total = queries["start_ns"][rows].astype(np.int64)
    for name in ("pre_ns", "invoke_ns", "post_ns"):
        total += queries[name][rows].astype(np.int64)
    total -= zero_ns
    seconds: FloatArray = total / NANOSECONDS_PER_SEC
    return seconds


def _steady_secs(last: float, count: int, runner: RunnerReport, soak: PlannedSoak, complete: bool) -> float:
    """The steady part ends with its last query, or later where the pattern ended in a rest and the runner says so."""
    if count == 0:
        return 0.0
    reported = runner.steady_ns / NANOSECONDS_PER_SEC if complete else 0.0
    return max(last, min(reported, soak.duration_secs))


def _rest(queries: Arrays, zero_ns: int, load_start: float) -> tuple[float, float] | None:
    """The stretch without any query before the load: from the end of the last cold one to the first of the load."""
    before = queries["start_ns"].astype(np.int64) < int(load_start * NANOSECONDS_PER_SEC) + zero_ns
    if not before.any():
        return None
    begin = float(_ends(queries, before, zero_ns).max())
    return (begin, load_start) if load_start - begin >= 1.0 else None
