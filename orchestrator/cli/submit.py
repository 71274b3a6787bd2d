"""``edgematrix submit``: hand a spec to the lab and return at once."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def submit(
    spec: Path = typer.Argument(..., metavar="SPEC", help="The experiment's YAML file.", show_default=False),
    priority: int | None = typer.Option(None, help="Take this priority instead of the spec's; higher goes first.", show_default=False),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Submit SPEC and print the experiment's id. 'edgematrix watch' follows it; 'edgematrix resume' runs it on this computer."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import devices, experiments
    from orchestrator.service.context import open_context

    context = open_context()
    if context.settings.embedded:
        devices.ensure_this_computer(context)
    submitted = experiments.submit(context, spec, priority=priority)
    if as_json:
        print_json(submitted)
        return
    for warning in submitted.warnings:
        message(f"note: {warning}")
    typer.echo(submitted.experiment_id)
