"""``edgematrix worker``: serve the devices of one gateway."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def worker(gateway: Annotated[str, typer.Option(help="The gateway's name; its devices were added under it.", show_default=False)]) -> None:
    """Serve the devices of GATEWAY until stopped. Redis and the database come from EDGEMATRIX_REDIS_URL and EDGEMATRIX_DATABASE_URL."""
    from orchestrator.worker.main import run_worker
    from orchestrator.worker.settings import Settings

    run_worker(Settings(), gateway)
