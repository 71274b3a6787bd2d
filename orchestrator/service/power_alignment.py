"""Brings the clock of a power meter to the monotonic clock of the device: by both clocks' times of day, or by the marker load.

The marker is a square wave of load that the agent makes before and after a run when the spec asks for it; each edge is an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d
from scipy.signal import fftconvolve

from agent import protocol
from agent.errors import ConfigurationError
from orchestrator.service.power_csv import MeterTrace

_Array = npt.NDArray[np.float64]

#: A meter that samples slower than this cannot show edges a second apart.
SLOWEST_SAMPLE_SECS = 0.25
_FINEST_STEP_SECS = 0.002
#: Edges farther apart than this are of two square waves.
_WAVE_GAP_SECS = 10.0
#: A wave is looked for with this much rest around it.
_REST_SECS = 1.0
#: The least Pearson correlation of the marker with the meter's trace, and how far the next best place must stay below the best.
LEAST_CORRELATION = 0.7
MOST_RIVAL_SHARE = 0.9
_RIVAL_DISTANCE_SECS = 0.75
#: Two clocks drift by less than this share.
_MOST_DRIFT = 5e-4


class AlignmentFailed(ConfigurationError):
    code = "alignment_failed"


@dataclass(frozen=True)
class Alignment:
    """Device time = ``offset_secs`` + ``rate`` · meter time; device times are seconds of the raw CLOCK_MONOTONIC.

    ``uncertainty_secs`` bounds how far a sample may be misplaced. ``correlation`` is the marker's.
    """

    method: Literal["clock", "marker"]
    offset_secs: float
    rate: float
    uncertainty_secs: float
    words: str
    correlation: float | None = None

    def device_ns(self, time_secs: _Array) -> npt.NDArray[np.int64]:
        return np.rint((self.offset_secs + self.rate * time_secs) * 1e9).astype(np.int64)


def align_by_clock(
    trace: MeterTrace,
    conditions: Mapping[str, Any],
    device_offset_secs: float | None,
    offset_uncertainty_secs: float | None,
    meter_offset_secs: float,
) -> Alignment:
    """Align by times of day.

    ``device_offset_secs`` is the device's clock less ours at the start, ``meter_offset_secs`` the meter's less ours. ``conditions`` holds
    the device's pairs of both its clocks at the start and the end. Raises :class:`AlignmentFailed` where a time of day is missing.
    """
    if not trace.is_wall_clock:
        raise AlignmentFailed("the meter's times are no times of day", "align with --align marker, or export times of day")
    start, end = _pair(conditions, "start"), _pair(conditions, "end")
    if start is None or device_offset_secs is None:
        raise AlignmentFailed("this attempt does not tell its device's time of day", "align with --align marker")
    utc, monotonic = start
    stepped = abs((end[0] - utc) - (end[1] - monotonic)) if end else 0.0
    uncertainty = (offset_uncertainty_secs or 0.0) + stepped
    # What nobody stated is an assumption, and no part of the uncertainty.
    meter = f"{meter_offset_secs:+.3f} s as stated" if meter_offset_secs else "is taken for ours, for no --clock-offset was stated"
    words = (
        f"by times of day: the device's clock was {device_offset_secs:+.3f} s from ours, the meter's {meter}"
        + (f"; the device's time of day moved {stepped:.3f} s against its monotonic clock during the run" if stepped > 1e-3 else "")
        + f"; uncertain by {uncertainty:.3f} s, the meter's own clock apart"
    )
    return Alignment("clock", monotonic - utc + device_offset_secs - meter_offset_secs, 1.0, uncertainty, words)


def align_by_marker(trace: MeterTrace, events: Mapping[str, Any]) -> Alignment:
    """Align by the marker: its square waves are looked for in the trace, all of them at once.

    Raises :class:`AlignmentFailed` when there was no marker, the meter is too slow, or no place fits, or more than one.
    """
    waves = _waves(events)
    step = float(np.median(np.diff(trace.time_secs)))
    if step > SLOWEST_SAMPLE_SECS:
        raise AlignmentFailed(f"the meter samples every {step:.2g} s, too seldom for edges a second apart", "use --clock-offset")
    step = max(step, _FINEST_STEP_SECS)
    sampled = _resample(trace, step)
    fits = [_correlation(sampled, _template(times, values, step)) for times, values in waves]
    first = waves[0][0][0]
    joint = _joint(fits, [float(times[0] - first) for times, _ in waves], step)
    best = int(np.argmax(joint))
    rival = _rival(joint, best, step)
    if joint[best] < LEAST_CORRELATION:
        raise AlignmentFailed(
            f"the marker is not in this trace: the best place correlates by {joint[best]:.2f}, {LEAST_CORRELATION} is needed",
            "does the trace span the run, and measure this device's supply?",
        )
    if rival > MOST_RIVAL_SHARE * joint[best]:
        raise AlignmentFailed(
            f"the marker fits in more than one place of this trace (correlations {joint[best]:.2f} and {rival:.2f})",
            "cut the trace to the run, or align with --clock-offset",
        )
    offset = first - (float(trace.time_secs[0]) + best * step + _REST_SECS)
    return _refined(trace, waves, offset, step, float(joint[best]))


def _pair(conditions: Mapping[str, Any], when: str) -> tuple[float, float] | None:
    found = conditions.get(when)
    if not isinstance(found, Mapping):
        return None
    utc, monotonic = found.get("utc_unix_secs"), found.get("monotonic_ns")
    return (float(utc), monotonic / 1e9) if isinstance(utc, (int, float)) and isinstance(monotonic, int) else None


def _waves(events: Mapping[str, Any]) -> list[tuple[_Array, _Array]]:
    """The square waves that were made: times of their edges (device seconds) and the load after each."""
    code = protocol.EVENT_CODES.index("marker")
    rows = np.asarray(events["code"]) == code
    times = np.asarray(events["time_ns"])[rows].astype(np.float64) / 1e9
    values = np.asarray(events["value"])[rows].astype(np.float64)
    if len(times) < 4:
        raise AlignmentFailed("this run made no marker load", "ask for one with `soak: {marker: true}`, or align with --clock-offset")
    cuts = np.flatnonzero(np.diff(times) > _WAVE_GAP_SECS) + 1
    waves = [(a, b) for a, b in zip(np.split(times, cuts), np.split(values, cuts), strict=True) if len(a) >= 4]
    if not waves:
        raise AlignmentFailed("no marker load of this run was made to its end", "align with --clock-offset")
    return waves


def _template(times: _Array, values: _Array, step: float) -> _Array:
    """The wave on a grid that begins ``_REST_SECS`` before its first edge, made zero-mean and of unit length."""
    grid = np.arange(times[0] - _REST_SECS, times[-1] + _REST_SECS, step)
    place = np.searchsorted(times, grid, side="right")
    wave = np.where(place == 0, 0.0, values[np.maximum(place, 1) - 1])
    wave = wave - wave.mean()
    template: _Array = wave / np.linalg.norm(wave)
    return template


def _resample(trace: MeterTrace, step: float) -> _Array:
    """The trace's mean in steps of equal length: what is faster than the grid is averaged, not skipped."""
    time = trace.time_secs - trace.time_secs[0]
    integral = np.concatenate(([0.0], np.cumsum(np.diff(time) * (trace.power_mw[1:] + trace.power_mw[:-1]) / 2)))
    edges = np.arange(0.0, time[-1] + step, step)
    sampled: _Array = np.diff(np.interp(edges, time, integral)) / step
    return sampled


