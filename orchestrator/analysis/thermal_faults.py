"""What is missing or not to be believed: gaps in telemetry and queries, sensors that fell silent or stood still, and the events to mark."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agent.protocol import EVENT_CODES
from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.thermal_run import Series, SoakRun
from orchestrator.domain.thermal import Gap, Onset, ProbeRecord, SensorFault, StoryEvent

#: Nothing recorded for longer than this (and than five sampling periods) is a gap.
GAP_SECS = 1.0
GAP_PERIODS = 5
#: A temperature that shows one and the same number for so long across a change of load stands still.
STUCK_SECS = 30.0
#: Another zone that moved by this much meanwhile proves it, too.
STUCK_AGAINST_C = 5.0
_MOST_GAPS = 50
_MOST_EVENTS = 500

#: Events that a story marks, with their words; the others are the agent's own affairs.
_MARKED = {
    "cancel_seen": "canceled",
    "timeout_reached": "timeout",
    "orphaned": "nobody read the run any more",
    "marker": "marker load",
    "safety_stop": "safety stop",
    "battery_stop": "battery stop",
    "cooldown_started": "cool-down begins",
    "cooldown_ended": "cool-down ends",
    "sensor_failed": "sensor fell silent",
    "sensor_recovered": "sensor speaks again",
}


def find_gaps(run: SoakRun, complete: bool) -> tuple[Gap, ...]:
    """Return where nothing was recorded although something should have been, in the order of time."""
    gaps = [*_telemetry_gaps(run), *_query_gaps(run)]
    gaps.sort(key=lambda gap: gap.start_secs)
    if len(gaps) > _MOST_GAPS:
        left = len(gaps) - _MOST_GAPS
        gaps = [*gaps[:_MOST_GAPS], Gap(start_secs=gaps[_MOST_GAPS].start_secs, end_secs=gaps[-1].end_secs, words=f"{left} more gaps")]
    planned = run.soak.duration_secs
    if not complete and run.steady_secs < planned:
        until = f"{planned:g} s were planned"
        words = (
            f"the attempt ended after {run.steady_secs:.1f} s of load; {until}" if run.steady_end.size else f"no load was recorded; {until}"
        )
        gaps.append(Gap(start_secs=run.steady_secs, end_secs=planned, words=words))
    return tuple(gaps)


def find_sensor_faults(run: SoakRun, control: str | None, onset: Onset | None) -> tuple[SensorFault, ...]:
    """Return the channels that could not be read, fell silent for a time, or stood still while the load changed."""
    faults: list[SensorFault] = []
    spans = _silences(run)
    for sensor in run.sensors:
        if sensor.error is not None:
            faults.append(SensorFault(channel=sensor.name, words=f"could not be read: {sensor.error}"))
        elif sensor.name in spans:
            faults.append(SensorFault(channel=sensor.name, words=spans[sensor.name]))
        elif sensor.missing > 0:
            faults.append(SensorFault(channel=sensor.name, words=f"did not answer {sensor.missing} of {sensor.readings} times"))
    faults += _stuck(run, control, onset)
    return tuple(faults)


def find_events(run: SoakRun, onset: Onset | None, probe: ProbeRecord) -> tuple[StoryEvent, ...]:
    """Return what to mark on the time axis: the agent's events, the onset, and the first change of the numbers."""
    found: list[StoryEvent] = []
    for secs, code, value in zip(run.events["secs"], run.events["code"], run.events["value"], strict=True):
        name = EVENT_CODES[int(code)]
        if name in _MARKED and len(found) < _MOST_EVENTS:
            found.append(StoryEvent(at_secs=float(secs), name=name, words=_event_words(run, name, float(value))))
    if onset is not None:
        found.append(StoryEvent(at_secs=onset.at_secs, name="onset", words=onset.words))
    if probe.changes:
        found.append(StoryEvent(at_secs=probe.changes[0].first_at_secs, name="numbers_changed", words=probe.words))
    return tuple(sorted(found, key=lambda event: event.at_secs))


def _telemetry_gaps(run: SoakRun) -> Iterator[Gap]:
    if run.hertz <= 0 or not run.sensors:
        return
    longest = max(GAP_SECS, GAP_PERIODS * run.period)
    # Before the first reading and after the last there is one when the load went on there.
    secs = run.telemetry_secs
    edges = np.concatenate([[0.0] if run.steady_secs > 0 else [], secs, [run.steady_secs] if run.steady_secs > 0 else []])
    yield from (Gap(start_secs=a, end_secs=b, words=f"no telemetry for {b - a:.1f} s") for a, b in _holes(np.sort(edges), longest))


