"""``edgematrix device``: the physical things that jobs run on."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import device_add, device_clean, device_trust
from orchestrator.cli.exit_codes import ExitCode

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="Add, list, show and check devices.")
app.command("add")(device_add.add)
app.command("trust")(device_trust.trust)
app.command("clean")(device_clean.clean)


@app.command("list")
def list_devices(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List devices: health, what they run, where they are."""
    from orchestrator.cli.output import message, print_json, print_table
    from orchestrator.service import devices
    from orchestrator.service.context import open_context

    found = devices.list_devices(open_context())
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
            item.health + (f": {item.health_reason}" if item.health_reason else ""),
            "no" if item.emulated == "none" else f"EMULATED {item.emulated}",
            item.running_job or "idle",
            ", ".join(item.environments),
            f"{item.gateway}: {item.where}",
            ", ".join(f"{key}={value}" for key, value in item.labels.items()),
        )
        for item in found
    ]
    print_table(None, ("device", "profile", "health", "emulated", "running", "environments", "gateway: where", "labels"), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The device's name.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show everything known of one device."""
    from orchestrator.cli.output import plain, print_json
    from orchestrator.cli.records import print_record
    from orchestrator.service import devices
    from orchestrator.service.context import open_context

    view = devices.get_device(open_context(), name)
    print_json(view) if as_json else print_record(plain(view))


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
