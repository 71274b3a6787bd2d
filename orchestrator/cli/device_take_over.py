"""``edgematrix device take-over``: use a board that another database gave leases of."""

from __future__ import annotations

from typing import Annotated

import typer


def take_over(
    name: Annotated[str, typer.Argument(help="The device's name.", show_default=False)],
    why: Annotated[str, typer.Option(help="Kept in the record of changes.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Take a device over from another installation, or after the database was restored from a copy; what still runs there will be ended."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import ssh_devices
    from orchestrator.service.context import open_context

    view = ssh_devices.take_over(open_context(), name, why)
    if as_json:
        print_json(view)
    else:
        message(f"{name} is taken over; next: edgematrix device check {name}")
