"""Several soaks on one axis of time, and one soak's latency against its temperature and clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from orchestrator.report.figure import SERIES_COLORS, Axis, Color, Figure, FigureGroup, Line, Point, Rule, Stack
from orchestrator.report.inputs import SeriesLine, ThermalPanel, WindowLines
from orchestrator.report.thermal_axis import drawn_line, known_values, time_axis, value_axis
from orchestrator.report.thermal_words import finding, headline, seconds, short_name, sustained_share
from orchestrator.report.words import clean, counted, fixed, listed, number, shortened

#: More soaks than this in one figure are a tangle; colours repeat after six, dashed.
MOST_OVERLAID = 12

_STRIP_PX = 118
_MOST_POINTS = 100

#: Seconds, a value and the mean latency beside it.
Known: TypeAlias = list[tuple[float, float, float]]


def panel_look(index: int) -> tuple[Color, bool]:
    """Return the colour of a soak among others, and whether its lines are dashed."""
    return SERIES_COLORS[index % len(SERIES_COLORS)], index >= len(SERIES_COLORS)


def overlay_group(panels: Sequence[ThermalPanel]) -> FigureGroup | None:
    """Return soaks overlaid on one axis of time, or None for fewer than two."""
    if len(panels) < 2:
        return None
    shown = panels[:MOST_OVERLAID]
    start = min([panel.series.start_s for panel in shown])
    x = time_axis(start, max(max(panel.series.end_s for panel in shown), start + 1.0))
    strips = [_strip(x, shown, quantity) for quantity in _quantities()]
    rules = tuple(
        Rule("x", panel.story.onset.at_secs, panel_look(index)[0], dashed=True)
        for index, panel in enumerate(shown)
        if panel.story.onset is not None
    )
    drawn = tuple(replace(strip, rules=strip.rules + rules) for strip in strips if strip is not None)
    if not drawn:
        return None
    names = _names(shown, headline)
    legend = tuple((panel_look(index)[0], f"{name}{' (dashed)' if panel_look(index)[1] else ''}") for index, name in enumerate(names))
    title = f"{counted(len(shown), 'soak')} on one axis of time"
    summary = f"{title}: " + " ".join(f"{name}: {finding(panel.story)}" for name, panel in zip(names, shown, strict=True))
    words = _overlay_words(panels, shown, _names(shown, short_name))
    return FigureGroup("overlay", words, (Stack("overlay", "", summary, drawn),), legend, title)


def scatter_group(panel: ThermalPanel) -> FigureGroup | None:
    """Return latency against temperature and against the clock, or None where neither was measured beside it."""
    if panel.series.latency is None:
        return None
    bins = panel.series.latency
    figures = []
    for key, label, values in (
        ("temperature", "temperature of the control channel (°C)", bins.temperature_c),
        ("clock", "clock against its highest in this run (%)", tuple(None if share is None else 100 * share for share in bins.clock_share)),
    ):
        columns = zip(bins.time_s, values, bins.mean_ms, strict=True)
        known = _halved([(at, value, mean) for at, value, mean in columns if value is not None and mean is not None])
        # A value that never moved tells nothing of what latency does with it.
        if len({value for _, value, _ in known}) > 1:
            figures.append(_scatter(panel, key, label, known))
    if not figures:
        return None
    words = (
        "Means of every query’s invoke time over equal stretches of the load; over temperature, the line joins them in the order of time."
    )
    onset = panel.story.onset
    if onset is not None:
        words += f" Hollow before the first sign of throttling ({seconds(onset.at_secs)}), filled from then on."
    return FigureGroup(f"scatter-{panel.story.job_id}-{panel.story.attempt}", words, tuple(figures))


def _halved(known: Known) -> Known:
    """Join neighbours in time until a figure can hold them all."""
    while len(known) > _MOST_POINTS:
        pairs = zip(known[::2], known[1::2], strict=False)
        known = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2) for a, b in pairs]
    return known


def _scatter(panel: ThermalPanel, key: str, label: str, known: Known) -> Figure:
    onset = panel.story.onset
    points = tuple(
        Point(
            value,
            mean,
            "bad" if onset is not None and at >= onset.at_secs else "c0",
            "circle",
            onset is not None and at >= onset.at_secs,
            hover=f"after {seconds(at)}: {number(mean)} ms",
        )
        for at, value, mean in known
    )
    path = Line(tuple(value for _, value, _ in known), tuple(mean for _, _, mean in known), "muted", width_px=0.7, opacity=0.5)
    x = replace(value_axis([value for _, value, _ in known], about=6), title=label)
    means = [mean for _, _, mean in known]
    # Without a change to show, noise would fill the height.
    typical = sorted(means)[len(means) // 2]
    y = replace(value_axis([*means, 0.95 * typical, 1.05 * typical]), title="invoke (ms)")
    title = f"Latency against {key}"
    return Figure(
        f"scatter-{key}", title, f"{headline(panel)}: {title.lower()}", x, y, 260, points, (path,) if key == "temperature" else ()
    )


@dataclass(frozen=True)
class _Quantity:
    """What one strip shows of each soak; ``factor`` brings it to the unit of the title."""

    key: str
    title: str
    line_of: Callable[[ThermalPanel], SeriesLine | None]
    factor: float = 1.0
    from_zero: bool = True


def _quantities() -> tuple[_Quantity, ...]:
    return (
        _Quantity("temperature", "Control temperature (°C)", _control_line, from_zero=False),
        _Quantity("clock", "Clock (% of its highest)", _of_windows(lambda windows: windows.clock_percent)),
        _Quantity("power", "Power (W)", _of_windows(lambda windows: windows.power_mw), 1e-3),
        _Quantity("latency", "Invoke (ms)", _of_windows(lambda windows: windows.mean_ms), from_zero=False),
        _Quantity("rate", "Throughput (queries/s)", _of_windows(lambda windows: windows.rate_qps)),
    )


def _strip(x: Axis, panels: Sequence[ThermalPanel], quantity: _Quantity) -> Figure | None:
    lines: list[Line] = []
    values: list[float] = []
    for index, (panel, name) in enumerate(zip(panels, _names(panels, headline), strict=True)):
        line = quantity.line_of(panel)
        if line is not None:
            color, dashed = panel_look(index)
            look = Line((), (), color, width_px=1.4, step=quantity.key != "temperature", dashed=dashed, hover=name)
            lines += drawn_line(line, look, quantity.factor)
            values += [value * quantity.factor for value in known_values(line.values)]
    if not values:
        return None
    y = value_axis(values, from_zero=quantity.from_zero)
    return Figure(quantity.key, quantity.title, "", x, y, _STRIP_PX, lines=tuple(lines))


def _control_line(panel: ThermalPanel) -> SeriesLine | None:
    return next((line for line in panel.series.temperatures if line.name == panel.story.control_channel), None)


def _of_windows(values_of: Callable[[WindowLines], tuple[float | None, ...]]) -> Callable[[ThermalPanel], SeriesLine | None]:
    def line_of(panel: ThermalPanel) -> SeriesLine | None:
        windows = panel.series.windows
        return SeriesLine("", "", windows.time_s, values_of(windows)) if windows is not None else None

    return line_of


def _names(panels: Sequence[ThermalPanel], named: Callable[[ThermalPanel], str]) -> list[str]:
    """What each is named, with the job's id where two would be the same."""
    names = [named(panel) for panel in panels]
    jobs = [shortened(clean(panel.story.job_id, 64), 20) for panel in panels]
    return [name if names.count(name) == 1 else f"{name} ({job})" for name, job in zip(names, jobs, strict=True)]


def _overlay_words(panels: Sequence[ThermalPanel], shown: Sequence[ThermalPanel], names: Sequence[str]) -> str:
    throttled = [
        f"{name} after {seconds(panel.story.onset.at_secs)}"
        for name, panel in zip(names, shown, strict=True)
        if panel.story.throttled and panel.story.onset is not None
    ]
    words = (
        f"{len(throttled)} of {counted(len(shown), 'soak')} throttled: {listed(throttled, 6)}." if throttled else "None of them throttled."
    )
    shares = [(share, name) for name, panel in zip(names, shown, strict=True) if (share := sustained_share(panel.story)) is not None]
    if shares:
        low, high = min(shares), max(shares)
        words += f" Sustained/burst from {fixed(low[0], 2)} ({low[1]}) to {fixed(high[0], 2)} ({high[1]})."
    if len(panels) > len(shown):
        words += f" {counted(len(panels) - len(shown), 'further soak')} {'is' if len(panels) - len(shown) == 1 else 'are'} not drawn."
    return words + " All but temperature are means of each window. Dotted: each one’s first sign of throttling."
