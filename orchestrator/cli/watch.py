"""``edgematrix watch``: look on while something else runs an experiment."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.exit_codes import ExitCode

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def watch(
    experiment: Annotated[str, typer.Argument(metavar="[ID]", help="An experiment's id, the beginning of one, or 'last'.")] = "last",
    as_json: Annotated[bool, typer.Option("--json", help="Print the progress as it is now, as one JSON document, and return.")] = False,
) -> None:
    """Watch an experiment to its end and print its table. Ctrl-C stops watching and nothing else."""
    from orchestrator.cli.finish import finish
    from orchestrator.cli.interrupts import Interrupts
    from orchestrator.cli.output import message, print_json
    from orchestrator.cli.watching import follow
    from orchestrator.service import experiments
    from orchestrator.service.context import open_context

    context = open_context()
    experiment_id = experiments.find_experiment(context, experiment)
    if as_json:
        print_json(experiments.progress(context, experiment_id))
        return
    with Interrupts() as interrupts:
        ended = follow(context, experiment_id, interrupts, lambda: None)
    if not ended:
        message(f"Stopped watching; experiment {experiment_id} goes on.")
        raise typer.Exit(ExitCode.INTERRUPTED)
    raise typer.Exit(finish(context, experiment_id, report=None, as_json=False))
