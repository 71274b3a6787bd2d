"""Paints figure descriptions with matplotlib, for paper and for pictures; ``svg_figure`` and ``picture`` say on what."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as MatplotlibFigure

from orchestrator.report.figure import LIGHT, STACK_HEADING_PX, Axis, Color, Figure, Point, Shape, Stack
from orchestrator.report.labels import pixel, place_labels
from orchestrator.report.words import shortened

#: Sheets are counted in points of 1/72 inch: at that density, one pixel of a description is one unit.
DENSITY = 72

_ROW_NAME_LIMIT = 30
_RIGHT_PX, _TOP_PX, _BOTTOM_PX = 14.0, 6.0, 38.0

_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-left": "<",
    "triangle-right": ">",
    "triangle-down": "v",
    "cross": "P",
    "hexagon": "h",
    "star": "*",
    "tick": "|",
}

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgematrix",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    # A dollar sign in a name is a dollar sign, not mathematics.
    "text.parse_math": False,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Sheet:
    """What is painted on: sizes in pixels of the description, ``palette`` the colours by name."""

    drawn: MatplotlibFigure
    width_px: float
    height_px: float
    text_px: float
    palette: Mapping[str, str]

    def axes(self, left_px: float, top_px: float, width_px: float, height_px: float) -> Axes:
        """Return axes over a rectangle counted from the upper left corner."""
        bottom_px = self.height_px - top_px - height_px
        box = (left_px / self.width_px, bottom_px / self.height_px, width_px / self.width_px, height_px / self.height_px)
        return self.drawn.add_axes(box)

    def write(self, x_px: float, y_px: float, text: str, color: str = "ink", **look: Any) -> None:
        """Write a line of text whose middle lies ``y_px`` below the upper edge."""
        place = (x_px / self.width_px, 1 - y_px / self.height_px)
        self.drawn.text(*place, text, color=self.palette[color], va="center", **({"fontsize": self.text_px} | look))


@contextmanager
def sheet(width_px: float, height_px: float, text_px: float, palette: Mapping[str, str] = LIGHT, density: int = DENSITY) -> Iterator[Sheet]:
    """Offer an empty sheet, with the settings of this package for as long as it is painted on; ``density`` is in pixels of 1/72 inch."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # A name may hold letters that the measuring font lacks; in an SVG they are text, and the reader's own fonts have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn = MatplotlibFigure(figsize=(width_px / DENSITY, height_px / DENSITY), dpi=density)
        drawn.patch.set_visible(False)
        yield Sheet(drawn, width_px, height_px, text_px, palette)


def paint(on: Sheet, figure: Figure | Stack, left_px: float = 0.0, top_px: float = 0.0, width_px: float | None = None) -> None:
    """Paint a figure ``width_px`` wide (default: the sheet) with its upper left corner there."""
    width_px = on.width_px if width_px is None else width_px
    figures = figure.figures if isinstance(figure, Stack) else (figure,)
    margin_px = max(_margin_px(item, on.text_px) for item in figures)
    plot_px = width_px - margin_px - _RIGHT_PX
    if isinstance(figure, Figure):
        height_px = figure.height_px - _TOP_PX - _BOTTOM_PX
        _fill(on, on.axes(left_px + margin_px, top_px + _TOP_PX, plot_px, height_px), figure, plot_px, height_px)
        return
    for item in figures:
        _head(on, item, left_px + margin_px, top_px + STACK_HEADING_PX / 2)
        top_px += STACK_HEADING_PX
        shown = item.x if item is figures[-1] else Axis("", item.x.low, item.x.high, tuple((at, "") for at, _ in item.x.ticks), item.x.log)
        axes = on.axes(left_px + margin_px, top_px, plot_px, item.height_px)
        _fill(on, axes, item, plot_px, item.height_px, shown)
        top_px += item.height_px


def _margin_px(figure: Figure, text_px: float) -> float:
    longest = max((len(shortened(text, _ROW_NAME_LIMIT)) for _, text in figure.y.ticks), default=0)
    return 12.0 + longest * text_px * 0.62 if figure.y.rows else 5.3 * text_px


def _head(on: Sheet, figure: Figure, left_px: float, middle_px: float) -> None:
    """The title of one figure of a stack, and its legend in the same line."""
    character_px = on.text_px * 0.62
    on.write(left_px, middle_px, figure.title)
    at_px = left_px + len(figure.title) * character_px + 14
    for key in figure.legend:
        on.write(at_px, middle_px, "╍╍" if key.dashed else "━━", key.color)
        on.write(at_px + 2.6 * on.text_px, middle_px, key.text, "muted")
        at_px += 2.6 * on.text_px + len(key.text) * character_px + 14


