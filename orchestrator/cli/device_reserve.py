"""``edgematrix device reserve | extend | release | kick``: a device for one person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.service.context import Context

NAME = Annotated[str, typer.Argument(help="The device's name.", show_default=False)]
WHY = Annotated[str, typer.Option(help="Why; shown to everybody and kept.")]
UNTIL = Annotated[
    str | None, typer.Option(metavar="TIME", help="14:30, 2026-11-22T08:00 or 2h; this computer's time zone.", show_default=False)
]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def reserve(
    name: NAME,
    length: Annotated[str | None, typer.Option("--for", metavar="LENGTH", help="90m, 2h, 1d.", show_default=False)] = None,
    until: UNTIL = None,
    why: WHY = "",
    now: Annotated[bool, typer.Option("--now", help="Cancel what runs there, instead of letting it end.")] = False,
    as_json: AS_JSON = False,
) -> None:
    """Reserve a device for yourself: jobs of others do not start there, your own do. It ends by itself."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import reservations
    from orchestrator.service.context import open_context

    context = open_context()
    ends_at = _end(context, length, until, "--for")
    found = reservations.reserve(context, name, ends_at, why, kick_running=now)
    if as_json:
        print_json(found)
        return
    message(f"{name} is {found.reservation.text}")
    if found.kicked_job:
        message(f"{found.kicked_job} was canceled; it stops on the device in a moment")
    elif found.running_job:
        message(f"{found.running_job} still runs there and ends normally; --now, or edgematrix device kick {name}, cancels it")


def extend(
    name: NAME,
    by: Annotated[str | None, typer.Option("--by", metavar="LENGTH", help="30m, 1h, 1d.", show_default=False)] = None,
    until: UNTIL = None,
    as_json: AS_JSON = False,
) -> None:
    """Let your reservation of a device last longer."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.domain.times import parse_duration
    from orchestrator.service import reservations
    from orchestrator.service.context import open_context

    context = open_context()
    if by is not None and until is None:
        found = reservations.extend(context, name, by_secs=parse_duration(by))
    else:
        found = reservations.extend(context, name, until=_end(context, by, until, "--by"))
    print_json(found) if as_json else message(f"{name} is {found.text}")


def release(name: NAME, as_json: AS_JSON = False) -> None:
    """End your reservation of a device before its time."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import reservations
    from orchestrator.service.context import open_context

    found = reservations.release(open_context(), name)
    print_json(found) if as_json else message(f"{name} is free: it {found.text}")


def kick(name: NAME, why: WHY = "", as_json: AS_JSON = False) -> None:
    """End somebody else's reservation of a device, and cancel the job that runs there. Recorded, with you and why."""
    from orchestrator.cli.output import message, print_json
    from orchestrator.service import reservations
    from orchestrator.service.context import open_context

    found = reservations.kick(open_context(), name, why)
    if as_json:
        print_json(found)
        return
    if found.reservation:
        message(f"{name} {found.reservation.text}; the reservation is ended")
    if found.job and found.canceled:
        message(f"{found.job} was canceled; it stops on the device in a moment")
    elif found.job:
        message(f"{found.job} has ended already; it leaves the device in a moment")


def _end(context: Context, length: str | None, until: str | None, option: str) -> float:
    """The moment that either of the two options says."""
    from orchestrator.domain.times import parse_duration, parse_moment

    if (length is None) == (until is None):
        raise typer.BadParameter(f"give {option} LENGTH or --until TIME, one of them", param_hint=option)
    return context.clock() + parse_duration(length) if length is not None else parse_moment(until or "", context.clock())
