"""The figures of soaks as files: ``--png`` and ``--html`` of the commands of ``edgematrix thermal``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.domain.recipe import Reproduction
    from orchestrator.report.inputs import ThermalPanel

PNG = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write the figure as a picture.", show_default=False)]
HTML = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write the figure as a page that needs no network.", show_default=False)
]


def write_figures(
    panels: Sequence[ThermalPanel], title: str, png: Path | None, html: Path | None, reproduction: Reproduction | None = None
) -> list[Path]:
    """Write what was asked for, whole or not at all, and say where. Returns the files written."""
    from orchestrator.cli.output import message
    from orchestrator.service.export import write_atomically

    written = []
    if html is not None:
        from orchestrator.report.thermal_page import render_thermal_page

        write_atomically(html, render_thermal_page(panels, title, reproduction).encode("utf-8", "replace"))
        written.append(html)
    if png is not None:
        from orchestrator.report.thermal_picture import render_thermal_png

        write_atomically(png, render_thermal_png(panels, title, reproduction))
        written.append(png)
    for path in written:
        message(f"figure: {path.resolve()}")
    return written
