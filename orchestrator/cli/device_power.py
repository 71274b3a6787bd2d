"""``edgematrix device power | power-cycle``: how a board that hangs gets its power cut, and to cut it now."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from orchestrator.cli.device_reserve import AS_JSON, NAME, WHY


def power(
    name: NAME,
    command: Annotated[
        str | None, typer.Option(help="What switches it off and on, run on its gateway: 'pdu-cli cycle 7'.", show_default=False)
    ] = None,
    uhubctl: Annotated[
        str | None, typer.Option(metavar="HUB:PORT", help="A port of a USB hub that can cut its power.", show_default=False)
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="It cannot be switched off and on.")] = False,
    why: WHY = "",
    as_json: AS_JSON = False,
) -> None:
    """Say, or show, how a device is switched off and on. A check that cannot reach it tries that once."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import power as service
    from orchestrator.service.context import open_context

    if sum((command is not None, uhubctl is not None, none)) > 1:
        raise typer.BadParameter("give one of --command, --uhubctl and --none", param_hint="--command")
    context = open_context()
    if command is None and uhubctl is None and not none:
        found = service.get_power(context, name)
    else:
        found = service.set_power(context, name, _about(command, uhubctl), why)
    if as_json:
        print_json(found)
    elif found.command is None:
        message(f"{name} is not switched off and on by anything; edgematrix device power {name} --command … registers a way")
    else:
        message(f"{name} is switched off and on by, on the gateway {found.gateway}: {found.command}")


def power_cycle(
    name: NAME,
    why: WHY = "",
    force: Annotated[bool, typer.Option("--force", help="Also while a job holds it or somebody else has reserved it.")] = False,
    as_json: AS_JSON = False,
) -> None:
    """Switch a device off and on now, from this gateway. It gets work again once it has booted and a health check has passed."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import power as service
    from orchestrator.service.context import open_context

    view = service.power_cycle_now(open_context(), name, why, force)
    if as_json:
        print_json(view)
    else:
        message(f"{name} was switched off and on; it is checked in {service.BOOT_TIME_SECS:g} s")


def _about(command: str | None, uhubctl: str | None) -> dict[str, Any] | None:
    if command is not None:
        try:
            return {"driver": "command", "argv": shlex.split(command)}
        except ValueError as error:
            raise typer.BadParameter(f"{command!r}: {error}", param_hint="--command") from None
    if uhubctl is not None:
        hub, _, port = uhubctl.rpartition(":")
        return {"driver": "uhubctl", "hub": hub, "port": port}
    return None
