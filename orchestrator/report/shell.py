"""What every page of this package stands in: figures drawn twice, scripts and styles inside, and a policy that admits no others.

Nothing is loaded from anywhere, and nothing from the results can become markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from orchestrator.report.figure import DARK, LIGHT, FigureGroup
from orchestrator.report.plotly_figure import plotly_json
from orchestrator.report.svg_figure import svg_text

# What is between these characters' escapes stays JSON, and no ``</script>`` or ``<!--`` can be spelled.
_JSON_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Panel:
    """One drawn figure: its place in the page, and the static drawing."""

    id: str
    title: str
    summary: str
    height_px: int
    svg: Markup


@dataclass(frozen=True)
class DrawnGroup:
    heading: str
    caption: str
    legend: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]


class Drawing:
    """Draws groups in the order of the page and keeps what the page's script needs of them."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, Any]] = {}

    def draw(self, group: FigureGroup | None) -> DrawnGroup | None:
        if group is None:
            return None
        panels = []
        for figure in group.figures:
            name = f"f{len(self.figures) + 1}"
            self.figures[name] = plotly_json(figure)
            # The static drawing is made by this package from described numbers and escaped names: it is markup by intention.
            panels.append(Panel(name, figure.title, figure.summary, figure.height_px, Markup(svg_text(figure))))  # noqa: S704
        return DrawnGroup(group.heading, group.caption, group.legend, tuple(panels))


def render_page(template: str, drawing: Drawing, *, kind: str, title: str, **parts: Any) -> str:
    """Return a page of ``templates`` with the figures drawn so far; ``kind`` is what the window's title calls it."""
    environment = Environment(
        loader=PackageLoader("orchestrator.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sources = {name: _source(environment, name) for name in ("report.css", "theme.js", "report.js")}
    scripts = {"theme": sources["theme.js"], "plotly": get_plotlyjs().replace("\r", ""), "page": sources["report.js"]}
    figures = _json({"light": LIGHT, "dark": DARK, "figures": drawing.figures})
    return environment.get_template(template).render(
        **parts,
        kind=kind,
        title=title,
        light=LIGHT,
        dark=DARK,
        css=Markup(sources["report.css"]),  # noqa: S704
        scripts={name: Markup(text) for name, text in scripts.items()},  # noqa: S704
        policy=" ".join(f"'sha256-{_digest(text)}'" for text in scripts.values()),
        figures=Markup(figures),  # noqa: S704
    )


def _json(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character, escape in _JSON_ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _source(environment: Environment, name: str) -> str:
    if environment.loader is None:
        raise AssertionError("the environment was made with a loader")
    return environment.loader.get_source(environment, name)[0].strip()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
