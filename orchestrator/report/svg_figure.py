"""Draws a figure description for paper: a small static SVG, always in the light palette, whose text stays text."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as MatplotlibFigure

from orchestrator.report.figure import LIGHT, Axis, Color, Figure, Point, Shape
from orchestrator.report.labels import place_labels
from orchestrator.report.plotly_figure import pixel
from orchestrator.report.words import shortened

_WIDTH_PX = 700
_ROW_NAME_LIMIT = 30
_TEXT_PX = 9.0
#: The SVG counts in points of 1/72 inch; drawn at that density, one pixel of a description is one unit of the SVG.
_DENSITY = 72

_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-left": "<",
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
    "font.size": _TEXT_PX,
    # A dollar sign in a name is a dollar sign, not mathematics.
    "text.parse_math": False,
    "path.simplify": True,
}

#: Size and family of texts come from the page's style sheet. Groups carry nothing once their identifiers, which could clash, are gone.
_WHOLE_FILE = re.compile(r"\A.*?(?=<svg)|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", re.DOTALL)
_OPENING = re.compile(r'<svg[^>]*?( viewBox="[^"]*")[^>]*>')
_NUMBERS = re.compile(r"(?<=[\d ,\"(-])(\d+\.\d)\d+(?=[ ,\")])")
_NOISE = re.compile(
    r"<g(?: id=\"[^\"]*\")?\s*/?>|</g>|<defs>\s*</defs>"
    r"| transform=\"rotate\(-0 [^\"]*\"|font-size: [\d.]+px; font-family: [^;\"]*; |; stroke-linecap: square"
)
_GAPS = re.compile(r"\s*\n\s*")


def svg_text(figure: Figure) -> str:
    """Return the figure as an ``<svg>`` element to stand inside an HTML page: it refers to nothing on the network."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # A name may hold letters that the measuring font lacks; they are written as text, and the reader's own fonts have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn = MatplotlibFigure(figsize=(_WIDTH_PX / _DENSITY, figure.height_px / _DENSITY), dpi=_DENSITY)
        canvas = FigureCanvasSVG(drawn)
        left_px = (
            48.0
            if not figure.y.rows
            else 12.0 + max((len(shortened(text, _ROW_NAME_LIMIT)) for _, text in figure.y.ticks), default=0) * 5.6
        )
        right_px, top_px, bottom_px = 14.0, 6.0, 38.0
        width_px, height_px = _WIDTH_PX - left_px - right_px, figure.height_px - top_px - bottom_px
        axes = drawn.add_axes((left_px / _WIDTH_PX, bottom_px / figure.height_px, width_px / _WIDTH_PX, height_px / figure.height_px))
        drawn.patch.set_visible(False)
        axes.patch.set_visible(False)
        axes.set_xscale("log" if figure.x.log else "linear")
        axes.set_yscale("log" if figure.y.log else "linear")
        _dress(axes, "x", figure.x)
        _dress(axes, "y", figure.y)
        _draw(axes, figure)
        _label(axes, figure, width_px, height_px)
        axes.set_xlim(figure.x.low, figure.x.high)
        axes.set_ylim(figure.y.low, figure.y.high)
        out = io.StringIO()
        canvas.print_svg(out, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    return _embedded(out.getvalue())


def _dress(axes: Axes, name: Literal["x", "y"], described: Axis) -> None:
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_ticks([value for value, _ in described.ticks], [shortened(text, _ROW_NAME_LIMIT) for _, text in described.ticks])
    axis.set_ticks([], minor=True)
    axis.set_tick_params(length=0, colors=LIGHT["ink" if described.rows else "muted"], pad=5)
    axis.set_label_text(described.title, color=LIGHT["muted"], fontsize=_TEXT_PX)
    if not described.rows:
        axes.grid(True, axis=name, color=LIGHT["grid"], linewidth=0.8, clip_on=False)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw(axes: Axes, figure: Figure) -> None:
    for rule in figure.rules:
        draw = axes.axvline if rule.axis == "x" else axes.axhline
        draw(rule.at, color=LIGHT[rule.color], linewidth=0.9, linestyle=":" if rule.dashed else "-", zorder=1, clip_on=False)
    for line in figure.lines:
        if line.fill:
            face = to_rgba(LIGHT[line.color], line.opacity * 0.4)
            axes.fill(line.x, line.y, facecolor=face, edgecolor=LIGHT[line.color], linewidth=line.width_px * 0.7, clip_on=False)
        else:
            axes.plot(line.x, line.y, color=LIGHT[line.color], linewidth=line.width_px * 0.8, alpha=line.opacity, clip_on=False)
    for bar in figure.bars:
        axes.barh(bar.y, bar.end - bar.start, left=bar.start, height=0.62, color=LIGHT[bar.color], linewidth=0, clip_on=False)
    for point in figure.points:
        color = LIGHT[point.color]
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
            markerfacecolor=LIGHT[name] if filled else LIGHT["paper"],
            markeredgecolor=LIGHT[name],
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


def _label(axes: Axes, figure: Figure, width_px: float, height_px: float) -> None:
    texts = [point.text for point in figure.points]
    places = place_labels(
        [pixel(figure, point, width_px, height_px) for point in figure.points], texts, width_px, height_px, character_px=5.2, line_px=11.0
    )
    for point, placed in zip(figure.points, places, strict=True):
        if point.text:
            arrow = {"arrowstyle": "-", "linewidth": 0.5, "color": LIGHT["muted"], "shrinkA": 0, "shrinkB": 3} if placed.dy else None
            axes.annotate(
                point.text,
                (point.x, point.y),
                xytext=(placed.dx, -placed.dy),
                textcoords="offset points",
                ha="left" if placed.anchor == "left" else "right",
                va="center",
                fontsize=_TEXT_PX,
                color=LIGHT["ink"],
                arrowprops=arrow,
                annotation_clip=False,
            )
    for bar in figure.bars:
        if bar.text:
            axes.annotate(
                bar.text,
                (bar.end, bar.y),
                xytext=(4, 0),
                textcoords="offset points",
                ha="left",
                va="center",
                fontsize=_TEXT_PX,
                color=LIGHT["ink"],
                annotation_clip=False,
            )


def _embedded(document: str) -> str:
    """Strip what a whole file needs and a page does not: prologue, metadata, styles for every element, empty groups, digits nobody sees."""
    text = _WHOLE_FILE.sub("", document)
    text = _OPENING.sub(r"<svg\1>", text)
    text = _NUMBERS.sub(r"\1", text)
    text = _NOISE.sub("", text)
    return _GAPS.sub(" ", text).replace("> <", "><").strip()
