"""``edgematrix show``: an experiment's table, or everything known of one job."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def show(
    subject: str = typer.Argument("last", metavar="[ID]", help="An experiment's id, the beginning of one, or 'last'; or a job's id."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Show the table of an experiment, or one job with its metrics, conditions and errors."""
    from orchestrator.cli.output import print_json
    from orchestrator.cli.tables import print_experiment, print_job
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
