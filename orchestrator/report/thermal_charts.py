"""One soak on one axis of time: temperature, clock, power, signs of throttling, latency and throughput, with events marked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.domain.thermal import Gap, ThermalFit, ThermalStory
from orchestrator.report.figure import (
    SERIES_COLORS,
    Axis,
    Band,
    Bar,
    Color,
    Figure,
    FigureGroup,
    Key,
    Line,
    Note,
    Point,
    Rule,
    Stack,
    log_axis,
    row_axis,
)
from orchestrator.report.inputs import LatencyBins, SeriesLine, ThermalPanel, WindowLines
from orchestrator.report.panels import rounded
from orchestrator.report.thermal_axis import channel_words, drawn_line, known_values, pieces, time_axis, value_axis
from orchestrator.report.thermal_words import finding, headline, seconds, surroundings
from orchestrator.report.words import clean, fixed, number, shortened

MOST_EVENTS = 12

_DRAWN_OTHERWISE = ("onset", "numbers_changed", "cooldown_started", "cooldown_ended")

_LANE_PX, _STRIP_PX, _TALL_PX, _STATE_PX = 19, 84, 128, 19
_FIT_POINTS = 40
_NOMINAL_PX = 820.0
_CHARACTER_PX = 6.2
_NAME_LIMIT = 26
#: A limit that lies further above the highest reading than this would flatten the line; the caption tells it.
_NEAR_LIMIT_C = 35.0
#: Above this ratio of the slowest query to the median of means, a logarithmic axis keeps both in sight.
_WIDE = 4.0


def soak_group(panel: ThermalPanel) -> FigureGroup:
    """Return the figure of one soak with its finding as the caption."""
    caption = " ".join(part for part in (finding(panel.story), surroundings(panel)) if part)
    return FigureGroup(f"soak-{panel.story.job_id}-{panel.story.attempt}", caption, (soak_stack(panel),), heading=headline(panel))


def soak_stack(panel: ThermalPanel) -> Stack:
    """Return everything one soak recorded, under each other on one axis of time."""
    series, story = panel.series, panel.story
    end = max(series.end_s, story.planned_secs if is_cut_short(story) else 0.0)
    x = time_axis(series.start_s, end if end > series.start_s else series.start_s + 1.0)
    marks = _marks(story)
    figures = [_events(x, story, marks, series.phases)]
    if series.temperatures:
        figures.append(_temperature(x, panel))
    if series.clocks:
        figures.append(_channels(x, "clock", "Clock (MHz)", series.clocks, 1e-3))
    if series.powers:
        figures.append(_channels(x, "power", "Power (W)", series.powers, 1e-3))
    if series.states:
        figures.append(_states(x, panel))
    if series.latency is not None:
        figures.append(_latency(x, series.latency))
    if series.windows is not None:
        figures.append(_rate(x, series.windows))
    bands, rules = tuple(_gaps(story, end)), tuple(mark.rule for mark in marks)
    return Stack(
        f"soak-{story.job_id}-{story.attempt}",
        "",
        f"{headline(panel)} over time. {finding(story)}",
        tuple(replace(figure, bands=bands + figure.bands, rules=figure.rules + rules) for figure in figures),
    )


@dataclass(frozen=True)
class _Mark:
    """An event on the axis of time: a rule through all figures, and its words in a lane above them."""

    at_s: float
    text: str
    words: str
    grave: bool

    @property
    def rule(self) -> Rule:
        return Rule("x", self.at_s, "bad" if self.grave else "muted", dashed=not self.grave)


def _marks(story: ThermalStory) -> list[_Mark]:
    """Onset, the first changed probe, the end of an attempt cut short, gaps, and the story's own events, the grave ones first."""
    found = []
    if story.onset is not None:
        found.append(_Mark(story.onset.at_secs, f"throttled {seconds(story.onset.at_secs)}", clean(story.onset.words, 200), True))
    if story.probe.changes:
        first = min(story.probe.changes, key=lambda change: change.first_at_secs)
        found.append(_Mark(first.first_at_secs, "numbers changed", f"sample {first.sample} answered otherwise than cold", True))
    if is_cut_short(story):
        found.append(_Mark(story.steady_secs, "attempt cut short", f"after {seconds(story.steady_secs)}", True))
    for gap in story.gaps:
        if not (is_cut_short(story) and gap.start_secs >= story.steady_secs):
            found.append(_Mark(gap.start_secs, _gap_text(gap), clean(gap.words, 200), False))
    told: set[str] = set()
    for event in story.events:
        # A marker has many edges, and a phase is a bar of its own.
        if event.name not in _DRAWN_OTHERWISE and not (event.name == "marker" and event.name in told):
            told.add(event.name)
            name = clean(event.name, 40).replace("_", " ")
            found.append(_Mark(event.at_secs, name, clean(event.words, 200), "stop" in event.name))
    return found[:MOST_EVENTS]


