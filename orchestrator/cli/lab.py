"""``edgematrix lab``: several different CPUs to measure on, for people who own no board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
        heat = any(machine.about.plant is not None for machine in lab.machines)
        message(f"next: edgematrix run examples/{'heat' if heat else 'lab'}.yaml")


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
def plant(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="A device of a lab that has a plant.")],
    ambient_c: Annotated[float | None, typer.Option("--ambient", metavar="CELSIUS", help="Set the temperature of the air.")] = None,
    fan: Annotated[str | None, typer.Option("--fan", metavar="STATE", help="on, off, or auto: as its temperature says.")] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="FAULT", help="stuck-sensor, vanished-zone, under-voltage, fan-stop, or none; may be repeated."),
    ] = None,
    rest: Annotated[bool, typer.Option("--rest", help="Let it stand idle for so long that nothing changes any more, in no time.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the heat of a device of the lab as it really is; change its air, its fan, or break something. Needs root to change anything."""
    from deploy.lab import FOLDER, plant_of
    from orchestrator.cli.output import print_json, print_table

    found = plant_of(device, FOLDER)
    if ambient_c is not None or fan is not None or faults is not None or rest:
        found.order(ambient_c, fan, None if faults is None else [fault for fault in faults if fault != "none"], rest)
    state = found.state()
    if as_json:
        print_json(state)
        return
    rows = [
        ("die", f"{state['die_c']:.1f} °C"),
        ("board", f"{state['board_c']:.1f} °C"),
        ("air", f"{state['ambient_c']:.1f} °C"),
        ("power", f"{state['watts']:.2f} W, {state['cores']:.2f} of core {state['core']} in use"),
        ("clock", f"{state['ratio']:.0%} (cooling state {state['level']})"),
        ("fan", "none" if state["fan"] == "none" else f"{state['fan']}, {state['rpm']} rpm"),
        ("faults", ", ".join(state["faults"]) or "none"),
        *(("truth", _truth_words(item)) for item in state["truth"]),
        ("record", state["journal"]),
    ]
    print_table(None, ("what", "value"), rows)


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


def _truth_words(truth: Mapping[str, Any]) -> str:
    fast, slow = truth["time_constants_secs"]
    fan = f" at {truth['rpm']} rpm" if truth["rpm"] else ""
    return f"τ {fast:.2f} s and {slow:.1f} s, {truth['idle_c']:.1f} °C idle, {truth['busy_c']:.1f} °C with a busy core{fan}"


def _definition(path: Path | None) -> LabDefinition:
    from deploy.lab import load_definition

    return load_definition() if path is None else load_definition(path)
