"""``edgematrix device quarantine | maintenance | retire | return``: out of service by a person's word, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.device_reserve import AS_JSON, NAME, UNTIL

if TYPE_CHECKING:
    from orchestrator.service.context import Context
    from orchestrator.service.views import DeviceView

WHY = Annotated[str, typer.Option(help="Why; shown to everybody and kept.", show_default=False)]


def quarantine(name: NAME, why: WHY, until: UNTIL = None, as_json: AS_JSON = False) -> None:
    """Take a device out because it measures wrongly. No health check brings it back; 'device return' does, or the time given."""
    from orchestrator.service import upkeep
    from orchestrator.service.context import open_context

    context = open_context()
    _tell(context, upkeep.quarantine(context, name, why, _moment(context, until)), as_json)


def maintenance(name: NAME, why: WHY, until: UNTIL = None, as_json: AS_JSON = False) -> None:
    """Take a device out because somebody works on it."""
    from orchestrator.service import upkeep
    from orchestrator.service.context import open_context

    context = open_context()
    _tell(context, upkeep.maintain(context, name, why, _moment(context, until)), as_json)


def retire(name: NAME, why: WHY, as_json: AS_JSON = False) -> None:
    """Take a device out for good; its results stay."""
    from orchestrator.service import upkeep
    from orchestrator.service.context import open_context

    context = open_context()
    _tell(context, upkeep.retire(context, name, why), as_json)


def bring_back(
    name: NAME, why: Annotated[str, typer.Option(help="Why; shown to everybody and kept.")] = "", as_json: AS_JSON = False
) -> None:
    """Put a device back into service: it gets work again once a health check has passed."""
    from orchestrator.service import upkeep
    from orchestrator.service.context import open_context

    context = open_context()
    _tell(context, upkeep.bring_back(context, name, why), as_json)


def _moment(context: Context, until: str | None) -> float | None:
    from orchestrator.domain.times import parse_moment

    return None if until is None else parse_moment(until, context.clock())


def _tell(context: Context, view: DeviceView, as_json: bool) -> None:
    from orchestrator.cli.device_words import health_words
    from orchestrator.cli.output import message, print_json

    if as_json:
        print_json(view)
        return
    message(f"{view.name} is {health_words(view, context.clock())}")
    if view.running_job and view.health_set_by != "system":
        message(f"{view.running_job} still runs there and ends normally; edgematrix device kick {view.name} cancels it")
