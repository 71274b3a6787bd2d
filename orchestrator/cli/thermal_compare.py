"""``edgematrix thermal compare``: soaks beside one another."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.thermal_files import HTML, PNG


def compare(
    soaks: Annotated[
        list[str],
        typer.Argument(
            metavar="SOAK",
            help="Soak jobs, or selections such as last:device=pi4; the first is the base.",
            show_default=False,
        ),
    ],
    png: PNG = None,
    html: HTML = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare soaks: each quantity side by side with its difference to the first, what their conditions differ in, and how far units of
    one kind of board lie apart.
    """
    from orchestrator.cli.output import print_json
    from orchestrator.cli.thermal_comparison import print_comparison
    from orchestrator.cli.thermal_files import write_figures
    from orchestrator.service import thermal_compare
    from orchestrator.service.context import open_context

    context = open_context()
    found = thermal_compare.compare_soaks(context, soaks)
    print_json(found) if as_json else print_comparison(found)
    if png or html:
        from orchestrator.service.thermal_figures import thermal_panels

        write_figures(thermal_panels(context, [item.job_id for item in found.soaks]), "Soaks compared", png, html)
