"""People come first: who has reserved a device, and whose decisions about it are over.

A reservation needs no process to end it: it is active while nobody has ended it and its end lies ahead.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, update
from sqlmodel import Session, col, select

from orchestrator.dispatch.ledger import note_change
from orchestrator.domain.states import DeviceHealth
from orchestrator.store.tables import Device, Experiment, Job, Reservation


def is_active(now: float) -> ColumnElement[bool]:
    """The condition under which a reservation keeps a device."""
    return col(Reservation.ended_at).is_(None) & (col(Reservation.begins_at) <= now) & (col(Reservation.ends_at) > now)


def active(session: Session, now: float) -> dict[int, Reservation]:
    """The reservation that each reserved device is under, by the device's id."""
    return {row.device_id: row for row in session.exec(select(Reservation).where(is_active(now))).all()}


def reservation_of(session: Session, device_id: int | None, now: float) -> Reservation | None:
    """The reservation that one device is under."""
    return session.exec(select(Reservation).where(col(Reservation.device_id) == device_id, is_active(now))).first()


def keeps_out(session: Session, device_id: int, job_id: str, now: float) -> bool:
    """Whether the device is reserved by somebody else than the person whose job this is."""
    others = (
        select(Reservation.id)
        .where(col(Reservation.device_id) == device_id, is_active(now))
        .where(
            col(Reservation.holder)
            != select(Experiment.submitted_by)
            .join(Job, col(Job.experiment_id) == col(Experiment.id))
            .where(col(Job.id) == job_id)
            .scalar_subquery()
        )
    )
    return session.exec(others.limit(1)).first() is not None


def end_decisions(session: Session, now: float) -> int:
    """Put devices back whose quarantine or maintenance had an end that has passed: a health check decides about them. Returns how many."""
    over = session.exec(select(Device).where(col(Device.health_until) <= now)).all()
    ended = 0
    for device in over:
        why = f"{device.health} by {device.health_set_by} is over; not checked yet"
        # By the time seen: a person may have prolonged it at this moment.
        won = session.execute(
            update(Device)
            .where(col(Device.id) == device.id, col(Device.health_until) == device.health_until)
            .values(
                health=DeviceHealth.UNKNOWN,
                health_reason=why,
                health_set_by="system",
                health_until=None,
                next_check_at=now,
                check_asked_at=None,
            )
            .returning(col(Device.id))
        ).scalar_one_or_none()
        if won is not None:
            note_change(session, "device", device.name, device.health, DeviceHealth.UNKNOWN, "system", now, why)
            ended += 1
    return ended
