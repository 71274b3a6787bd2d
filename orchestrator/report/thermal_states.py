"""When flags were set, cooling devices at work and quotas in force: rows of bars in the figure of a soak."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.thermal_run import Series
from orchestrator.report.inputs import SeriesState
from orchestrator.report.words import clean

MOST_ROWS = 8
MOST_STRETCHES = 60

#: Beginning of a channel's name, and what its row is called; in the order in which rows stand.
_FLAGS = (
    ("throttled.", "throttled"),
    ("soft_temperature_limit.", "soft limit"),
    ("frequency_capped.", "frequency capped"),
    ("under_voltage.", "under-voltage"),
    ("over_current.", "over-current"),
    ("thermal_status.", "thermal status"),
    ("cooling.", "cooling"),
    ("cgroup.throttled_secs", "CPU quota"),
    ("fan.", "fan"),
)
_COUNTERS = ("over_current.", "cgroup.throttled_secs")
#: What an emulated CPU may not tell: how long it was held back is a measure of how much it worked.
_OF_SPEED = ("cgroup.",)


def states_of(channels: Mapping[str, Series], withheld: bool) -> tuple[SeriesState, ...]:
    """Return a row for every flag, cooling device, fan or quota that was ever above nothing, the surest signs first."""
    found = []
    for prefix, word in _FLAGS:
        for name in sorted(channels):
            if not name.startswith(prefix) or (withheld and name.startswith(_OF_SPEED)) or name.endswith("_rpm"):
                continue
            series = _growth(channels[name]) if prefix in _COUNTERS else channels[name]
            highest = float(series.value.max()) if series.value.size else 0.0
            if highest > 0:
                found.append(SeriesState(name, _words(word, name[len(prefix) :]), highest, _stretches(series, highest)))
    return tuple(found[:MOST_ROWS])


def _words(word: str, rest: str) -> str:
    for ending in ("_level", "_events", "_secs"):
        rest = rest.removesuffix(ending)
    return f"{word}: {clean(rest, 40)}" if rest else word


def _growth(series: Series) -> Series:
    """How fast a counter grew until its next reading; a counter that began anew has not grown."""
    steps = np.diff(series.secs)
    grown = np.divide(np.maximum(np.diff(series.value), 0.0), steps, out=np.zeros(steps.size), where=steps > 0)
    return Series(series.secs[:-1], grown)


def _stretches(series: Series, highest: float) -> tuple[tuple[float, float, float], ...]:
    """Each reading holds until the next one, or for one period where none follows soon. Equal neighbours are one stretch."""
    secs, value = series.secs, series.value
    period = float(np.median(np.diff(secs))) if secs.size > 1 else 1.0
    ends = np.append(secs[1:], secs[-1] + period)
    ends = np.minimum(ends, secs + max(1.0, 5 * period))
    shades = np.clip(value / highest, 0.0, 1.0)
    joined = _joined(secs, ends, _stepped(shades))
    return joined if len(joined) <= MOST_STRETCHES else _joined(*_averaged(secs, ends, shades))


def _stepped(shades: FloatArray) -> FloatArray:
    """Four shades are what an eye tells apart; whatever is not nothing gets at least the lightest."""
    steps: FloatArray = np.ceil(4 * shades - 1e-9) / 4
    return steps


def _joined(secs: FloatArray, ends: FloatArray, shades: FloatArray) -> tuple[tuple[float, float, float], ...]:
    apart = (shades[1:] != shades[:-1]) | (secs[1:] - ends[:-1] > 1e-9)
    first = np.append(0, np.flatnonzero(apart) + 1)
    last = np.append(first[1:] - 1, shades.size - 1)
    return tuple(
        (float(f"{secs[begin]:.5g}"), float(f"{ends[end]:.5g}"), float(shades[begin]))
        for begin, end in zip(first, last, strict=True)
        if shades[begin] > 0
    )


def _averaged(secs: FloatArray, ends: FloatArray, shades: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Equal stretches of the whole time, cut to where the level was above nothing in each, with the mean level there."""
    moments, silent = np.column_stack([secs, ends]).reshape(-1), np.zeros(secs.size)
    level = np.append(0.0, np.cumsum(np.column_stack([(ends - secs) * shades, silent]).reshape(-1)))[:-1]
    edges = np.linspace(float(secs[0]), float(ends[-1]), MOST_STRETCHES + 1)
    active_secs, active_ends = secs[shades > 0], ends[shades > 0]
    first = np.searchsorted(active_ends, edges[:-1], "right")
    last = np.searchsorted(active_secs, edges[1:], "left") - 1
    some = first <= last
    starts = np.maximum(edges[:-1][some], active_secs[first[some]])
    stops = np.minimum(edges[1:][some], active_ends[last[some]])
    means = (np.interp(stops, moments, level) - np.interp(starts, moments, level)) / np.maximum(stops - starts, 1e-9)
    return starts, stops, _stepped(np.clip(means, 0.0, 1.0))
