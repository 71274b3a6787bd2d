"""Figures of time and of the sensors beside it, as descriptions: what is drawn, and the sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.states import Emulation
from orchestrator.report.figure import Bar, Color, Figure, FigureGroup, Line, Point, linear_axis, log_axis, row_axis
from orchestrator.report.panels import MAX_PANELS, Look, all_rows, left_out_words, panel_summary, panels_of, rounded
from orchestrator.report.reading import Matrix, Place, Row
from orchestrator.report.words import clean, counted, fixed, number, whole

_ROW_PX = 26
_OUTLINE_ROW_PX = 34
_FRAME_PX = 56
_MAX_LINES = 24


def distributions(matrix: Matrix, look: Look, model: str) -> FigureGroup | None:
    """The shape of steady latency: an outline for each repeat, the median and the 90th percentile on it, extremes as a thin line."""
    panels, left_out = panels_of(matrix, model, lambda row: bool(row.distributions))
    figures: list[Figure] = []
    for place, rows in panels:
        ordered = sorted(rows, key=lambda row: row.latency("latency_ms.p50").value or row.distributions[0].edges_ms[0])
        lines, points = [], []
        for index, row in enumerate(ordered):
            color = look.color(row)
            base = index + 0.36
            extremes = (min(item.min_ms for item in row.distributions), max(item.max_ms for item in row.distributions))
            lines.append(Line(extremes, (base, base), "muted", width_px=0.8))
            highest = max(share for item in row.distributions for share in item.shares) or 1.0
            for item in row.distributions:
                middles = [(a * b) ** 0.5 for a, b in zip(item.edges_ms, item.edges_ms[1:], strict=False)]
                xs = (item.edges_ms[0], *middles, item.edges_ms[-1])
                ys = (base, *(base - 0.8 * share / highest for share in item.shares), base)
                lines.append(Line(tuple(rounded(xs, 4)), tuple(rounded(ys, 3)), color, True, 1.0, 0.75))
            p50, p90 = row.latency("latency_ms.p50"), row.latency("latency_ms.p90")
            queries = whole(sum(item.count for item in row.distributions))
            hover = f"{row.name}\np50 {number(p50.value)} ms, p90 {number(p90.value)} ms"
            hover += f"\n{counted(len(row.distributions), 'repeat')}, {queries} queries"
            if p50.value is not None:
                points.append(Point(p50.value, base, color, look.shape(place), True, hover=hover))
            if p90.value is not None:
                points.append(Point(p90.value, base, color, "tick", True, hover=hover))
        low = min(item.min_ms for row in rows for item in row.distributions)
        high = max(item.max_ms for row in rows for item in row.distributions)
        x = log_axis("latency of one query, end to end (ms, logarithmic)", low / 1.06, high * 1.06)
        height = _FRAME_PX + _OUTLINE_ROW_PX * len(ordered)
        figures.append(
            Figure(
                f"distribution-{len(figures)}",
                look.title(place),
                panel_summary("Latency distribution", place, rows),
                x,
                row_axis([row.name for row in ordered]),
                height,
                tuple(points),
                tuple(lines),
            )
        )
    if not figures:
        return None
    return FigureGroup(f"distribution-{model}", _distribution_words(panels, left_out), tuple(figures), look.legend(all_rows(panels)))


STAGE_COLORS: tuple[tuple[str, str, Color], ...] = (
    ("pre_ms.mean", "pre-processing", "c4"),
    ("invoke_ms.mean", "invoke", "c0"),
    ("post_ms.mean", "post-processing", "c1"),
)


def stages(matrix: Matrix, look: Look, model: str) -> FigureGroup | None:
    """Where the time of a query goes: means of the three stages, which add up, as stacked bars."""
    panels, left_out = panels_of(matrix, model, lambda row: all(row.latency(name).value is not None for name, _, _ in STAGE_COLORS))
    figures: list[Figure] = []
    shares: list[tuple[float, str, str]] = []
    for place, rows in panels:
        ordered = sorted(rows, key=lambda row: sum(row.latency(name).value or 0.0 for name, _, _ in STAGE_COLORS))
        bars, longest = [], 0.0
        for index, row in enumerate(ordered):
            start = 0.0
            values = [row.latency(name).value or 0.0 for name, _, _ in STAGE_COLORS]
            hover = row.name + "".join(f"\n{title} {number(value)} ms" for (_, title, _), value in zip(STAGE_COLORS, values, strict=True))
            for position, ((_, _, color), value) in enumerate(zip(STAGE_COLORS, values, strict=True)):
                text = f"{number(sum(values))}" if position == len(values) - 1 else ""
                bars.append(Bar(float(index), start, start + value, color, text, hover))
                start += value
            longest = max(longest, start)
            shares.append((1 - values[1] / start if start else 0.0, row.name, place.label))
        axis = linear_axis("mean time of one query (ms)", 0.0, longest * 1.14 or 1.0)
        height = _FRAME_PX + _ROW_PX * len(ordered)
        figures.append(
            Figure(
                f"stage-{len(figures)}",
                look.title(place),
                panel_summary("Time by stage", place, rows),
                axis,
                row_axis([row.name for row in ordered]),
                height,
                bars=tuple(bars),
            )
        )
    if not figures:
        return None
    most, name, label = max(shares)
    words = (
        f"Outside the runtime’s own call, {name} on {label} spends {fixed(100 * most, 0)}\u00a0% of a query, the largest such share here."
    )
    words += " Means over the repeats, since means add up."
    return FigureGroup(
        f"stage-{model}", words + left_out_words(left_out), tuple(figures), tuple((color, title) for _, title, color in STAGE_COLORS)
    )


def telemetry(matrix: Matrix) -> FigureGroup | None:
    """Temperatures, clocks and load during the runs, one panel for each device and sensor; a line is one job."""
    groups: dict[tuple[str, str, str], list[tuple[tuple[float, ...], tuple[float, ...]]]] = {}
    extremes: dict[tuple[str, str, str], tuple[float, float]] = {}
    for series in matrix.telemetry:
        row = matrix.row_of(series.job_id)
        if row is None or not series.values:
            continue
        # How long a run took and how busy the machine was would tell an emulated CPU's speed after all.
        if row.place.times_withheld:
            continue
        key = (row.place.device.name, series.sensor, series.unit)
        groups.setdefault(key, []).append((series.time_s, series.values))
        low, high = extremes.get(key, (series.minimum, series.maximum))
        extremes[key] = (min(low, series.minimum), max(high, series.maximum))
    kept = sorted(groups, key=lambda key: (_sensor_rank(key[1]), key))[:MAX_PANELS]
    figures: list[Figure] = []
    for device, sensor, unit in sorted(kept):
        key = (device, sensor, unit)
        low, high = extremes[key]
        drawn = groups[key][:: max(1, -(-len(groups[key]) // _MAX_LINES))]
        room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
        x = linear_axis("seconds from the start of a job", 0.0, max(times[-1] for times, _ in drawn) or 1.0)
        lines = tuple(Line(times, values, "c0", width_px=1.0, opacity=0.6) for times, values in drawn)
        many = "" if len(drawn) == len(groups[key]) else f", {len(drawn)} of {len(groups[key])} jobs drawn"
        title = f"{clean(device, 60)}: {clean(sensor, 60)} ({clean(unit, 24)}), {number(low)} to {number(high)}{many}"
        figures.append(Figure(f"telemetry-{len(figures)}", title, title, x, linear_axis("", low - room, high + room, 4), 190, lines=lines))
    if not figures:
        return None
    more = f" {len(groups) - len(kept)} further sensors are in the traces." if len(groups) > len(kept) else ""
    return FigureGroup("telemetry", f"What the sensors read while the jobs ran; each line is one job.{more}", tuple(figures))


def _sensor_rank(sensor: str) -> int:
    return next(
        (rank for rank, start in enumerate(("thermal", "hwmon", "clock", "cpu_busy", "runner_cpu", "power")) if sensor.startswith(start)), 9
    )


def _distribution_words(panels: Sequence[tuple[Place, list[Row]]], left_out: int) -> str:
    tails = [
        (p90 / p50, row)
        for _, rows in panels
        for row in rows
        if (p50 := row.latency("latency_ms.p50").value) and (p90 := row.latency("latency_ms.p90").value) is not None
    ]
    words = "The filled outline is one repeat; the mark is the median, the tick the 90th percentile, the thin line reaches to the extremes."
    if tails:
        ratio, row = max(tails, key=lambda item: item[0])
        words = (
            f"The widest upper tail: {row.name} on {row.place.label}, with a 90th percentile {fixed(ratio, 2)} times the median. {words}"
        )
    if any(place.device.emulated is Emulation.ENVIRONMENT for place, _ in panels):
        words += " Places marked as emulated ran on this computer’s own CPU with simulated surroundings."
    return words + left_out_words(left_out)
