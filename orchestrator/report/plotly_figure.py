"""Draws a figure description for the screen, as the JSON that plotly.js takes.

Colours stay names (``@c0``): the page puts its theme's values in.
"""

from __future__ import annotations

import math
from typing import Any

from orchestrator.report.figure import STACK_FOOT_PX, STACK_HEADING_PX, Axis, Figure, Stack
from orchestrator.report.plotly_traces import bar_traces, escape, line_traces, point_traces, shapes, words_beside
from orchestrator.report.words import shortened

_MARGIN = {"l": 8, "r": 14, "t": 6, "b": STACK_FOOT_PX}
_ROW_NAME_LIMIT = 34
_CHARACTER_PX = 6.1


def plotly_json(figure: Figure | Stack) -> dict[str, Any]:
    """Return ``data`` and ``layout`` for ``Plotly.newPlot``. Texts are escaped, for plotly reads a part of HTML in them."""
    data, layout = _stacked(figure) if isinstance(figure, Stack) else _alone(figure)
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
        **layout,
    }
    return {"data": _rounded(data), "layout": _rounded(layout)}


def _alone(figure: Figure) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return _traces(figure), {
        "xaxis": _axis(figure.x),
        "yaxis": _axis(figure.y),
        "shapes": shapes(figure),
        "annotations": words_beside(figure, figure.height_px - _MARGIN["t"] - _MARGIN["b"]),
    }


def _stacked(stack: Stack) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One plot with a vertical axis for each figure, each in its own part of the height."""
    data: list[dict[str, Any]] = []
    drawn: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    axes: dict[str, Any] = {}
    whole_px = stack.height_px - _MARGIN["t"] - _MARGIN["b"]
    top_px = 0.0
    for index, figure in enumerate(stack.figures):
        name = "y" if index == 0 else f"y{index + 1}"
        top_px += STACK_HEADING_PX
        domain = (1 - (top_px + figure.height_px) / whole_px, 1 - top_px / whole_px)
        low = max(0.0, domain[0])
        axes[f"yaxis{name[1:]}"] = _axis(figure.y) | {"domain": [low, domain[1]], "anchor": "x"}
        data += [trace | {"yaxis": name} for trace in _traces(figure)]
        drawn += shapes(figure, (low, domain[1]), name)
        notes += words_beside(figure, figure.height_px, name) + _heading(figure, domain[1])
        top_px += figure.height_px
    last = "y" if len(stack.figures) == 1 else f"y{len(stack.figures)}"
    return data, {"xaxis": _axis(stack.figures[0].x) | {"anchor": last}, **axes, "shapes": drawn, "annotations": notes}


def _heading(figure: Figure, y: float) -> list[dict[str, Any]]:
    """The title of one figure of a stack, and its legend in the same line."""
    notes, at_px = [], 0.0
    entries = [("", figure.title, "@ink")]
    for key in figure.legend:
        entries += [("mark", "╍╍" if key.dashed else "━━", f"@{key.color}"), ("", key.text, "@muted")]
    for kind, text, color in entries:
        notes.append(
            {
                "xref": "paper",
                "yref": "paper",
                "x": 0,
                "y": y,
                "xanchor": "left",
                "yanchor": "bottom",
                "xshift": at_px,
                "yshift": 2,
                "text": escape(text),
                "font": {"size": 11, "color": color},
                "showarrow": False,
                "keep": True,
            }
        )
        at_px += 27 if kind else len(text) * _CHARACTER_PX + 14
    return notes


def _traces(figure: Figure) -> list[dict[str, Any]]:
    return line_traces(figure.lines) + point_traces(figure.points) + bar_traces(figure)


def _rounded(value: Any) -> Any:
    """Cut floats to what a screen can show: the page is smaller, and looks no different."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def _axis(axis: Axis) -> dict[str, Any]:
    ends = [math.log10(axis.low), math.log10(axis.high)] if axis.log else [axis.low, axis.high]
    return {
        "type": "log" if axis.log else "linear",
        "range": ends,
        "title": {"text": escape(axis.title), "font": {"size": 12, "color": "@muted"}, "standoff": 8},
        "tickmode": "array",
        "tickvals": [value for value, _ in axis.ticks],
        "ticktext": [escape(shortened(text, _ROW_NAME_LIMIT)) for _, text in axis.ticks],
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
