"""Draws a figure description for the screen, as the JSON that plotly.js takes.

Colours stay names (``@c0``): the page puts its theme's values in.
"""

from __future__ import annotations

import html
import math
from typing import Any

from orchestrator.report.figure import Axis, Figure, Line, Point
from orchestrator.report.labels import place_labels
from orchestrator.report.words import shortened

#: The plot area that labels are placed for; the page hides them where it is much narrower.
_NOMINAL_WIDTH_PX = 820
_MARGIN = {"l": 8, "r": 14, "t": 6, "b": 44}
_ROW_NAME_LIMIT = 34

_SYMBOLS = {"tick": "line-ns"}


def plotly_json(figure: Figure) -> dict[str, Any]:
    """Return ``data`` and ``layout`` for ``Plotly.newPlot``. Texts are escaped, for plotly reads a part of HTML in them."""
    data = _line_traces(figure.lines)
    data += _point_traces(figure.points)
    data += _bar_traces(figure)
    shapes = [
        {
            "type": "line",
            "layer": "below",
            "xref": "x" if rule.axis == "x" else "paper",
            "yref": "y" if rule.axis == "y" else "paper",
            "x0": rule.at if rule.axis == "x" else 0,
            "x1": rule.at if rule.axis == "x" else 1,
            "y0": rule.at if rule.axis == "y" else 0,
            "y1": rule.at if rule.axis == "y" else 1,
            "line": {"color": f"@{rule.color}", "width": 1, "dash": "dot" if rule.dashed else "solid"},
        }
        for rule in figure.rules
    ]
    layout = {
        "height": figure.height_px,
        "margin": _MARGIN,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 12, "color": "@ink"},
        "hoverlabel": {"bgcolor": "@paper", "bordercolor": "@muted", "font": {"color": "@ink"}, "align": "left"},
        "hovermode": "closest",
        "showlegend": False,
        "barmode": "overlay",
        "dragmode": False,
        "xaxis": _axis(figure.x),
        "yaxis": _axis(figure.y),
        "shapes": shapes,
        "annotations": _annotations(figure),
    }
    return {"data": _rounded(data), "layout": _rounded(layout)}