def _fill(on: Sheet, axes: Axes, figure: Figure, width_px: float, height_px: float, x: Axis | None = None) -> None:
    axes.patch.set_visible(False)
    axes.set_xscale("log" if figure.x.log else "linear")
    axes.set_yscale("log" if figure.y.log else "linear")
    _dress(on, axes, "x", x or figure.x)
    _dress(on, axes, "y", figure.y)
    _draw(on, axes, figure)
    _label(on, axes, figure, width_px, height_px)
    axes.set_xlim(figure.x.low, figure.x.high)
    axes.set_ylim(figure.y.low, figure.y.high)


def _dress(on: Sheet, axes: Axes, name: Literal["x", "y"], described: Axis) -> None:
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_ticks([value for value, _ in described.ticks], [shortened(text, _ROW_NAME_LIMIT) for _, text in described.ticks])
    axis.set_ticks([], minor=True)
    axis.set_tick_params(length=0, colors=on.palette["ink" if described.rows else "muted"], pad=5, labelsize=on.text_px)
    axis.set_label_text(described.title, color=on.palette["muted"], fontsize=on.text_px)
    if not described.rows:
        axes.grid(True, axis=name, color=on.palette["grid"], linewidth=0.8, clip_on=False)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw(on: Sheet, axes: Axes, figure: Figure) -> None:
    ink = on.palette
    for band in figure.bands:
        shade = axes.axvspan if band.axis == "x" else axes.axhspan
        shade(band.start, band.end, facecolor=to_rgba(ink[band.color], band.opacity), edgecolor="none", zorder=0, clip_on=False)
    for rule in figure.rules:
        draw = axes.axvline if rule.axis == "x" else axes.axhline
        draw(rule.at, color=ink[rule.color], linewidth=0.9, linestyle=":" if rule.dashed else "-", zorder=1, clip_on=False)
    for line in figure.lines:
        if line.fill:
            face = to_rgba(ink[line.color], line.opacity * 0.4)
            axes.fill(line.x, line.y, facecolor=face, edgecolor=ink[line.color], linewidth=line.width_px * 0.7, clip_on=False)
        else:
            look: dict[str, Any] = {"drawstyle": "steps-post"} if line.step else {}
            look |= {"linestyle": (0, (4, 2.5))} if line.dashed else {}
            axes.plot(line.x, line.y, color=ink[line.color], linewidth=line.width_px * 0.8, alpha=line.opacity, clip_on=False, **look)
    for bar in figure.bars:
        face = to_rgba(ink[bar.color], bar.opacity)
        axes.barh(bar.y, bar.end - bar.start, left=bar.start, height=0.62, color=face, linewidth=0, clip_on=False)
    for point in figure.points:
        color = ink[point.color]
        if point.x_interval is not None:
            axes.plot(point.x_interval, (point.y, point.y), color=color, linewidth=1.1, zorder=3, clip_on=False)
        if point.y_interval is not None:
            axes.plot((point.x, point.x), point.y_interval, color=color, linewidth=1.1, zorder=3, clip_on=False)
    for (name, shape, filled), members in _alike(figure.points).items():
        axes.plot(
            [point.x for point in members],
            [point.y for point in members],
            marker=_MARKERS[shape],
            markersize=8 if shape == "tick" else 5.5,
            markerfacecolor=ink[name] if filled else ink["paper"],
            markeredgecolor=ink[name],
            markeredgewidth=1.6 if shape == "tick" else 1.0,
            linestyle="none",
            clip_on=False,
            zorder=4,
        )


def _alike(points: Sequence[Point]) -> dict[tuple[Color, Shape, bool], list[Point]]:
    groups: dict[tuple[Color, Shape, bool], list[Point]] = {}
    for point in points:
        groups.setdefault((point.color, point.shape, point.filled), []).append(point)
    return groups


def _label(on: Sheet, axes: Axes, figure: Figure, width_px: float, height_px: float) -> None:
    def beside(text: str, at: tuple[float, float], offset: tuple[float, float], side: str, **look: Any) -> None:
        look.setdefault("color", on.palette["ink"])
        place: dict[str, Any] = {"xytext": offset, "textcoords": "offset points", "ha": side, "va": "center", "fontsize": on.text_px}
        axes.annotate(text, at, annotation_clip=False, **place, **look)

    texts = [point.text for point in figure.points]
    spots = [pixel(figure, point, width_px, height_px) for point in figure.points]
    places = place_labels(spots, texts, width_px, height_px, character_px=on.text_px * 0.58, line_px=on.text_px * 1.22)
    for point, placed in zip(figure.points, places, strict=True):
        if point.text:
            arrow = {"arrowstyle": "-", "linewidth": 0.5, "color": on.palette["muted"], "shrinkA": 0, "shrinkB": 3} if placed.dy else None
            beside(point.text, (point.x, point.y), (placed.dx, -placed.dy), placed.anchor, arrowprops=arrow)
    for bar in figure.bars:
        if bar.text:
            beside(bar.text, (bar.end, bar.y), (4, 0), "left")
    for note in figure.notes:
        beside(note.text, (note.x, note.y), (0, 0), note.anchor, color=on.palette[note.color])
