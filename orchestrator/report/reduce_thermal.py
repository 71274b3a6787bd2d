"""From everything a soak recorded to what its figures can show: pure functions over arrays.

A few hundred points of each channel stay, extremes among them; a gap stays a gap. Of the queries stay bins with mean and extremes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from tsdownsample import MinMaxLTTBDownsampler

from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.thermal_run import Series, SoakRun
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import ThermalStory
from orchestrator.report.inputs import LatencyBins, SeriesLine, ThermalSeries, WindowLines
from orchestrator.report.reading import WITHHELD
from orchestrator.report.thermal_states import states_of

LATENCY_BINS = 180
CHANNEL_POINTS = 160
MOST_WINDOWS = 160
MOST_TEMPERATURES = 4
MOST_CLOCKS = 3
MOST_POWERS = 3

#: Fewer queries than this in a bin, on average, and their number would say more of the bin than of the device.
_QUERIES_PER_BIN = 4
_SHORTEST_BIN_SECS = 1.0
#: A channel that was silent for longer has a gap: so many of its periods, and no less than that many seconds.
_GAP_PERIODS = 5.0
_GAP_SECS = 1.0


def reduce_soak(story: ThermalStory, run: SoakRun) -> ThermalSeries:
    """Reduce one attempt, as :func:`orchestrator.analysis.thermal_run.lay_out` gives it, to what is drawn of it.

    Of an emulated CPU, nothing is kept that would tell its speed: no latency, rate, clock or load.
    """
    withheld = run.emulated is Emulation.CPU
    temperatures = _temperatures(story, run)
    clocks = {} if withheld else _chosen(_without_twins(run.named("clock.")), MOST_CLOCKS, story)
    powers = _chosen(run.named("power."), MOST_POWERS, story, first=("power.board_mw",))
    candidates = len([name for name in run.channels if name.startswith(("thermal.", "hwmon.", "ambient.")) and name.endswith("_c")])
    latency = None if withheld else bin_latency(run, run.channels.get(story.control_channel or ""), next(iter(clocks.values()), None))
    phases = _phases(run)
    ends = [series.secs[index] for series in temperatures.values() for index in (0, -1)]
    return ThermalSeries(
        start_s=_short(min([0.0, run.load_start, *(run.rest or ()), *ends])),
        end_s=_short(max([run.steady_secs, run.last_query_end, *ends, *(end for _, _, end in phases)])),
        phases=phases,
        temperatures=_lines(temperatures, run, "°C"),
        clocks=_lines(clocks, run, "kHz"),
        powers=_lines(powers, run, "mW") or _power_of_windows(story),
        states=states_of(run.channels, withheld),
        latency=latency,
        windows=None if withheld else _windows(story),
        left_out=max(0, candidates - len(temperatures)),
    )


def shown_story(story: ThermalStory, emulated: Emulation) -> ThermalStory:
    """Return what of a story may be shown: when an emulated CPU began to throttle would tell of its speed."""
    if emulated is not Emulation.CPU:
        return story
    events = tuple(event for event in story.events if event.name != "onset")
    return story.model_copy(
        update={"throttled": None, "onset": None, "throttle_words": WITHHELD, "events": events, "fits": (), "predictions": ()}
    )


def bin_latency(run: SoakRun, control: Series | None, clock: Series | None) -> LatencyBins | None:
    """Bin every steady query by its end; None when there is none. Six million take a fraction of a second."""
    count = int(run.steady_end.size)
    if count == 0 or run.steady_secs <= 0:
        return None
    bins = max(1, min(LATENCY_BINS, count // _QUERIES_PER_BIN, int(run.steady_secs / _SHORTEST_BIN_SECS)))
    edges = np.linspace(0.0, run.steady_secs, bins + 1)
    bounds = np.searchsorted(run.steady_end, edges, "right")
    bounds[0], bounds[-1] = 0, count
    filled = np.flatnonzero(np.diff(bounds))
    mean, low, high = (np.full(bins, np.nan) for _ in range(3))
    starts = bounds[filled]
    mean[filled] = np.add.reduceat(run.steady_invoke_ns, starts, dtype=np.float64) / np.diff(bounds)[filled] / 1e6
    low[filled] = np.minimum.reduceat(run.steady_invoke_ns, starts) / 1e6
    high[filled] = np.maximum.reduceat(run.steady_invoke_ns, starts) / 1e6
    shares = _means(clock, edges) / float(clock.value.max()) if clock is not None and clock.value.max() > 0 else np.full(bins, np.nan)
    return LatencyBins(
        width_s=_short(edges[1] - edges[0]),
        count=count,
        time_s=tuple(_short(value) for value in (edges[:-1] + edges[1:]) / 2),
        mean_ms=_known(mean),
        low_ms=_known(low),
        high_ms=_known(high),
        temperature_c=_known(_means(control, edges)),
        clock_share=_known(shares),
    )


def thin(series: Series, gap_secs: float, points: int = CHANNEL_POINTS) -> tuple[tuple[float, ...], tuple[float | None, ...]]:
    """Thin readings to about ``points``, each stretch between two gaps in proportion; None stands between the stretches.

    Extremes are kept (MinMaxLTTB: Van Der Donckt et al. 2023, arXiv 2305.00332).
    """
    cuts = np.flatnonzero(np.diff(series.secs) > gap_secs) + 1
    if cuts.size > points // 8:
        # A channel with hundreds of gaps would be drawn as dust: the longest ones are shown.
        longest = np.argsort(-np.diff(series.secs)[cuts - 1], kind="stable")[: points // 8]
        cuts = np.sort(cuts[longest])
    times: list[float] = []
    values: list[float | None] = []
    for secs, value in zip(np.split(series.secs, cuts), np.split(series.value, cuts), strict=True):
        if times:
            times.append(_short((times[-1] + float(secs[0])) / 2))
            values.append(None)
        room = max(4, 2 * round(points * secs.size / series.secs.size / 2))
        if secs.size > room:
            chosen = MinMaxLTTBDownsampler().downsample(  # type: ignore[no-untyped-call]
                np.ascontiguousarray(secs), np.ascontiguousarray(value, dtype=np.float64), n_out=room
            )
            secs, value = secs[chosen], value[chosen]
        times += [_short(item) for item in secs]
        values += [_short(item) for item in value]
    return tuple(times), tuple(values)


def gap_secs(series: Series) -> float:
    """Return how long a channel must have been silent for a gap, from its own period."""
    return max(_GAP_SECS, _GAP_PERIODS * _period(series))


def _period(series: Series) -> float:
    return float(np.median(np.diff(series.secs))) if series.secs.size > 1 else 0.0


def _temperatures(story: ThermalStory, run: SoakRun) -> dict[str, Series]:
    """The control temperature, the ambient one, then the hottest; voltage regulators and the like only where there is room."""
    zones = run.named("thermal.") | {name: series for name, series in run.named("hwmon.").items() if name.endswith("_c")}
    return _chosen(zones | run.named("ambient."), MOST_TEMPERATURES, story, first=tuple(run.named("ambient.")))


def _chosen(found: Mapping[str, Series], most: int, story: ThermalStory, first: Sequence[str] = ()) -> dict[str, Series]:
    preferred = (story.control_channel, "clock.arm_khz", *first)
    ranked = sorted(
        (name for name, series in found.items() if series.secs.size),
        key=lambda name: (preferred.index(name) if name in preferred else len(preferred), -float(found[name].value.max()), name),
    )
    return {name: found[name] for name in ranked[:most]}


def _without_twins(found: Mapping[str, Series]) -> dict[str, Series]:
    """Cores that are clocked together give one line."""
    kept: dict[str, Series] = {}
    for name, series in sorted(found.items()):
        if not any(np.array_equal(series.value, other.value) for other in kept.values()):
            kept[name] = series
    return kept


def _lines(found: Mapping[str, Series], run: SoakRun, unit: str) -> tuple[SeriesLine, ...]:
    units = {sensor.name: sensor.unit for sensor in run.sensors}
    return tuple(SeriesLine(name, units.get(name) or unit, *thin(series, gap_secs(series))) for name, series in found.items())


def _phases(run: SoakRun) -> tuple[tuple[str, float, float], ...]:
    found = [("idle", *run.rest)] if run.rest else []
    if run.load_start < 0:
        found.append(("load before the measured part", run.load_start, 0.0))
    begun, ended = run.event_times("cooldown_started"), run.event_times("cooldown_ended")
    if begun.size:
        last = float(ended[-1]) if ended.size else float(run.telemetry_secs[-1]) if run.telemetry_secs.size else float(begun[0])
        found.append(("cool-down", float(begun[0]), last))
    return tuple((name, _short(start), _short(end)) for name, start, end in found)


def _windows(story: ThermalStory) -> WindowLines | None:
    """Thin the windows by their rate; with the slowest and the fastest, the other values of the same windows are kept."""
    windows = story.windows
    if not windows:
        return None
    chosen = np.arange(len(windows))
    if len(windows) > MOST_WINDOWS:
        starts = np.array([window.start_secs for window in windows])
        rates = np.array([window.rate_qps for window in windows])
        chosen = MinMaxLTTBDownsampler().downsample(starts, rates, n_out=MOST_WINDOWS)  # type: ignore[no-untyped-call]
    kept = [windows[int(index)] for index in chosen]
    kept.append(kept[-1])
    return WindowLines(
        time_s=(*(_short(window.start_secs) for window in kept[:-1]), _short(kept[-1].end_secs)),
        rate_qps=tuple(_short(window.rate_qps) for window in kept),
        mean_ms=tuple(_maybe(window.mean_invoke_ms) for window in kept),
        clock_percent=tuple(_maybe(window.clock_ratio, 100.0) for window in kept),
        power_mw=tuple(_maybe(window.power_mw) for window in kept),
    )


def _power_of_windows(story: ThermalStory) -> tuple[SeriesLine, ...]:
    """Power that only an imported trace knows has reached the windows, and no channel."""
    known = [((window.start_secs + window.end_secs) / 2, window.power_mw) for window in story.windows if window.power_mw is not None]
    if not known:
        return ()
    series = Series(np.array([at for at, _ in known]), np.array([value for _, value in known]))
    return (SeriesLine("power of windows", "mW", *thin(series, gap_secs(series))),)


def _means(series: Series | None, edges: FloatArray) -> FloatArray:
    """Means of the readings between edges; a bin without one takes the reading before it, unless that is more than two periods old."""
    means = np.full(edges.size - 1, np.nan)
    if series is None or not series.secs.size:
        return means
    bounds = np.searchsorted(series.secs, edges, "left")
    counts = np.diff(bounds)
    filled = np.flatnonzero(counts)
    if filled.size:
        within = series.value[: bounds[-1]]
        means[filled] = np.add.reduceat(within, bounds[filled]) / counts[filled]
    before = bounds[:-1] - 1
    # A bin that a gap cuts holds readings of one end alone: their mean would be of another time than its queries.
    period = _period(series)
    if period > 0:
        means[counts < 0.75 * np.floor(np.diff(edges) / period)] = np.nan
    fresh = (counts == 0) & (before >= 0)
    fresh[fresh] = edges[:-1][fresh] - series.secs[before[fresh]] <= 2 * period
    means[fresh] = series.value[before[fresh]]
    return means


def _known(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else _short(value) for value in values)


def _short(value: float | npt.NDArray[np.float64]) -> float:
    """Five digits: more than a figure can show."""
    return float(f"{float(value):.5g}")


def _maybe(value: float | None, factor: float = 1.0) -> float | None:
    return None if value is None else _short(value * factor)
