"""``edgematrix resume``: continue after an interruption, also one by kill -9."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.exit_codes import ExitCode

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def resume(
    experiment: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One experiment; all unfinished ones when absent.", show_default=False)
    ] = None,
    report: Annotated[
        Path, typer.Option("--report", metavar="PATH", help="Where the report goes; several experiments add their ids to the name.")
    ] = Path("report.html"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as one JSON document.")] = False,
) -> None:
    """Start what is needed on this computer and bring unfinished experiments to their ends. No result is lost or doubled."""
    from orchestrator.cli.finish import finish
    from orchestrator.cli.interrupts import Interrupts
    from orchestrator.cli.output import message, print_json
    from orchestrator.cli.stack import embedded_stack
    from orchestrator.cli.watching import follow_with_stack
    from orchestrator.service import devices, experiments, results
    from orchestrator.service.context import open_context

    context = open_context()
    wanted = [experiments.find_experiment(context, experiment)] if experiment else experiments.unfinished(context)
    if not wanted:
        message("nothing to resume: every experiment is finished")
        if as_json:
            print_json([])
        return
    with Interrupts() as interrupts:
        if context.settings.embedded:
            devices.ensure_this_computer(context)
        message(f"resuming {', '.join(wanted)}")
        follow_with_stack(context, wanted, embedded_stack(context.settings), interrupts)
        interrupted = interrupts.requested
        code = ExitCode.OK
        if as_json:
            tables = [results.experiment_table(context, experiment_id) for experiment_id in wanted]
            print_json(tables)
            code = ExitCode.NOT_MEASURED if any(table.unmeasured_count for table in tables) else ExitCode.OK
        else:
            for experiment_id in wanted:
                path = report if len(wanted) == 1 else report.with_stem(f"{report.stem}-{experiment_id}")
                code = max(code, finish(context, experiment_id, report=None if no_report or interrupted else path, as_json=False))
    raise typer.Exit(ExitCode.INTERRUPTED if interrupted else code)