def _events(x: Axis, story: ThermalStory, marks: list[_Mark], phases: tuple[tuple[str, float, float], ...]) -> Figure:
    """Phases as bars in the first lane, events as marks in as many lanes as keep their words apart."""
    lanes: list[list[tuple[float, float]]] = [[]]
    points: list[Point] = []
    notes: list[Note] = []
    bars: list[Bar] = []
    px = _NOMINAL_PX / (x.high - x.low)
    parts = [*phases, ("load", 0.0, story.steady_secs)] if story.steady_secs > 0 else list(phases)
    for name, start, end in parts:
        start, end = max(start, x.low), min(end, x.high)
        if end > start:
            bars.append(Bar(0.0, start, end, "c0" if name == "load" else "muted", "", f"{name}: {seconds(end - start)}", 0.22))
            if (end - start) * px > len(name) * _CHARACTER_PX + 6:
                notes.append(Note((start + end) / 2, 0.0, name, "center", "ink", True))
    for mark in sorted(marks, key=lambda mark: (not mark.grave, mark.at_s)):
        if not x.low <= mark.at_s <= x.high:
            continue
        at_px = (mark.at_s - x.low) * px
        width = len(mark.text) * _CHARACTER_PX + 16
        on_left = at_px + width > _NOMINAL_PX
        box = (at_px - width, at_px + 6) if on_left else (at_px - 6, at_px + width)
        lane = next(
            (index for index in range(1, len(lanes)) if all(box[1] < low or box[0] > high for low, high in lanes[index])), len(lanes)
        )
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append(box)
        color: Color = "bad" if mark.grave else "muted"
        points.append(Point(mark.at_s, float(lane), color, "triangle-down", mark.grave, hover=f"{mark.text}\n{mark.words}".strip()))
        shift = 8 / px
        notes.append(
            Note(mark.at_s + (-shift if on_left else shift), float(lane), mark.text, "right" if on_left else "left", keep=mark.grave)
        )
    y = Axis("", len(lanes) - 0.5, -0.5, ())
    return Figure("events", "Events", "", x, y, _LANE_PX * len(lanes), tuple(points), bars=tuple(bars), notes=tuple(notes))


def _temperature(x: Axis, panel: ThermalPanel) -> Figure:
    story, series = panel.story, panel.series
    lines: list[Line] = []
    legend = []
    for index, line in enumerate(series.temperatures):
        color, name = SERIES_COLORS[index % len(SERIES_COLORS)], channel_words(line.name)
        ambient = line.name.startswith("ambient.")
        width = 1.6 if line.name == story.control_channel else 1.0
        lines += drawn_line(line, Line((), (), color, hover=clean(name, 40), width_px=width, dashed=ambient))
        legend.append(Key(color, shortened(clean(name, 60), _NAME_LIMIT), ambient))
    fits = [_fitted(fit) for fit in story.fits if fit.offered and fit.steady_c is not None]
    if fits:
        lines += fits
        legend.append(Key("ink", "fit", True))
    values = known_values(*(line.values for line in series.temperatures))
    levels: list[tuple[float, Color, str]] = []
    if story.limit_c is not None and story.limit_c <= max(values) + _NEAR_LIMIT_C:
        levels.append((story.limit_c, "bad", f"limit {number(story.limit_c)} °C"))
    measured = any(line.name.startswith("ambient.") for line in series.temperatures)
    if story.ambient_c is not None and not measured and story.ambient_c >= min(values) - _NEAR_LIMIT_C:
        levels.append((story.ambient_c, "muted", f"ambient {fixed(story.ambient_c)} °C"))
    y = value_axis([*values, *(level for level, _, _ in levels)])
    if levels:
        y = replace(y, high=y.high + (y.high - y.low) * 0.08)
    lift = (y.high - y.low) * 0.07
    notes = tuple(Note(x.high, level + lift, text, "right", color if color != "bad" else "ink") for level, color, text in levels)
    rules = tuple(Rule("y", level, color, dashed=True) for level, color, _ in levels)
    return Figure("temperature", "Temperature (°C)", "", x, y, _TALL_PX, (), tuple(lines), (), rules, (), notes, tuple(legend))


def _fitted(fit: ThermalFit) -> Line:
    """The offered model over its own segment."""
    secs = np.linspace(fit.start_secs, fit.end_secs, _FIT_POINTS)
    celsius = np.full(_FIT_POINTS, fit.steady_c.value if fit.steady_c is not None else np.nan)
    for amplitude, tau in zip(fit.amplitude_c, fit.tau_secs, strict=True):
        celsius -= amplitude * np.exp(-(secs - fit.start_secs) / tau.value)
    return Line(tuple(rounded(list(secs))), tuple(rounded(list(celsius))), "ink", width_px=1.0, dashed=True, hover=f"fit, {fit.segment}")


