"""``edgematrix list``: the experiments, newest first."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def list_experiments(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List experiments: where they stand and how their jobs ended."""
    from orchestrator.cli.output import message, print_json, print_table
    from orchestrator.service import experiments
    from orchestrator.service.context import open_context

    found = experiments.list_experiments(open_context(), limit)
    if as_json:
        print_json(found)
        return
    if not found:
        message("no experiments yet; 'edgematrix run SPEC' makes one")
        return
    rows = [
        (
            item.id,
            item.name,
            item.state,
            f"{item.finished_count}/{item.job_count}",
            ", ".join(f"{count} {name}" for name, count in sorted(item.counts.items()) if count),
            item.submitted_utc,
            item.submitted_by,
        )
        for item in found
    ]
    print_table(None, ("id", "name", "state", "jobs>", "of these", "submitted", "by"), rows)
