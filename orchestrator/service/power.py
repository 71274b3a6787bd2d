"""How a board that hangs is switched off and on: registered once, used by a health check, or now by a person."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from agent.errors import DeviceBusy, InfrastructureError
from orchestrator.dispatch.check_schedule import BOOT_SECS
from orchestrator.dispatch.ledger import note_change, set_health
from orchestrator.dispatch.power_cycle import PowerCycleInvalid, cycle_command, power_cycle
from orchestrator.dispatch.reservations import reservation_of
from orchestrator.domain.reasons import one_line
from orchestrator.domain.states import DeviceHealth
from orchestrator.service.context import Context
from orchestrator.service.devices import find_device, get_device
from orchestrator.service.elsewhere import DeviceElsewhere, is_elsewhere
from orchestrator.service.views import DeviceView
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device


class PowerCycleFailed(InfrastructureError):
    code = "power_cycle_failed"


#: How long a board gets to boot before it is checked.
BOOT_TIME_SECS = BOOT_SECS


@dataclass(frozen=True)
class PowerView:
    """``command`` is what runs on the gateway to switch the board off and on, None when nothing is registered."""

    device: str
    gateway: str
    command: str | None


def get_power(context: Context, name: str) -> PowerView:
    """How this device is switched off and on."""
    with read_session(context.engine) as session:
        return _view(find_device(session, name))


def set_power(context: Context, name: str, about: Mapping[str, Any] | None, why: str = "") -> PowerView:
    """Register how the device is switched off and on (``driver`` and what it needs), or with None that it cannot be.

    Raises :class:`~orchestrator.dispatch.power_cycle.PowerCycleInvalid` for what no driver understands.
    """
    if about is not None:
        cycle_command(about)
    with open_session(context.engine) as session:
        device = find_device(session, name)
        old = _words(device)
        device.power_cycle = None if about is None else dict(about)
        device.power_cycled_at = None
        session.add(device)
        if _words(device) != old:
            changed = f"power: {old or 'none'}", f"power: {_words(device) or 'none'}"
            note_change(session, "device", name, *changed, context.actor, context.clock(), one_line(why))
        return _view(device)


def power_cycle_now(context: Context, name: str, why: str = "", force: bool = False) -> DeviceView:
    """Switch the device off and on from this gateway; its health is unknown until it had time to boot and a check decides.

    While a job holds the device, or somebody else has reserved it, only with ``force``. Raises :class:`agent.errors.DeviceBusy`,
    :class:`PowerCycleFailed`, DeviceElsewhere, and PowerCycleInvalid when nothing is registered.
    """
    now, why = context.clock(), one_line(why)
    with read_session(context.engine) as session:
        device = find_device(session, name)
        if not force:
            _refuse_in_use(context, session, device)
    if is_elsewhere(context, device.gateway):
        raise DeviceElsewhere(
            f"the power of {name} is switched by its gateway {device.gateway}, and this one is {context.settings.gateway}",
            f"run the command on {device.gateway}",
        )
    if device.power_cycle is None:
        raise PowerCycleInvalid(f"nobody has said how {name} is switched off and on", f"edgematrix device power {name} --command …")
    done = power_cycle(device)
    if done.status != "ok":
        raise PowerCycleFailed(f"{name}: {done.found}", done.remedy)
    with open_session(context.engine) as session:
        row = find_device(session, name)
        note_change(session, "device", name, "power", "off and on", context.actor, now, why)
        set_health(session, row, DeviceHealth.UNKNOWN, f"switched off and on by {context.actor}" + (f": {why}" if why else ""), now)
        # Not at once: a board that boots does not answer, and that would count against it. Nor a second time by itself.
        row.next_check_at, row.power_cycled_at = now + BOOT_SECS, now
        session.add(row)
    return get_device(context, name)


def _refuse_in_use(context: Context, session: Session, device: Device) -> None:
    remedy = "wait, ask them, or add --force"
    if device.lease_job_id is not None:
        raise DeviceBusy(f"{device.name} measures {device.lease_job_id}, which would be lost", remedy)
    held = reservation_of(session, device.id, context.clock())
    if held is not None and held.holder != context.actor:
        raise DeviceBusy(f"{device.name} is reserved by {held.holder}", remedy)


def _view(device: Device) -> PowerView:
    return PowerView(device.name, device.gateway, _words(device) or None)


def _words(device: Device) -> str:
    if device.power_cycle is None:
        return ""
    try:
        return shlex.join(cycle_command(device.power_cycle))
    except PowerCycleInvalid as error:
        return error.message
