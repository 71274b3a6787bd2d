"""The parts of a figure as plotly.js takes them: traces, shapes and annotations. Colours stay names (``@c0``)."""

from __future__ import annotations

import html
import math
from dataclasses import replace
from typing import Any

from orchestrator.report.figure import Bar, Figure, Line, Point
from orchestrator.report.labels import pixel, place_labels

#: The plot area that labels are placed for; the page hides them where it is much narrower.
NOMINAL_WIDTH_PX = 820

_SYMBOLS = {"tick": "line-ns"}


def escape(text: str) -> str:
    """Plotly reads a part of HTML in texts."""
    return html.escape(text, quote=False).replace("\n", "<br>")


def line_traces(lines: tuple[Line, ...]) -> list[dict[str, Any]]:
    """Lines that look alike share one trace, with gaps between them: fewer elements to draw."""
    groups: dict[Line, list[Line]] = {}
    for line in lines:
        groups.setdefault(replace(line, x=(), y=()), []).append(line)
    traces = []
    for look, members in groups.items():
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines",
            "x": _gapped([line.x for line in members]),
            "y": _gapped([line.y for line in members]),
            "line": {"color": f"@{look.color}", "width": look.width_px},
            "opacity": look.opacity,
            "hoverinfo": "skip",
        }
        if look.fill:
            trace.update(fill="toself", fillcolor=f"@{look.color}/0.45")
        if look.step:
            trace["line"]["shape"] = "hv"
        if look.dashed:
            trace["line"]["dash"] = "dash"
        if look.hover:
            # Braces would name a value of the point; a channel's name has none to say.
            words = escape(look.hover).replace("{", "(").replace("}", ")")
            del trace["hoverinfo"]
            trace["hovertemplate"] = f"{words}: %{{y:.4~g}}<br>at %{{x:.5~g}} s<extra></extra>"
        traces.append(trace)
    return traces


def _gapped(pieces: list[tuple[float, ...]]) -> list[float | None]:
    joined: list[float | None] = []
    for piece in pieces:
        joined += [*piece, None]
    return joined[:-1]


def point_traces(points: tuple[Point, ...]) -> list[dict[str, Any]]:
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
            "hovertext": [escape(point.hover) for point in members],
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


def bar_traces(figure: Figure) -> list[dict[str, Any]]:
    groups: dict[tuple[str, float], list[Bar]] = {}
    for bar in figure.bars:
        groups.setdefault((bar.color, bar.opacity), []).append(bar)
    return [
        {
            "type": "bar",
            "orientation": "h",
            "y": [bar.y for bar in members],
            "base": [bar.start for bar in members],
            "x": [bar.end - bar.start for bar in members],
            "width": 0.62,
            "marker": {"color": f"@{color}", "line": {"width": 0}} | ({"opacity": opacity} if opacity < 1 else {}),
            "hovertext": [escape(bar.hover) for bar in members],
            "hoverinfo": "text" if any(bar.hover for bar in members) else "skip",
        }
        for (color, opacity), members in groups.items()
    ]


def shapes(figure: Figure, y_domain: tuple[float, float] = (0.0, 1.0), y_name: str = "y") -> list[dict[str, Any]]:
    """Bands beneath everything else and rules above the grid; ``y_domain`` is the part of the plot's height that is this figure's."""

    def extent(axis: str, start: float, end: float) -> dict[str, Any]:
        along_x = axis == "x"
        return {
            "layer": "between",
            "xref": "x" if along_x else "paper",
            "yref": "paper" if along_x else y_name,
            "x0": start if along_x else 0,
            "x1": end if along_x else 1,
            "y0": y_domain[0] if along_x else start,
            "y1": y_domain[1] if along_x else end,
        }

    bands = [
        extent(band.axis, band.start, band.end) | {"type": "rect", "line": {"width": 0}, "fillcolor": f"@{band.color}/{band.opacity:g}"}
        for band in figure.bands
    ]
    rules = [
        extent(rule.axis, rule.at, rule.at)
        | {"type": "line", "line": {"color": f"@{rule.color}", "width": 1, "dash": "dot" if rule.dashed else "solid"}}
        for rule in figure.rules
    ]
    return bands + rules


def words_beside(figure: Figure, height_px: float, y_name: str = "y") -> list[dict[str, Any]]:
    """Names beside points and bars, and notes, in a plot of that height."""
    found: list[dict[str, Any]] = []
    places = place_labels(
        [pixel(figure, point, NOMINAL_WIDTH_PX, height_px) for point in figure.points],
        [point.text for point in figure.points],
        NOMINAL_WIDTH_PX,
        height_px,
    )
    for point, placed in zip(figure.points, places, strict=True):
        if point.text:
            found.append(
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
            found.append(_note(figure, bar.end, bar.y, bar.text) | {"xanchor": "left", "xshift": 4, "showarrow": False, "keep": True})
    for note in figure.notes:
        found.append(_note(figure, note.x, note.y, note.text) | {"xanchor": note.anchor, "showarrow": False, "keep": note.keep})
        found[-1]["font"] = {"size": 11, "color": f"@{note.color}"}
    return [item | {"yref": y_name} for item in found]


def _note(figure: Figure, x: float, y: float, text: str) -> dict[str, Any]:
    return {
        "x": math.log10(x) if figure.x.log else x,
        "y": math.log10(y) if figure.y.log else y,
        "text": escape(text),
        "font": {"size": 11, "color": "@ink"},
        "yanchor": "middle",
        "borderpad": 0,
        "bgcolor": "@paper/0.7",
    }
