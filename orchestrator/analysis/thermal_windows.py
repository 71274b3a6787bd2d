"""Windows of the steady part, and what they say: sustained against burst, stability, degradation.

sustained/burst: completions per second of the last whole window against the first. stability: 100 · worst / best window (3DMark's stress
tests pass at 97). degradation: 100 · (mean invoke of the last window / of the first − 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.thermal_run import Series, SoakRun
from orchestrator.domain.thermal import LoadWindow

#: A soak with more windows than this gets wider ones: a story is read by people.
MOST_WINDOWS = 5_000
#: The last window counts as whole when no more than this share of it is missing.
_NEARLY_WHOLE = 0.005


@dataclass(frozen=True)
class Windows:
    """The whole windows of the steady part; arrays of shape (windows,). Means and medians are NaN where no query ended.

    ``rate_qps`` counts completions per second of the time that was the load's own: what probes took is left out.
    """

    secs: float
    start: FloatArray
    end: FloatArray
    completions: NDArray[np.int64]
    rate_qps: FloatArray
    mean_ms: FloatArray
    median_ms: FloatArray
    max_ms: FloatArray


def cut_windows(run: SoakRun) -> Windows:
    """Cut the steady part into whole windows of the width asked for, wider where there would be more than MOST_WINDOWS.

    A query belongs to the window in which it ended; what is left after the last whole window is left out.
    """
    width = run.soak.window_secs
    while run.steady_secs / width > MOST_WINDOWS:
        width *= 2
    count = int(run.steady_secs / width + _NEARLY_WHOLE)
    edges: FloatArray = np.arange(count + 1, dtype=np.float64) * width
    start = edges[:-1]
    end: FloatArray = np.minimum(edges[1:], max(run.steady_secs, 0.0))
    # A query that ends exactly on an edge ended in the window before it.
    bounds = np.searchsorted(run.steady_end, np.concatenate([[-np.inf], edges[1:]]) if count else edges[:0], "right")
    completions = np.diff(bounds).astype(np.int64) if count else np.empty(0, dtype=np.int64)
    mean, median, largest = (np.full(count, np.nan) for _ in range(3))
    for index in np.flatnonzero(completions):
        part = run.steady_invoke_ns[bounds[index] : bounds[index + 1]]
        mean[index] = part.mean(dtype=np.float64) / 1e6
        median[index] = np.median(part) / 1e6
        largest[index] = int(part.max()) / 1e6
    own = end - start - _overlap(run.probe_start, run.probe_end, start, end)
    rate = np.divide(completions, own, out=np.zeros(count), where=own > 0)
    return Windows(width, start, end, completions, rate, mean, median, largest)


def load_windows(windows: Windows, control: Series | None, clock: Series | None, power: Series | None) -> tuple[LoadWindow, ...]:
    """Give the windows as a story holds them; ``clock`` is a ratio. A channel without a reading in a window is None there."""
    beside = [_means(series, windows) for series in (control, clock, power)]
    return tuple(
        LoadWindow(
            start_secs=float(windows.start[index]),
            end_secs=float(windows.end[index]),
            completions=int(windows.completions[index]),
            rate_qps=float(windows.rate_qps[index]),
            mean_invoke_ms=_known(windows.mean_ms[index]),
            median_invoke_ms=_known(windows.median_ms[index]),
            max_invoke_ms=_known(windows.max_ms[index]),
            temperature_c=_known(beside[0][index]),
            clock_ratio=_known(beside[1][index]),
            power_mw=_known(beside[2][index]),
        )
        for index in range(windows.start.size)
    )


def _overlap(starts: FloatArray, ends: FloatArray, window_start: FloatArray, window_end: FloatArray) -> FloatArray:
    """Return how many seconds of each window lie inside of the stretches, which are ascending and do not overlap one another."""
    if not starts.size:
        return np.zeros(window_start.size)
    before = np.concatenate([[0.0], np.cumsum(ends - starts)])

    def until(moment: FloatArray) -> FloatArray:
        begun = np.searchsorted(starts, moment, "right")
        unfinished = np.where(begun > 0, np.maximum(ends[begun - 1] - moment, 0.0), 0.0)
        elapsed: FloatArray = before[begun] - unfinished
        return elapsed

    return until(window_end) - until(window_start)


def _means(series: Series | None, windows: Windows) -> FloatArray:
    means = np.full(windows.start.size, np.nan)
    if series is None:
        return means
    for index, (start, end) in enumerate(zip(windows.start, windows.end, strict=True)):
        value = series.between(float(start), float(end)).value
        if value.size:
            means[index] = value.mean()
    return means


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