def _rounded(value: Any) -> Any:
    """Cut floats to what a screen can show: the page is smaller, and looks no different."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def _escape(text: str) -> str:
    return html.escape(text, quote=False).replace("\n", "<br>")


def _axis(axis: Axis) -> dict[str, Any]:
    ends = [math.log10(axis.low), math.log10(axis.high)] if axis.log else [axis.low, axis.high]
    return {
        "type": "log" if axis.log else "linear",
        "range": ends,
        "title": {"text": _escape(axis.title), "font": {"size": 12, "color": "@muted"}, "standoff": 8},
        "tickmode": "array",
        "tickvals": [value for value, _ in axis.ticks],
        "ticktext": [_escape(shortened(text, _ROW_NAME_LIMIT)) for _, text in axis.ticks],
        "tickfont": {"color": "@ink" if axis.rows else "@muted"},
        "gridcolor": "@grid",
        "showgrid": not axis.rows,
        "zeroline": False,
        "automargin": True,
        "fixedrange": True,
        "ticks": "outside" if axis.rows else "",
        "ticklen": 7,
        "tickcolor": "rgba(0,0,0,0)",
    }


def _line_traces(lines: tuple[Line, ...]) -> list[dict[str, Any]]:
    """Lines that look alike share one trace, with gaps between them: fewer elements to draw."""
    groups: dict[tuple[str, bool, float, float], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.color, line.fill, line.width_px, line.opacity), []).append(line)
    traces = []
    for (color, fill, width_px, opacity), members in groups.items():
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines",
            "x": _gapped([line.x for line in members]),
            "y": _gapped([line.y for line in members]),
            "line": {"color": f"@{color}", "width": width_px},
            "opacity": opacity,
            "hoverinfo": "skip",
        }
        if fill:
            trace.update(fill="toself", fillcolor=f"@{color}/0.45")
        traces.append(trace)
    return traces


def _gapped(pieces: list[tuple[float, ...]]) -> list[float | None]:
    joined: list[float | None] = []
    for piece in pieces:
        joined += [*piece, None]
    return joined[:-1]


def _point_traces(points: tuple[Point, ...]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, bool], list[Point]] = {}
    for point in points:
        groups.setdefault((point.color, point.shape, point.filled), []).append(point)
    traces = []
    for (color, shape, filled), members in groups.items():
        ink, tick = f"@{color}", shape == "tick"
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "x": [point.x for point in members],
            "y": [point.y for point in members],
            "marker": {
                "symbol": _SYMBOLS.get(shape, shape),
                "size": 9,
                "color": ink if filled else "@paper",
                "line": {"color": ink, "width": 2 if tick else 1.5},
            },
            "hovertext": [_escape(point.hover) for point in members],
            "hoverinfo": "text" if any(point.hover for point in members) else "skip",
            "cliponaxis": False,
        }
        for name in ("x", "y"):
            intervals = [point.x_interval if name == "x" else point.y_interval for point in members]
            if any(intervals):
                centers = [point.x if name == "x" else point.y for point in members]
                trace[f"error_{name}"] = {
                    "type": "data",
                    "symmetric": False,
                    "array": [item[1] - at if item else 0 for item, at in zip(intervals, centers, strict=True)],
                    "arrayminus": [at - item[0] if item else 0 for item, at in zip(intervals, centers, strict=True)],
                    "color": ink,
                    "thickness": 1.4,
                    "width": 3,
                }
        traces.append(trace)
    return traces


def _bar_traces(figure: Figure) -> list[dict[str, Any]]:
    return [
        {
            "type": "bar",
            "orientation": "h",
            "y": [bar.y for bar in figure.bars if bar.color == color],
            "base": [bar.start for bar in figure.bars if bar.color == color],
            "x": [bar.end - bar.start for bar in figure.bars if bar.color == color],
            "width": 0.62,
            "marker": {"color": f"@{color}", "line": {"width": 0}},
            "hovertext": [_escape(bar.hover) for bar in figure.bars if bar.color == color],
            "hoverinfo": "text",
        }
        for color in dict.fromkeys(bar.color for bar in figure.bars)
    ]


def _annotations(figure: Figure) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    height_px = figure.height_px - _MARGIN["t"] - _MARGIN["b"]
    places = place_labels(
        [pixel(figure, point, _NOMINAL_WIDTH_PX, height_px) for point in figure.points],
        [point.text for point in figure.points],
        _NOMINAL_WIDTH_PX,
        height_px,
    )
    for point, placed in zip(figure.points, places, strict=True):
        if point.text:
            annotations.append(
                _note(figure, point.x, point.y, point.text)
                | {
                    "ax": placed.dx,
                    "ay": placed.dy,
                    "xanchor": placed.anchor,
                    "showarrow": True,
                    "arrowhead": 0,
                    "arrowwidth": 0.7,
                    "arrowcolor": "@muted",
                    "standoff": 6,
                    # An arrow at the edge means nothing without its number: it stays on a narrow page.
                    "keep": point.shape == "triangle-left",
                }
            )
    for bar in figure.bars:
        if bar.text:
            annotations.append(_note(figure, bar.end, bar.y, bar.text) | {"xanchor": "left", "xshift": 4, "showarrow": False, "keep": True})
    return annotations


def _note(figure: Figure, x: float, y: float, text: str) -> dict[str, Any]:
    return {
        "x": math.log10(x) if figure.x.log else x,
        "y": math.log10(y) if figure.y.log else y,
        "text": _escape(text),
        "font": {"size": 11, "color": "@ink"},
        "yanchor": "middle",
        "borderpad": 0,
        "bgcolor": "@paper/0.7",
    }


def pixel(figure: Figure, point: Point, width: float, height: float) -> tuple[float, float]:
    """Return where a point lies in a plot area of that size, y downward."""
    return width * _share(figure.x, point.x), height * (1 - _share(figure.y, point.y))


def _share(axis: Axis, value: float) -> float:
    if axis.log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return (value - axis.low) / (axis.high - axis.low)
