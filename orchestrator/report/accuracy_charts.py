"""Figures of accuracy, as descriptions: what is drawn, and the sentence that says what it shows. Vermilion is what is bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.figure import Figure, FigureGroup, Point, Rule, linear_axis, log_axis, row_axis
from orchestrator.report.judgement import Change, change_of, changes_by, compared_row
from orchestrator.report.panels import Look, all_rows, left_out_words, panel_summary, panels_of
from orchestrator.report.reading import Matrix, Place, Row
from orchestrator.report.words import counted, fixed, listed, number

_ROW_PX = 26
_FRAME_PX = 56


def glance(matrix: Matrix, look: Look, model: str) -> FigureGroup | None:
    """Accuracy against latency, one panel per place whose times may be shown."""
    panels, left_out = panels_of(
        matrix,
        model,
        lambda row: row.accuracy is not None and row.accuracy.value is not None and row.latency("latency_ms.p50").value is not None,
    )
    figures: list[Figure] = []
    for place, rows in panels:
        quality = rows[0].quality
        values = {row.name: (row.accuracy.value or 0.0) * quality.factor for row in rows if row.accuracy}
        fallen = _fallen(rows)
        times = [row.latency("latency_ms.p50").value or 1.0 for row in rows]
        ends = [_interval(row, quality.factor) for row in rows if row.name not in fallen]
        low = min([end[0] for end in ends] + [values[row.name] for row in rows if row.name not in fallen])
        high = max([end[1] for end in ends] + [values[row.name] for row in rows if row.name not in fallen])
        room = max(high - low, 0.5 if quality.factor == 100 else 0.01) * (0.25 if fallen else 0.12)
        y = linear_axis(
            _quality_title(rows[0]),
            max(low - room, 0.0) if low >= 0 else low - room,
            min(high + room, 100.4) if quality.unit == "%" else high + room,
            5,
        )
        points = [_glance_point(row, look, values[row.name], y.low if row.name in fallen else None) for row in rows]
        x = log_axis("median latency, end to end (ms, logarithmic)", min(times) / 1.35, max(times) * 1.5)
        figures.append(
            Figure(
                f"glance-{len(figures)}",
                look.title(place),
                panel_summary("Accuracy against median latency", place, rows),
                x,
                y,
                330,
                tuple(points),
            )
        )
    if not figures:
        return None
    return FigureGroup(
        f"glance-{model}",
        _glance_words(panels, left_out, _undrawn(matrix, model, panels)),
        tuple(figures),
        look.legend(all_rows(panels), marks_loss=True),
    )


def forest(matrix: Matrix, look: Look, model: str) -> FigureGroup | None:
    """Differences of accuracy to the reference with their 95 % intervals, one panel per place."""
    panels, left_out = panels_of(matrix, model, lambda row: row.comparison is not None and row.comparison.difference is not None)
    figures: list[Figure] = []
    for place, rows in panels:
        quality = rows[0].quality
        ordered = sorted((_Effect.of(row) for row in rows), key=lambda effect: -effect.difference)
        near = [effect for effect in ordered if effect.change is not Change.COLLAPSED] or ordered
        low, high = min(effect.low for effect in near), max(effect.high for effect in near)
        span = max(high - low, 1.0 if quality.factor == 100 else 0.01)
        # A collapse would flatten every other interval: it becomes an arrow at the edge, with its numbers beside it.
        cut = len(near) < len(ordered)
        left = min(low, 0.0) - span * (0.75 if cut else 0.08)
        x = linear_axis(f"difference to the reference ({quality.difference_unit or quality.title})", left, max(high, 0.0) + span * 0.08)
        edge = x.low + 0.015 * (x.high - x.low) if cut else None
        points = tuple(
            _forest_point(effect, index, look, edge if effect.change is Change.COLLAPSED else None) for index, effect in enumerate(ordered)
        )
        y = row_axis([effect.row.name for effect in ordered])
        height = _FRAME_PX + _ROW_PX * len(ordered)
        figures.append(
            Figure(
                f"forest-{len(figures)}",
                look.title(place),
                panel_summary("Accuracy difference to the reference", place, rows),
                x,
                y,
                height,
                points,
                rules=(Rule("x", 0.0, "ink"),),
            )
        )
    if not figures:
        return None
    return FigureGroup(
        f"forest-{model}", _forest_words(matrix, panels, left_out), tuple(figures), look.legend(all_rows(panels), marks_loss=True)
    )


@dataclass(frozen=True)
class _Effect:
    """One row of the forest plot, in the printed unit."""

    row: Row
    difference: float
    low: float
    high: float
    change: Change

    @classmethod
    def of(cls, row: Row) -> _Effect:
        difference, low, high = row.quality.difference(row.comparison) if row.comparison is not None else (None, None, None)
        at = difference if difference is not None else 0.0
        return cls(row, at, low if low is not None else at, high if high is not None else at, change_of(row))


def _forest_point(effect: _Effect, index: int, look: Look, edge: float | None) -> Point:
    row, quality = effect.row, effect.row.quality
    words = f"{quality.signed(effect.difference)} [{quality.signed(effect.low)}, {quality.signed(effect.high)}]"
    hover = f"{row.name}\n{words} {quality.difference_unit}"
    if edge is not None:
        return Point(edge, index, "bad", "triangle-left", True, text=words, hover=hover)
    color = "bad" if effect.change in (Change.WORSE, Change.COLLAPSED) else look.color(row)
    clear = effect.change in (Change.WORSE, Change.COLLAPSED, Change.BETTER)
    return Point(effect.difference, index, color, look.shape(row.place), clear, x_interval=(effect.low, effect.high), hover=hover)


def _quality_title(row: Row) -> str:
    return f"{row.quality.title} ({row.quality.unit})" if row.quality.unit else row.quality.title


def _interval(row: Row, factor: float) -> tuple[float, float]:
    metric = row.accuracy
    value = (metric.value or 0.0) * factor if metric else 0.0
    if metric is None or metric.low is None or metric.high is None:
        return (value, value)
    return (metric.low * factor, metric.high * factor)


def _fallen(rows: Sequence[Row]) -> set[str]:
    """Return the names that fell so far that they would flatten everybody else, when at least two others remain."""
    fallen = {row.name for row in rows if change_of(row) is Change.COLLAPSED}
    return fallen if len(rows) - len(fallen) >= 2 else set()


def _glance_point(row: Row, look: Look, value: float, floor: float | None) -> Point:
    p50 = row.latency("latency_ms.p50")
    low, high = _interval(row, row.quality.factor)
    shown = f"{fixed(value, row.quality.decimals)} {row.quality.unit}".strip()
    name = f"{row.name} (reference)" if row.variant.reference else row.name
    hover = f"{name}\n{shown} [{fixed(low, row.quality.decimals)}, {fixed(high, row.quality.decimals)}]\np50 {number(p50.value)} ms"
    repeats = (p50.low, p50.high) if p50.low is not None and p50.high is not None and p50.high > p50.low else None
    if floor is not None:
        return Point(p50.value or 1.0, floor, "bad", "triangle-down", True, text=f"{row.name}: {shown}", hover=hover)
    bad = change_of(row) in (Change.WORSE, Change.COLLAPSED)
    interval = (low, high) if high > low else None
    return Point(
        p50.value or 1.0, value, "bad" if bad else look.color(row), look.shape(row.place), True, repeats, interval, row.name, hover
    )


def _undrawn(matrix: Matrix, model: str, panels: Sequence[tuple[Place, list[Row]]]) -> list[str]:
    """Name the emulated places whose times are withheld: they have no point here, and the reader must not think them forgotten."""
    drawn = {place.key for place, _ in panels}
    return [place.label for place in matrix.places if place.key not in drawn and place.times_withheld and matrix.of(model, place)]


def _glance_words(panels: Sequence[tuple[Place, list[Row]]], left_out: int, undrawn: Sequence[str]) -> str:
    rows = all_rows(panels)
    sound = [row for row in rows if change_of(row) in (Change.WITHIN, Change.BETTER)]
    words = "Up and to the left is better. "
    if sound:
        best = min(sound, key=lambda row: row.latency("latency_ms.p50").value or 0.0)
        p50, accuracy = best.latency("latency_ms.p50").value, best.accuracy.value if best.accuracy else None
        words += f"Fastest without a loss of accuracy beyond the interval: {best.name} on {best.place.label}, {number(p50)} ms"
        words += f" at {best.quality.text(accuracy)} {best.quality.unit}".rstrip() + ". "
    words += "Bars are 95 % intervals of accuracy, and the range of the repeats across"
    if any(change_of(row) is Change.COLLAPSED for row in rows):
        words += "; a triangle at the lower edge stands for a variant far below"
    withheld = f" Not drawn, for the times are withheld: {listed(undrawn, 6)}." if undrawn else ""
    return f"{words}.{withheld}{left_out_words(left_out)}"


def _forest_words(matrix: Matrix, panels: Sequence[tuple[Place, list[Row]]], left_out: int) -> str:
    rows = all_rows(panels)
    counts = changes_by(rows)
    parts = [
        f"{counts[change]} {words}"
        for change, words in (
            (Change.COLLAPSED, "lost more than 5 points"),
            (Change.WORSE, "lost accuracy"),
            (Change.WITHIN, "differ by no more than their interval"),
            (Change.BETTER, "gained"),
        )
        if counts.get(change)
    ]
    filled = " Filled marks stand clear of zero, hollow ones do not." if len(counts) > 1 else ""
    far = sum(1 for row in rows if (reference := compared_row(matrix, row)) is not None and not reference.place.matches(row.place))
    where = f" In {counted(far, 'case')} the reference was measured in another place." if far else ""
    words = f"Of {counted(len(rows), 'comparison')} with the reference, {listed(parts, 9)}.{where}"
    return f"{words} Intervals are 95\u00a0%, paired by sample.{filled}{left_out_words(left_out)}"
