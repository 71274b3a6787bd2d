"""Draws a figure description for paper: a small static SVG, always in the light palette, whose text stays text."""

from __future__ import annotations

import io
import re

from matplotlib.backends.backend_svg import FigureCanvasSVG

from orchestrator.report.figure import Figure, Stack
from orchestrator.report.painting import paint, sheet

_WIDTH_PX = 700
_TEXT_PX = 9.0

#: Size and family of texts come from the page's style sheet. Groups carry nothing once their identifiers, which could clash, are gone.
_WHOLE_FILE = re.compile(r"\A.*?(?=<svg)|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", re.DOTALL)
_OPENING = re.compile(r'<svg[^>]*?( viewBox="[^"]*")[^>]*>')
_TAG = re.compile(r"<[^>]*>")
_NUMBERS = re.compile(r"(?<=[\d ,\"(-])(\d+\.\d)\d+(?=[ ,\")])")
_NOISE = re.compile(
    r"<g(?: id=\"[^\"]*\")?\s*/?>|</g>|<defs>\s*</defs>"
    r"| transform=\"rotate\(-0 [^\"]*\"|font-size: [\d.]+px; font-family: [^;\"]*; |; stroke-linecap: square"
)
_GAPS = re.compile(r"\s*\n\s*")


def svg_text(figure: Figure | Stack) -> str:
    """Return the figure as an ``<svg>`` element to stand inside an HTML page: it refers to nothing on the network."""
    with sheet(_WIDTH_PX, figure.height_px, _TEXT_PX) as paper:
        canvas = FigureCanvasSVG(paper.drawn)
        paint(paper, figure)
        out = io.StringIO()
        canvas.print_svg(out, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    return _embedded(out.getvalue())


def _embedded(document: str) -> str:
    """Strip what a whole file needs and a page does not: prologue, metadata, styles for every element, empty groups, digits nobody sees."""
    text = _WHOLE_FILE.sub("", document)
    text = _OPENING.sub(r"<svg\1>", text)
    text = _TAG.sub(lambda tag: _NUMBERS.sub(r"\1", tag[0]), text)
    text = _NOISE.sub("", text)
    return _GAPS.sub(" ", text).replace("> <", "><").strip()