def _correlation(sampled: _Array, template: _Array) -> _Array:
    """Pearson's correlation of the template with every stretch of the trace."""
    count = len(template)
    if len(sampled) < count:
        return np.full(1, -1.0)
    centred = sampled - sampled.mean()
    dot = fftconvolve(centred, template[::-1], mode="valid")
    sums = np.concatenate(([0.0], np.cumsum(centred)))
    squares = np.concatenate(([0.0], np.cumsum(centred**2)))
    spread = squares[count:] - squares[:-count] - (sums[count:] - sums[:-count]) ** 2 / count
    floor = max(1e-12, 1e-9 * float(squares[-1]) / len(sampled) * count)
    result: _Array = np.where(spread > floor, dot / np.sqrt(np.maximum(spread, floor)), 0.0)
    return result


def _joint(fits: list[_Array], distances: list[float], step: float) -> _Array:
    """The mean correlation of all waves at once, the later ones where a clock may have drifted to."""
    shifts = [round(distance / step) for distance in distances]
    count = max(1, min(len(fit) - shift for fit, shift in zip(fits, shifts, strict=True)))
    total = np.zeros(count)
    for fit, shift, distance in zip(fits, shifts, distances, strict=True):
        room = round(distance * _MOST_DRIFT / step)
        near = maximum_filter1d(fit, 2 * room + 1) if room else fit
        part = near[shift : shift + count]
        total[: len(part)] += part
    joint: _Array = total / len(fits)
    return joint


