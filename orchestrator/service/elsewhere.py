"""Devices of another gateway: what this host can see of them proves nothing, so their own gateway is asked, or the person is sent there."""

from __future__ import annotations

from sqlmodel import Session, col, update

from agent.errors import ConfigurationError
from orchestrator.service.context import Context
from orchestrator.service.views import Check
from orchestrator.store.tables import Device


class DeviceElsewhere(ConfigurationError):
    code = "device_elsewhere"


def is_elsewhere(context: Context, gateway: str) -> bool:
    """Whether another host than this one drives the devices of that gateway."""
    return gateway != context.settings.gateway


def refuse_elsewhere(context: Context, device: Device) -> None:
    """Raise :class:`DeviceElsewhere` for a device that *is* another gateway's computer: here its processes would start on this one."""
    if device.transport == "local" and is_elsewhere(context, device.gateway):
        raise DeviceElsewhere(
            f"{device.name} is the computer of the gateway {device.gateway}, and this one is {context.settings.gateway}",
            f"run the command on {device.gateway}; this computer gets a name of its own with: edgematrix device add NAME",
        )


def ask_for_check(session: Session, device: Device, now: float) -> Check:
    """Have the scheduler send the device's own gateway to check it; return what to tell the person."""
    session.connection().execute(update(Device).where(col(Device.id) == device.id).values(next_check_at=now, check_asked_at=None))
    return Check(
        "health check",
        "warning",
        f"the gateway {device.gateway} is asked to do it: only what it sees counts",
        f"a moment later: edgematrix device show {device.name}",
    )
