"""The record of who changed what, when and why: every change of state passes here."""

from __future__ import annotations

from sqlalchemy import update
from sqlmodel import Session, col

from orchestrator.domain.states import DeviceHealth
from orchestrator.store.tables import Device, StateChange


def note_change(session: Session, subject: str, subject_id: str, old: str, new: str, actor: str, at: float, why: str = "") -> None:
    """Add one line to the record; ``actor`` is a person, a token, or ``system``."""
    session.add(StateChange(subject=subject, subject_id=subject_id, old=str(old), new=str(new), actor=actor, why=why, at=at))


def set_health(session: Session, device: Device, health: DeviceHealth, why: str, now: float) -> None:
    """Record what is known of a device's health, and why; what a person decided about it stays.

    A health that has just become unknown is owed a check at once: what was asked before does not count.
    """
    changed = session.execute(
        update(Device)
        .where(
            col(Device.id) == device.id,
            col(Device.health_set_by) == "system",
            col(Device.health).not_in([DeviceHealth.MAINTENANCE, DeviceHealth.RETIRED]),
        )
        .values(health=health, health_reason=why)
        .returning(col(Device.id))
    ).scalar_one_or_none()
    if changed is None:
        return
    if health == DeviceHealth.UNKNOWN:
        session.execute(update(Device).where(col(Device.id) == changed).values(next_check_at=now, check_asked_at=None))
    if device.health != health:
        note_change(session, "device", device.name, device.health, health, "system", now, why)