def _rival(joint: _Array, best: int, step: float) -> float:
    room = round(_RIVAL_DISTANCE_SECS / step)
    others = np.concatenate((joint[: max(0, best - room)], joint[best + room + 1 :]))
    return float(others.max()) if len(others) else -1.0


def _refined(trace: MeterTrace, waves: list[tuple[_Array, _Array]], offset: float, step: float, correlation: float) -> Alignment:
    """Place every edge by where the power crosses the middle between its levels; two waves show the drift of the clocks, too."""
    edges, found = [], []
    for times, _ in waves:
        for edge in times:
            crossing = _crossing(trace, edge - offset)
            if crossing is not None:
                edges.append(edge)
                found.append(crossing)
    if len(edges) < 4:
        raise AlignmentFailed("the edges of the marker cannot be made out in this trace", "align with --clock-offset")
    device, meter = np.asarray(edges), np.asarray(found)
    rate = 1.0
    if np.ptp(device) > 2 * _WAVE_GAP_SECS:
        ahead = (device - device[0]) - (meter - meter[0])
        rate += float(np.clip(np.polyfit(meter - meter[0], ahead, 1)[0], -_MOST_DRIFT, _MOST_DRIFT))
    residuals = device - rate * meter
    placed = float(np.median(residuals))
    uncertainty = max(step / 2, float(np.sqrt(np.mean((residuals - placed) ** 2))))
    words = f"by the marker load: {len(edges)} edges, correlation {correlation:.2f}"
    words += f", the clocks drift by {1e6 * (rate - 1):+.0f} ppm" if rate != 1.0 else ""
    return Alignment("marker", placed, rate, uncertainty, f"{words}; uncertain by {uncertainty:.3f} s", correlation)


def _crossing(trace: MeterTrace, expected: float) -> float | None:
    """When the power crosses the middle of the levels around an edge (meter time); None where no such step is there."""
    first, last = np.searchsorted(trace.time_secs, (expected - 0.45, expected + 0.45))
    time, power = trace.time_secs[first:last], trace.power_mw[first:last]
    before, after = power[time < expected - 0.2], power[time > expected + 0.2]
    if len(before) < 1 or len(after) < 1:
        return None
    low, high = float(np.median(before)), float(np.median(after))
    middle, rises = (low + high) / 2, high > low
    if low == high:
        return None
    above = power > middle if rises else power < middle
    # The step is where most samples before it lie on one side and most after it on the other: noise crosses the middle, too.
    score = np.cumsum(~above) + np.concatenate((np.cumsum(above[::-1])[::-1][1:], [0]))
    place = int(np.argmax(score))
    if place + 1 >= len(time):
        return None
    a, b = float(power[place]), float(power[place + 1])
    share = 0.5 if a == b else float(np.clip((middle - a) / (b - a), 0.0, 1.0))
    return float(time[place] + share * (time[place + 1] - time[place]))
