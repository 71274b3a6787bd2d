"""The figures of heat as one PNG picture: for a mail, a slide, an issue."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg

from agent.errors import ConfigurationError
from orchestrator.domain.recipe import Reproduction
from orchestrator.report.figure import LIGHT, FigureGroup
from orchestrator.report.inputs import ThermalPanel
from orchestrator.report.painting import DENSITY, Sheet, paint, sheet
from orchestrator.report.reproduction_chart import reproduction_group
from orchestrator.report.thermal_charts import soak_group
from orchestrator.report.thermal_overlay import overlay_group, scatter_group
from orchestrator.report.thermal_page import emulation_words


class NothingToDraw(ConfigurationError):
    code = "nothing_to_draw"


_WIDTH_PX = 1200
_TEXT_PX = 13.0
#: Twice the pixels of the description: sharp on screens of today.
_SHARPNESS = 2

_EDGE_PX, _LINE_PX, _TITLE_PX, _SPACE_PX = 28.0, 19.0, 30.0, 18.0
_CAPTION_CHARACTERS = 165


def render_thermal_png(panels: Sequence[ThermalPanel], title: str = "", reproduction: Reproduction | None = None) -> bytes:
    """Return a PNG, 2,400 pixels wide: one soak with its latency against temperature and clock, or several overlaid.

    Raises :class:`NothingToDraw` without any soak.
    """
    several = overlay_group(panels)
    groups = [reproduction_group(reproduction) if reproduction is not None else None, several]
    groups += [group for panel in panels for group in (soak_group(panel), scatter_group(panel))] if several is None else []
    return _picture(title, emulation_words(panels), [group for group in groups if group is not None])


def _picture(title: str, emulation: Sequence[str], groups: Sequence[FigureGroup]) -> bytes:
    if not groups:
        raise NothingToDraw("there is no soak to draw", "wait until one has ended: edgematrix watch")
    heads = [line for text in (title, *(f"EMULATED: {sentence}" for sentence in emulation)) if text for line in _wrapped(text)]
    height = 2 * _EDGE_PX + _LINE_PX * len(heads) + sum(_group_px(group) for group in groups)
    with sheet(_WIDTH_PX, height, _TEXT_PX, density=_SHARPNESS * DENSITY) as paper:
        paper.drawn.patch.set_visible(True)
        paper.drawn.patch.set_facecolor(LIGHT["paper"])
        at_px = _EDGE_PX
        for text in heads:
            paper.write(_EDGE_PX, at_px + _LINE_PX / 2, text, fontsize=_TEXT_PX + 2 if text == heads[0] else _TEXT_PX)
            at_px += _LINE_PX
        for group in groups:
            at_px = _paint_group(paper, group, at_px)
        out = io.BytesIO()
        FigureCanvasAgg(paper.drawn).print_png(out, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return out.getvalue()


def _group_px(group: FigureGroup) -> float:
    lines = len(_wrapped(group.caption)) + len(_legend_lines(group))
    titles = bool(group.heading) + sum(bool(figure.title) for figure in group.figures)
    return _LINE_PX * lines + _TITLE_PX * titles + sum(figure.height_px for figure in group.figures) + _SPACE_PX


def _paint_group(paper: Sheet, group: FigureGroup, at_px: float) -> float:
    """Paint heading, caption, legend and figures; return where the next group begins."""
    at_px = _paint_title(paper, group.heading, at_px)
    for text in _wrapped(group.caption):
        paper.write(_EDGE_PX, at_px + _LINE_PX / 2, text, "muted")
        at_px += _LINE_PX
    for line in _legend_lines(group):
        left_px = _EDGE_PX
        for color, name in line:
            paper.write(left_px, at_px + _LINE_PX / 2, "■", color)
            paper.write(left_px + 1.4 * _TEXT_PX, at_px + _LINE_PX / 2, name)
            left_px += _entry_px(name)
        at_px += _LINE_PX
    for figure in group.figures:
        at_px = _paint_title(paper, figure.title, at_px)
        paint(paper, figure, _EDGE_PX, at_px, _WIDTH_PX - 2 * _EDGE_PX)
        at_px += figure.height_px
    return at_px + _SPACE_PX


def _paint_title(paper: Sheet, title: str, at_px: float) -> float:
    if not title:
        return at_px
    paper.write(_EDGE_PX, at_px + _TITLE_PX / 2, title, fontsize=_TEXT_PX + 2)
    return at_px + _TITLE_PX


def _legend_lines(group: FigureGroup) -> list[list[tuple[str, str]]]:
    lines: list[list[tuple[str, str]]] = []
    used_px = float(_WIDTH_PX)
    for color, name in group.legend if len(group.legend) > 1 else ():
        if used_px + _entry_px(name) > _WIDTH_PX - 2 * _EDGE_PX:
            lines.append([])
            used_px = 0.0
        lines[-1].append((color, name))
        used_px += _entry_px(name)
    return lines


def _entry_px(name: str) -> float:
    return 1.4 * _TEXT_PX + len(name) * _TEXT_PX * 0.62 + 16


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _CAPTION_CHARACTERS)
