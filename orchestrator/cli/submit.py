"""``edgematrix submit``: hand a spec to the lab and return at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def submit(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The experiment's YAML file.", show_default=False)],
    priority: Annotated[
        int | None, typer.Option(help="Take this priority instead of the spec's; higher goes first.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Submit SPEC and print the experiment's id. 'edgematrix watch' follows it; 'edgematrix resume' runs it on this computer."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import devices, submission
    from orchestrator.service.context import open_context

    context = open_context()
    if context.settings.embedded:
        devices.ensure_this_computer(context)
    submitted = submission.submit(context, spec, priority=priority)
    if as_json:
        print_json(submitted)
        return
    for warning in submitted.warnings:
        message(f"note: {warning}")
    typer.echo(submitted.experiment_id)
