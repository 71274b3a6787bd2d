"""When a device is checked again: at once when nobody knows its health, now and then when idle, ever more rarely while it stays bad."""

from __future__ import annotations

from sqlmodel import Session, col, or_, select

from orchestrator.domain.states import DeviceHealth
from orchestrator.store.tables import Device

#: An idle device that was good is looked at so often: hardware fails while nobody uses it.
GOOD_EVERY_SECS = 3600.0
#: A bad device is looked at again after this time, doubled each time it is still bad: one that was only unplugged comes back by itself.
BAD_FIRST_SECS = 300.0
BAD_MOST_SECS = 3600.0
#: A board that was switched off and on gets so long to boot.
BOOT_SECS = 90.0
#: A check that was asked for and did not happen (its message or its gateway was lost) is asked for again after this time.
ASK_AGAIN_SECS = 30.0


def next_check_at(health: DeviceHealth, bad_checks: int, now: float) -> float:
    """Return when to look again, in Unix seconds, at a device just found so; ``bad_checks`` says how often in a row it was bad before."""
    if health == DeviceHealth.GOOD:
        return now + GOOD_EVERY_SECS
    if health == DeviceHealth.UNKNOWN:
        return now + BOOT_SECS
    return now + min(BAD_FIRST_SECS * 2.0 ** min(bad_checks, 16), BAD_MOST_SECS)


def devices_to_check(session: Session, now: float) -> list[tuple[str, str]]:
    """Return (gateway, device) of the idle devices that are due, and note that they were asked for.

    What a person decided about (quarantine, maintenance, retirement) is not looked at.
    """
    due = session.exec(
        select(Device).where(
            col(Device.lease_job_id).is_(None),
            col(Device.health_set_by) == "system",
            col(Device.health).in_([DeviceHealth.UNKNOWN, DeviceHealth.GOOD, DeviceHealth.BAD]),
            or_(
                col(Device.next_check_at) <= now,
                (col(Device.next_check_at).is_(None)) & (col(Device.health) == DeviceHealth.UNKNOWN),
            ),
            or_(col(Device.check_asked_at).is_(None), col(Device.check_asked_at) < now - ASK_AGAIN_SECS),
        )
    ).all()
    for device in due:
        device.check_asked_at = now
        session.add(device)
    return [(device.gateway, device.name) for device in due]
