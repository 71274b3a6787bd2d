"""``edgematrix doctor``: what works on this machine, what does not, and what mends it."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.exit_codes import ExitCode

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Check this machine. Exit code 3 when something that is needed does not work."""
    from orchestrator.cli.output import print_checks, print_json
    from orchestrator.service import doctor as service
    from orchestrator.worker.settings import Settings

    checks = service.examine(Settings())
    print_json(checks) if as_json else print_checks(checks)
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(ExitCode.INFRASTRUCTURE)
