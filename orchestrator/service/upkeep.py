"""What people decide about a device: out of service for a while or for good, and back. Every decision has a person, a reason and a time."""

from __future__ import annotations

from agent.errors import ConfigurationError
from orchestrator.dispatch.ledger import note_change
from orchestrator.domain.reasons import one_line
from orchestrator.domain.states import DeviceHealth
from orchestrator.domain.times import format_moment
from orchestrator.service.context import Context
from orchestrator.service.devices import find_device, get_device
from orchestrator.service.views import DeviceView
from orchestrator.store.database import session as open_session


class InThePast(ConfigurationError):
    code = "in_the_past"


def quarantine(context: Context, name: str, why: str, until: float | None = None) -> DeviceView:
    """Take a device out because it measures wrongly; no check brings it back before ``until`` (Unix seconds), or a person does."""
    return _decide(context, name, DeviceHealth.BAD, why, until)


def maintain(context: Context, name: str, why: str, until: float | None = None) -> DeviceView:
    """Take a device out because somebody works on it."""
    return _decide(context, name, DeviceHealth.MAINTENANCE, why, until)


def retire(context: Context, name: str, why: str) -> DeviceView:
    """Take a device out for good; its results stay."""
    return _decide(context, name, DeviceHealth.RETIRED, why, None)


def bring_back(context: Context, name: str, why: str = "") -> DeviceView:
    """End what a person decided before. The device gets work again once a health check has passed."""
    return _decide(context, name, DeviceHealth.UNKNOWN, why or "back in service, not checked yet", None)


def _decide(context: Context, name: str, health: DeviceHealth, why: str, until: float | None) -> DeviceView:
    now, why = context.clock(), one_line(why)
    if until is not None and until <= now:
        raise InThePast("the time it shall last until has passed", "give a time ahead, such as 2h or 2030-01-31T08:00")
    back = health == DeviceHealth.UNKNOWN
    with open_session(context.engine) as session:
        device = find_device(session, name)
        old = device.health
        device.health, device.health_reason, device.health_until = health, why, until
        device.health_set_by = "system" if back else context.actor
        device.next_check_at, device.check_asked_at = (now, None) if back else (None, device.check_asked_at)
        session.add(device)
        note_change(session, "device", name, old, health, context.actor, now, why + _until(until))
    return get_device(context, name)


def _until(until: float | None) -> str:
    # The record is read later: with its date.
    return "" if until is None else f" (until {format_moment(until, 0.0)})"
