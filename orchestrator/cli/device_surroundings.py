"""``edgematrix device surroundings``: how the chamber and the fan around a device are set for a soak."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from orchestrator.cli.device_reserve import AS_JSON, NAME, WHY


def surroundings(
    name: NAME,
    chamber: Annotated[
        str | None, typer.Option(help="What sets its chamber, run on its gateway: 'chamber-cli set {celsius}'.", show_default=False)
    ] = None,
    fan: Annotated[str | None, typer.Option(help="What sets its fan: 'fan-cli 3 {state}'.", show_default=False)] = None,
    reset: Annotated[str | None, typer.Option(help="What brings all back after a job.", show_default=False)] = None,
    none: Annotated[bool, typer.Option("--none", help="Nothing around it can be set.")] = False,
    why: WHY = "",
    as_json: AS_JSON = False,
) -> None:
    """Say, or show, how the surroundings of a device are set, for soaks whose spec asks for them."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import surroundings as service
    from orchestrator.service.context import open_context

    given = {what: text for what, text in (("chamber", chamber), ("fan", fan), ("reset", reset)) if text is not None}
    if given and none:
        raise typer.BadParameter("give either commands or --none", param_hint="--none")
    context = open_context()
    if given or none:
        found = service.set_surroundings(context, name, None if none else {what: _words(what, text) for what, text in given.items()}, why)
    else:
        found = service.get_surroundings(context, name)
    if as_json:
        print_json(found)
    elif not found.commands:
        message(
            f"nothing around {name} is set by anything; edgematrix device surroundings {name} --chamber '… {{celsius}}' registers a way"
        )
    else:
        for what, command in found.commands.items():
            message(f"{name}: {what} by, on the gateway {found.gateway}: {command}")


def _words(what: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint=f"--{what}") from None
