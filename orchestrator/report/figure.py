"""What a figure is, told once.

Two renderers draw it: ``plotly_figure`` for the screen and ``svg_figure`` for paper and for pages without JavaScript.

Axes are linear or logarithmic and always carry their range and ticks, so both renderers show the same ones. Rows (variants under each
other) are whole numbers on a linear axis that runs downward. Colours are names of ``palette``, not values: the page has two themes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.report.words import number

Shape = Literal[
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "hexagon",
    "star",
    "triangle-left",
    "triangle-right",
    "triangle-down",
    "tick",
]
Color = Literal["ink", "muted", "grid", "bad", "c0", "c1", "c2", "c3", "c4", "c5"]

#: Okabe–Ito; vermilion is kept for what is bad. The dark theme lifts what would drown in it.
LIGHT = {
    "ink": "#16191d",
    "muted": "#667079",
    "grid": "#e3e6e9",
    "paper": "#ffffff",
    "bad": "#d55e00",
    "c0": "#0072b2",
    "c1": "#e69f00",
    "c2": "#009e73",
    "c3": "#cc79a7",
    "c4": "#56b4e9",
    "c5": "#8c7a00",
}
DARK = {
    "ink": "#eceff1",
    "muted": "#a0a9b1",
    "grid": "#30363c",
    "paper": "#171b1f",
    "bad": "#ff7f2a",
    "c0": "#3d9be0",
    "c1": "#f0b429",
    "c2": "#1fc296",
    "c3": "#e29bc3",
    "c4": "#8fd0f5",
    "c5": "#f0e442",
}

#: A shape for each device, and the character that stands for it in text.
DEVICE_SHAPES: tuple[tuple[Shape, str], ...] = (
    ("circle", "●"),
    ("square", "■"),
    ("diamond", "◆"),
    ("triangle-up", "▲"),
    ("cross", "✚"),
    ("hexagon", "⬢"),
    ("star", "★"),
)
SERIES_COLORS: tuple[Color, ...] = ("c0", "c1", "c2", "c3", "c4", "c5")


@dataclass(frozen=True)
class Axis:
    """``ticks`` are positions with their texts; ``low`` may be above ``high``: the axis then runs the other way."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False
    rows: bool = False


@dataclass(frozen=True)
class Point:
    """``text`` is written beside it, clear of its neighbours; ``hover`` tells the numbers. Intervals are (low, high) on their axis."""

    x: float
    y: float
    color: Color = "ink"
    shape: Shape = "circle"
    filled: bool = True
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    text: str = ""
    hover: str = ""


@dataclass(frozen=True)
class Line:
    """A line, or with ``fill`` the area it encloses; with ``step`` each value holds until the next. ``hover`` names it at each point."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    color: Color
    fill: bool = False
    width_px: float = 1.2
    opacity: float = 1.0
    step: bool = False
    dashed: bool = False
    hover: str = ""


@dataclass(frozen=True)
class Bar:
    """A horizontal bar in row ``y``, from ``start`` to ``end``."""

    y: float
    start: float
    end: float
    color: Color
    text: str = ""
    hover: str = ""
    opacity: float = 1.0


@dataclass(frozen=True)
class Band:
    """A shaded stretch through the whole figure, from ``start`` to ``end`` on one axis."""

    axis: Literal["x", "y"]
    start: float
    end: float
    color: Color = "muted"
    opacity: float = 0.14


@dataclass(frozen=True)
class Note:
    """A few words at a position, which lies at the text's ``anchor`` side; ``keep`` says that they stay on a narrow page."""

    x: float
    y: float
    text: str
    anchor: Literal["left", "center", "right"] = "left"
    color: Color = "ink"
    keep: bool = False


@dataclass(frozen=True)
class Key:
    """One entry of a figure's own legend: a line, whole or dashed, and what it means."""

    color: Color
    text: str
    dashed: bool = False


@dataclass(frozen=True)
class Rule:
    """A straight line through the whole figure at ``at`` on one axis."""

    axis: Literal["x", "y"]
    at: float
    color: Color = "muted"
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """One panel. ``summary`` is its alternative text."""

    key: str
    title: str
    summary: str
    x: Axis
    y: Axis
    height_px: int
    points: tuple[Point, ...] = ()
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    rules: tuple[Rule, ...] = ()
    bands: tuple[Band, ...] = ()
    notes: tuple[Note, ...] = ()
    legend: tuple[Key, ...] = ()


#: In a stack, the title of each figure and its legend stand in a line of this height above it; ``height_px`` is then the plot's own.
STACK_HEADING_PX = 24
STACK_FOOT_PX = 44


@dataclass(frozen=True)
class Stack:
    """Figures under each other on one x axis, that of the first; only the lowest shows its ticks."""

    key: str
    title: str
    summary: str
    figures: tuple[Figure, ...]

    @property
    def height_px(self) -> int:
        return sum(figure.height_px + STACK_HEADING_PX for figure in self.figures) + STACK_FOOT_PX


@dataclass(frozen=True)
class FigureGroup:
    """Panels that are read together: one caption that states the finding, one legend; ``heading`` where no other stands above it."""

    key: str
    caption: str
    figures: tuple[Figure | Stack, ...]
    legend: tuple[tuple[Color, str], ...] = ()
    heading: str = ""


def linear_axis(title: str, low: float, high: float, about: int = 6) -> Axis:
    """An axis over [low, high] with round ticks."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if abs(step / power - 2.5) < 1e-6 and step < 10 else 0)
    ticks = []
    for index in range(first, math.floor(high / step + 1e-9) + 1):
        text = f"{index * step:.{decimals}f}"
        ticks.append((index * step, text.replace("-", "\u2212") if float(text) else "0"))
    return Axis(title, low, high, tuple(ticks))


def log_axis(title: str, low: float, high: float) -> Axis:
    """A logarithmic axis over [low, high] (both above 0); ticks at 1, 2 and 5, or at powers of ten when there are many decades."""
    if not high > low:
        low, high = low * 0.8, high * 1.25
    decades = math.log10(high / low)
    factors: tuple[float, ...] = (1,) if decades > 4 else (1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 5, 7)
    ticks = [
        (factor * 10.0**power, number(factor * 10.0**power, 2))
        for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        for factor in factors
        if low <= factor * 10.0**power <= high
    ]
    return Axis(title, low, high, tuple(ticks), log=True)


def row_axis(names: Sequence[str]) -> Axis:
    """Names under each other, the first on top."""
    return Axis("", len(names) - 0.4, -0.6, tuple((float(index), name) for index, name in enumerate(names)), rows=True)
