"""Repeats of a recipe: each quantity's values against its tolerance band."""

from __future__ import annotations

import math
from collections.abc import Mapping

from orchestrator.domain.recipe import QuantityVerdict, RepeatOutcome, Reproduction
from orchestrator.report.figure import Bar, Color, Figure, FigureGroup, Point, Rule, linear_axis, row_axis
from orchestrator.report.words import clean, counted, listed, number

#: Values further out than so many tolerances stand at the edge, as arrows with their number.
_EDGE = 3.0
_ROW_PX = 30
_FRAME_PX = 56

_MARKS: Mapping[str, Color] = {"reproduced": "c0", "not reproduced": "bad", "undetermined": "muted"}


def reproduction_group(found: Reproduction) -> FigureGroup | None:
    """Return one row for each quantity in units of its own tolerance, so that all share one axis; None when nothing can be drawn."""
    shown = [item for item in found.quantities if _scale(item) is not None]
    if not shown:
        return None
    bars: list[Bar] = []
    points: list[Point] = []
    for index, quantity in enumerate(shown):
        bars.append(Bar(float(index), -1.0, 1.0, "c2", "", _tolerance_words(quantity), 0.22))
        points += [point for repeat in found.repeats if (point := _repeat_point(index, quantity, repeat)) is not None]
        mean = _mean_point(index, quantity)
        points += [mean] if mean is not None else []
    reached = max(1.5, min(_EDGE, max((abs(point.x) for point in points), default=0.0)) * 1.08)
    figure = Figure(
        "reproduction",
        "Repeats against the recipe’s tolerances",
        "Reproduction: " + "; ".join(f"{item.name} {item.verdict}" for item in shown),
        linear_axis("difference from the recipe, in tolerances of the quantity (the band is ±1)", -reached, reached, 9),
        row_axis([_row_name(item) for item in shown]),
        _FRAME_PX + _ROW_PX * len(shown),
        tuple(points),
        bars=tuple(bars),
        rules=(Rule("x", 0.0, "muted"),),
    )
    legend: tuple[tuple[Color, str], ...] = (("c2", "tolerance"), ("c0", "mean of the repeats, reproduced"), ("bad", "not reproduced"))
    return FigureGroup("reproduction", reproduction_words(found), (figure,), legend)


def reproduction_words(found: Reproduction) -> str:
    """Say the verdict, the quantities behind it, and the reasons that were found."""
    missed = [_spoken(item.name) for item in found.quantities if item.verdict == "not reproduced"]
    words = f"{found.verdict.capitalize()} in {counted(len(found.repeats), 'repeat')}"
    words += f": {listed(missed, 5)} outside the tolerance." if missed else "."
    if found.reasons:
        words += f" What differs: {listed([clean(reason, 160).rstrip('.') for reason in found.reasons], 6)}."
    return words + " Circles are single repeats, diamonds their mean with its 95\u00a0% interval."


def _mean_point(index: int, quantity: QuantityVerdict) -> Point | None:
    observed, color = quantity.observed, _MARKS[quantity.verdict]
    at = _place(quantity, observed.value) if observed is not None else None
    if observed is None or at is None:
        return None
    hover = f"mean of {counted(quantity.repeats, 'repeat')}: {number(observed.value, 4)} {quantity.unit}\n{clean(quantity.words, 200)}"
    if abs(at) > _EDGE:
        return _at_edge(at, float(index), f"mean {number(observed.value)} {quantity.unit}".strip(), hover)
    low, high = _place(quantity, observed.low), _place(quantity, observed.high)
    interval = (max(low, -_EDGE), min(high, _EDGE)) if low is not None and high is not None and low <= at <= high else None
    return Point(at, float(index), color, "diamond", True, interval, hover=hover)


def _repeat_point(index: int, quantity: QuantityVerdict, repeat: RepeatOutcome) -> Point | None:
    value = repeat.values.get(quantity.name)
    at = _place(quantity, value)
    if value is None or at is None:
        return None
    hover = f"{clean(repeat.job_id, 40)}: {number(value, 4)} {quantity.unit}"
    row = index - 0.22
    if abs(at) > _EDGE:
        return _at_edge(at, row, f"{number(value)} {quantity.unit}".strip(), hover)
    return Point(at, row, "ink", "circle", False, hover=hover)


def _at_edge(at: float, row: float, text: str, hover: str) -> Point:
    """What lies too far out for the axis stands at its end, with its number."""
    return Point(math.copysign(_EDGE, at), row, "bad", "triangle-left" if at < 0 else "triangle-right", True, text=text, hover=hover)


def _row_name(quantity: QuantityVerdict) -> str:
    expected = f"{number(quantity.expected)} {quantity.unit}".strip()
    return f"{_spoken(quantity.name)} ({expected})"


def _spoken(name: str) -> str:
    """The name without its unit, which stands beside the number."""
    for ending in ("_secs", "_percent", "_c", "_mw", "_mj", "_qps"):
        name = name.removesuffix(ending)
    return clean(name, 60).replace("_", " ")


def _tolerance_words(quantity: QuantityVerdict) -> str:
    low, high = number(quantity.tolerance_low, 4), number(quantity.tolerance_high, 4)
    return f"recipe {number(quantity.expected, 4)}, {low} to {high} {quantity.unit}"


def _scale(quantity: QuantityVerdict) -> float | None:
    if quantity.expected is None or quantity.tolerance_low is None or quantity.tolerance_high is None:
        return None
    half = (quantity.tolerance_high - quantity.tolerance_low) / 2
    return half if half > 0 else None


def _place(quantity: QuantityVerdict, value: float | None) -> float | None:
    half = _scale(quantity)
    return (value - quantity.expected) / half if half is not None and value is not None and quantity.expected is not None else None
