"""``edgematrix recompute``: metrics anew from the traces that were kept."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def recompute(
    experiment: Annotated[str, typer.Argument(metavar="[ID]", help="An experiment's id, the beginning of one, or 'last'.")] = "last",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Rebuild the metrics of an experiment with this version's analysis and say what changed."""
    from orchestrator.cli.output import message, print_json, print_table
    from orchestrator.service import experiments
    from orchestrator.service import recompute as service
    from orchestrator.service.context import open_context

    context = open_context()
    result = service.recompute(context, experiments.find_experiment(context, experiment))
    if as_json:
        print_json(result)
        return
    if result.changes:
        rows = [(change.job_id, change.metric, change.old, change.new) for change in result.changes]
        print_table("changed", ("job", "metric", "before>", "now>"), rows)
    message(f"{result.job_count} jobs recomputed with analysis version {result.analysis_version}: {len(result.changes)} metrics changed")
