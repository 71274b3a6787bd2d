"""What a command does when an experiment is over: the table, the report, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from orchestrator.service.context import Context


def finish(context: Context, experiment_id: str, *, report: Path | None, as_json: bool) -> ExitCode:
    """Print the experiment's table, write its report, and return NOT_MEASURED when a job ended in error or timeout."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.cli.tables import print_experiment
    from orchestrator.service import reports, results

    table = results.experiment_table(context, experiment_id)
    if as_json:
        print_json(table)
    else:
        print_experiment(table)
    if report is not None:
        written = reports.write_report(context, experiment_id, report)
        message(f"report: {written}")
    return ExitCode.NOT_MEASURED if table.unmeasured_count else ExitCode.OK
