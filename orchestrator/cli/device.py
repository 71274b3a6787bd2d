"""``edgematrix device``: the physical things that jobs run on."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import (
    device_add,
    device_clean,
    device_history,
    device_power,
    device_reserve,
    device_surroundings,
    device_take_over,
    device_trust,
    device_upkeep,
)
from orchestrator.cli.exit_codes import ExitCode

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Add, list, check, reserve and maintain devices.")
app.command("add")(device_add.add)
app.command("trust")(device_trust.trust)
app.command("take-over")(device_take_over.take_over)
app.command("clean")(device_clean.clean)
app.command("reserve")(device_reserve.reserve)
app.command("extend")(device_reserve.extend)
app.command("release")(device_reserve.release)
app.command("kick")(device_reserve.kick)
app.command("quarantine")(device_upkeep.quarantine)
app.command("maintenance")(device_upkeep.maintenance)
app.command("retire")(device_upkeep.retire)
app.command("return")(device_upkeep.bring_back)
app.command("power")(device_power.power)
app.command("power-cycle")(device_power.power_cycle)
app.command("surroundings")(device_surroundings.surroundings)
app.command("history")(device_history.history)


@app.command("list")
def list_devices(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List devices: health, who uses them, where they are."""
    from orchestrator.cli.device_words import health_words, use_words
    from orchestrator.cli.output import message, print_json, print_table
    from orchestrator.service import devices
    from orchestrator.service.context import open_context

    context = open_context()
    found = devices.list_devices(context)
    if as_json:
        print_json(found)
        return
    if not found:
        message("no devices yet; 'edgematrix run SPEC' registers this computer, 'edgematrix device add' adds another")
        return
    rows = [
        (
            item.name,
            item.profile,
            health_words(item, context.clock()),
            "no" if item.emulated == "none" else f"EMULATED {item.emulated}",
            "yes" if item.tried_on_hardware else "no",
            use_words(item),
            ", ".join(item.environments),
            f"{item.gateway}: {item.where}",
            ", ".join(f"{key}={value}" for key, value in item.labels.items()),
        )
        for item in found
    ]
    print_table(
        None, ("device", "profile", "health", "emulated", "tried on hardware", "use", "environments", "gateway: where", "labels"), rows
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The device's name.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show everything known of one device."""
    from orchestrator.cli.device_words import device_record
    from orchestrator.cli.output import print_json
    from orchestrator.cli.records import print_record
    from orchestrator.service import devices
    from orchestrator.service.context import open_context

    context = open_context()
    view = devices.get_device(context, name)
    print_json(view) if as_json else print_record(device_record(view, context.clock()))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="The device's name.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a device now and set its health by what is found. Exit code 3 when a check fails."""
    from orchestrator.cli.output import print_checks, print_json
    from orchestrator.service import devices
    from orchestrator.service.context import open_context

    checks = devices.check_device(open_context(), name)
    print_json(checks) if as_json else print_checks(checks)
    if any(item.status == "failed" for item in checks):
        raise typer.Exit(ExitCode.INFRASTRUCTURE)
