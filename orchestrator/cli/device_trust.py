"""``edgematrix device trust``: pin the new host key of a board that was set up anew."""

from __future__ import annotations

from typing import Annotated

import typer


def trust(
    name: Annotated[str, typer.Argument(help="The device's name.", show_default=False)],
    host_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="The host's key ('TYPE BASE64') or its fingerprint ('SHA256:…'): for scripts.", show_default=False
        ),
    ] = None,
    why: Annotated[str, typer.Option(help="Kept in the record of changes.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Pin another host key for a device, after its fingerprint was confirmed."""
    from orchestrator.cli.device_add import confirmed_host_key
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import ssh_devices
    from orchestrator.service.context import open_context

    context = open_context()
    view = ssh_devices.trust_host_key(context, name, confirmed_host_key(ssh_devices.asked_before(context, name), host_key), why)
    if as_json:
        print_json(view)
    else:
        message(f"{name} has a new host key pinned; next: edgematrix device check {name}")
