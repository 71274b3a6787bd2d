"""``edgematrix cancel``: an experiment, or one job of it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def cancel(
    subject: Annotated[
        str,
        typer.Argument(metavar="ID", help="An experiment's id (or the beginning of one, or 'last'), or a job's id.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Cancel what is not finished; a job that runs is stopped on its device."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import experiments
    from orchestrator.service.context import open_context

    count = experiments.cancel(open_context(), subject)
    if as_json:
        print_json({"canceled_jobs": count})
    else:
        message(f"{count} job{'s' if count != 1 else ''} canceled" if count else "nothing to cancel: every job is finished")
