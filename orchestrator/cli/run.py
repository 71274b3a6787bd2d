"""``edgematrix run``: submit a spec, watch it to its end, print the table, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from orchestrator.service.views import DryRunView

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def run(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The experiment's YAML file.", show_default=False)],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cells, the device-hours and the expected finish; run nothing.")
    ] = False,
    priority: Annotated[
        int | None, typer.Option(help="Take this priority instead of the spec's; higher goes first.", show_default=False)
    ] = None,
    report: Annotated[Path, typer.Option("--report", metavar="PATH", help="Where the report goes.")] = Path("report.html"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as one JSON document.")] = False,
) -> None:
    """Run SPEC on this computer (or in the lab, where one is configured), watch it, print the table and write the report.

    The first Ctrl-C cancels the jobs and waits for the devices to stop; a second one stops at once.
    """
    from orchestrator.cli.finish import finish
    from orchestrator.cli.interrupts import Interrupts
    from orchestrator.cli.output import message
    from orchestrator.cli.stack import embedded_stack
    from orchestrator.cli.watching import follow_with_stack
    from orchestrator.service import devices, submission
    from orchestrator.service.context import open_context

    context = open_context()
    if context.settings.embedded:
        devices.ensure_this_computer(context)
    if dry_run:
        _print_dry_run(submission.dry_run(context, spec), as_json=as_json)
        return
    with Interrupts() as interrupts:
        submitted = submission.submit(context, spec, priority=priority)
        for warning in submitted.warnings:
            message(f"note: {warning}")
        message(f"experiment {submitted.experiment_id} ({submitted.name}): {submitted.job_count} jobs{_skipped(submitted.skipped_count)}")
        follow_with_stack(context, [submitted.experiment_id], embedded_stack(context.settings), interrupts)
        interrupted = interrupts.requested
        code = finish(context, submitted.experiment_id, report=None if no_report or interrupted else report, as_json=as_json)
    raise typer.Exit(ExitCode.INTERRUPTED if interrupted else code)


def _skipped(count: int) -> str:
    return f", {count} of them skipped because their environment cannot run them" if count else ""


def _print_dry_run(view: DryRunView, *, as_json: bool) -> None:
    from orchestrator.cli.output import message, print_json, print_table

    if as_json:
        print_json(view)
        return
    names = [name for name in dict.fromkeys(name for cell in view.cells for name in cell) if any(cell.get(name) for cell in view.cells)]
    title = f"{view.name}: {view.job_count} jobs{_skipped(view.skipped_count)}"
    print_table(title, [name.replace("_", " ") for name in names], [[_cell(cell.get(name)) for name in names] for cell in view.cells])
    finish = f", expected finish {view.expected_finish_utc}" if view.expected_finish_utc else ""
    message(f"{view.device_hours:.2f} device-hours{finish}")
    for line in (*view.basis, *(f"note: {warning}" for warning in view.warnings)):
        message(f"  {line}")


def _cell(value: Any) -> str | None:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.1f}"
    return None if value is None else str(value)
