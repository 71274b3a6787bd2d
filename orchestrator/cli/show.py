"""``edgematrix show``: an experiment's table, or everything known of one job."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def show(
    subject: Annotated[
        str, typer.Argument(metavar="[ID]", help="An experiment's id, the beginning of one, or 'last'; or a job's id.")
    ] = "last",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the table of an experiment, or one job with its metrics, conditions and errors."""
    from orchestrator.cli.output import print_json
    from orchestrator.cli.records import print_job
    from orchestrator.cli.tables import print_experiment
    from orchestrator.service import results
    from orchestrator.service.context import open_context

    context = open_context()
    job = results.find_job(context, subject)
    if job is not None:
        print_json(job) if as_json else print_job(job)
        return
    from orchestrator.service import experiments

    table = results.experiment_table(context, experiments.find_experiment(context, subject))
    print_json(table) if as_json else print_experiment(table)
