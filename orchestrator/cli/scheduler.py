"""``edgematrix scheduler``: hand waiting jobs to idle devices."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def scheduler() -> None:
    """Schedule until stopped. One is active; a second one is a standby that takes over when the first is gone."""
    from orchestrator.worker.main import run_scheduler
    from orchestrator.worker.settings import Settings

    run_scheduler(Settings())
