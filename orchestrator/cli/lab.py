"""``edgematrix lab``: several different CPUs to measure on, for people who own no board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploy.lab import LabDefinition

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Start, show and stop a lab of emulated devices on this machine (Debian or Ubuntu, as root).",
)

_Devices = Annotated[
    Path | None, typer.Option("--devices", metavar="FILE", help="Which devices; see docs/lab.md.", show_default="the five of the docs")
]


@app.command()
def up(
    devices: _Devices = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Start the lab and register its devices; the first time takes some minutes. Doing it again mends what is missing."""
    from deploy.lab import Lab
    from deploy.lab.registration import register
    from orchestrator.cli.output import message, print_json
    from orchestrator.service.context import open_context

    lab = Lab(_definition(devices))
    with lab.held():
        started = lab.up(message)
        found = register(open_context(), lab, started, message)
    if as_json:
        print_json(found)
    else:
        message("next: edgematrix run examples/lab.yaml")


@app.command()
def status(
    devices: _Devices = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show each device of the lab: whether it is up, where it is, and its health."""
    from deploy.lab import Lab
    from orchestrator.cli.output import plain, print_json, print_table
    from orchestrator.service.context import open_context
    from orchestrator.service.devices import list_devices

    found = Lab(_definition(devices)).status()
    known = {view.name: view for view in list_devices(open_context())}
    if as_json:
        print_json([{**plain(item), "health": known[item.name].health if item.name in known else None} for item in found])
        return
    rows = [
        (
            item.name,
            item.kind,
            f"EMULATED {item.emulated}",
            item.state,
            item.address,
            str(item.process_count),
            known[item.name].health if item.name in known else "not registered",
            item.root,
        )
        for item in found
    ]
    print_table(None, ("device", "kind", "emulated", "state", "address", "processes", "health", "root"), rows)


@app.command()
def down(
    devices: _Devices = None,
    purge: Annotated[bool, typer.Option("--purge", help="Also remove its disks, and with the last lab of this machine the roots.")] = False,
) -> None:
    """Stop the lab: its devices get no more work, and nothing of it stays running or mounted."""
    from deploy.lab import Lab
    from deploy.lab.registration import take_out
    from orchestrator.cli.output import message
    from orchestrator.service.context import open_context

    lab = Lab(_definition(devices))
    with lab.held():
        take_out(open_context(), lab.machines)
        lab.down()
        if purge:
            lab.purge()
    message("the lab is down" + ("; its disks are removed" if purge else f"; its roots and disks stay in {lab.folder}"))


def _definition(path: Path | None) -> LabDefinition:
    from deploy.lab import load_definition

    return load_definition() if path is None else load_definition(path)