def _channels(x: Axis, key: str, title: str, found: tuple[SeriesLine, ...], factor: float) -> Figure:
    lines: list[Line] = []
    legend = []
    for index, line in enumerate(found):
        color, name = SERIES_COLORS[index % len(SERIES_COLORS)], channel_words(line.name)
        lines += drawn_line(line, Line((), (), color, hover=clean(name, 40), step=True), factor)
        legend.append(Key(color, shortened(clean(name, 60), _NAME_LIMIT)))
    y = value_axis([value * factor for value in known_values(*(line.values for line in found))], from_zero=True)
    return Figure(key, title, "", x, y, _STRIP_PX, lines=tuple(lines), legend=tuple(legend))


def _states(x: Axis, panel: ThermalPanel) -> Figure:
    """One row for each flag or cooling device; the darker, the nearer to its highest level."""
    bars = []
    for index, state in enumerate(panel.series.states):
        # A fan at work is no throttling.
        color: Color = "c2" if "fan" in state.name else "bad"
        for start, end, share in state.stretches:
            start, end = max(start, x.low), min(end, x.high)
            if end > start:
                hover = f"{state.words}: {_level(state.highest, share)}"
                bars.append(Bar(float(index), start, end, color, "", hover, 0.25 + 0.75 * share))
    y = row_axis([shortened(state.words, _NAME_LIMIT) for state in panel.series.states])
    return Figure("states", "Flags and cooling", "", x, y, _STATE_PX * len(panel.series.states) + 6, bars=tuple(bars))


def _level(highest: float, share: float) -> str:
    return "set" if highest == 1 else f"up to {number(highest * share)}"


def _latency(x: Axis, bins: LatencyBins) -> Figure:
    """The mean of each bin as a line inside of the area between its quickest and its slowest query."""
    lines: list[Line] = []
    low_at = {time: low for time, low in zip(bins.time_s, bins.low_ms, strict=True) if low is not None}
    for times, highs in pieces(bins.time_s, bins.high_ms):
        lows = tuple(low_at[time] for time in times)
        if len(times) == 1:
            half = bins.width_s / 2
            times, highs, lows = (times[0] - half, times[0] + half), highs * 2, lows * 2
        lines.append(Line((*times, *reversed(times)), (*highs, *reversed(lows)), "c4", True, 0.6, 0.7))
    for times, means in pieces(bins.time_s, bins.mean_ms):
        lines.append(Line(times, means, "c0", width_px=1.8, hover="mean ms"))
    typical = float(np.median(known_values(bins.mean_ms)))
    extremes = known_values(bins.low_ms, bins.high_ms)
    wide = max(extremes) > _WIDE * typical and min(extremes) > 0
    y = _sparse(log_axis("", min(extremes) / 1.1, max(extremes) * 1.1)) if wide else value_axis(extremes)
    legend = (Key("c0", f"mean of {number(bins.width_s)} s"), Key("c4", "fastest to slowest"))
    title = f"Invoke (ms{', logarithmic' if wide else ''})"
    return Figure("latency", title, "", x, y, _TALL_PX, (), tuple(lines), legend=legend)


def _sparse(axis: Axis) -> Axis:
    """A low figure has room for a few ticks: powers of ten where there are more."""
    powers = tuple((at, text) for at, text in axis.ticks if abs(math.log10(at) - round(math.log10(at))) < 1e-9)
    return axis if len(axis.ticks) <= 5 else replace(axis, ticks=powers)


def _rate(x: Axis, windows: WindowLines) -> Figure:
    rate = SeriesLine("rate", "1/s", windows.time_s, windows.rate_qps)
    lines = tuple(drawn_line(rate, Line((), (), "c2", hover="queries/s", step=True, width_px=1.6)))
    y = value_axis(known_values(rate.values), from_zero=True, about=3)
    return Figure("rate", "Throughput (queries/s of each window)", "", x, y, _STRIP_PX, lines=lines)


def _gaps(story: ThermalStory, end_s: float) -> list[Band]:
    """Where nothing was recorded although something should have been; what an attempt cut short did not reach is among it."""
    ends = [(gap.start_secs, min(gap.end_secs if gap.end_secs is not None else end_s, end_s)) for gap in story.gaps]
    return [Band("x", start, end, "c1", 0.25) for start, end in ends if start < end]


def _gap_text(gap: Gap) -> str:
    return "gap" if gap.end_secs is None else f"gap of {seconds(gap.end_secs - gap.start_secs)}"


def is_cut_short(story: ThermalStory) -> bool:
    """Whether a failure ended the attempt, not its time and no rule of its own."""
    return not story.complete and story.stopped is None