def _query_gaps(run: SoakRun) -> Iterator[Gap]:
    """Only where queries followed each other without a rest is a long time without one a gap."""
    if not run.flat_out or not run.steady_end.size:
        return
    begin = run.steady_end - run.steady_invoke_ns / 1e9
    long_rests = np.flatnonzero(begin[1:] - run.steady_end[:-1] > GAP_SECS)
    for index in long_rests:
        start, end = float(run.steady_end[index]), float(begin[index + 1])
        probed = float(np.clip(np.minimum(run.probe_end, end) - np.maximum(run.probe_start, start), 0, None).sum())
        if end - start - probed > GAP_SECS:
            yield Gap(start_secs=start, end_secs=end, words=f"no query for {end - start:.1f} s")


def _holes(secs: FloatArray, longest: float) -> list[tuple[float, float]]:
    rows = np.flatnonzero(np.diff(secs) > longest)
    return [(float(secs[row]), float(secs[row + 1])) for row in rows]


def _silences(run: SoakRun) -> dict[str, str]:
    """Words for the channels that fell silent and when, from the supervisor's events."""
    failed: dict[str, list[float]] = {}
    back: dict[str, list[float]] = {}
    for name, target in (("sensor_failed", failed), ("sensor_recovered", back)):
        chosen = run.events["code"] == EVENT_CODES.index(name)
        for secs, value in zip(run.events["secs"][chosen], run.events["value"][chosen], strict=True):
            if 0 <= value < len(run.sensors):
                target.setdefault(run.sensors[int(value)].name, []).append(float(secs))
    words = {}
    for channel, times in failed.items():
        again = [secs for secs in back.get(channel, []) if secs > times[0]]
        until = f", again there at {again[0]:.1f} s" if again else ", and did not come back"
        more = f" ({len(times)} times)" if len(times) > 1 else ""
        words[channel] = f"fell silent at {times[0]:.1f} s{until}{more}"
    return words


def _stuck(run: SoakRun, control: str | None, onset: Onset | None) -> Iterator[SensorFault]:
    zones = {name: series for name, series in run.named("thermal.").items() if "battery" not in name and series.secs.size > 1}
    # A slow trickle of queries need not warm anything.
    if not run.steady_end.size or not (run.flat_out or run.soak.precondition is not None):
        return
    steps = [run.load_start, run.last_query_end, *([onset.at_secs] if onset is not None else [])]
    for name, series in zones.items():
        for start, end in _still(series):
            others = [other for key, other in zones.items() if key != name]
            # Zones far from the load may well stand still; the one that decides may not, nor one that has followed the load before.
            follows = _range(series) >= STUCK_AGAINST_C / 2
            moved = max((_range(other.between(start, end)) for other in others), default=0.0) if follows or name == control else 0.0
            crossed = name == control and any(start < step and end >= step + STUCK_SECS for step in steps)
            if crossed or moved >= STUCK_AGAINST_C:
                celsius = series.at(start)
                why = f" while another zone moved by {moved:.1f} °C" if moved >= STUCK_AGAINST_C else " while the load changed"
                yield SensorFault(
                    channel=name, words=f"stood still at {celsius:g} °C from {start:.1f} to {end:.1f} s{why}", stood_still=True
                )
                break


def _still(series: Series) -> list[tuple[float, float]]:
    """Return the stretches of at least STUCK_SECS over which the reading did not change by one digit."""
    changed = np.flatnonzero(np.diff(series.value) != 0)
    begins = np.concatenate([[0], changed + 1])
    ends = np.concatenate([changed, [series.value.size - 1]])
    long = series.secs[ends] - series.secs[begins] >= STUCK_SECS
    return [(float(series.secs[begin]), float(series.secs[end])) for begin, end in zip(begins[long], ends[long], strict=True)]


def _range(series: Series) -> float:
    return float(np.ptp(series.value)) if series.value.size else 0.0


def _event_words(run: SoakRun, name: str, value: float) -> str:
    words = _MARKED[name]
    if name in ("sensor_failed", "sensor_recovered"):
        return f"{words}: {run.sensors[int(value)].name}" if 0 <= value < len(run.sensors) else words
    if name == "marker":
        return f"{words} {'on' if value else 'off'}"
    if name in ("safety_stop", "cooldown_started", "cooldown_ended") and np.isfinite(value):
        return f"{words} at {value:.1f} °C"
    return words
