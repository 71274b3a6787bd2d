"""``edgematrix report``: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def report(
    experiment: Annotated[str, typer.Argument(metavar="[ID]", help="An experiment's id, the beginning of one, or 'last'.")] = "last",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="The file to write.")] = Path("report.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Say what was written as one JSON document.")] = False,
) -> None:
    """Write the report of an experiment; of what is finished, when it still runs."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import experiments, reports
    from orchestrator.service.context import open_context

    context = open_context()
    written = reports.write_report(context, experiments.find_experiment(context, experiment), output)
    print_json({"file": written}) if as_json else message(f"report: {written}")
