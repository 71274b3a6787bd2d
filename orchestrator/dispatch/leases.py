"""Exclusive use of a device, by compare-and-set in SQL, with a fence that only ever grows.

A lease that expired does not free its device: a run may still live there. The next fence goes to the *same* job, whose ``drive`` adopts
the run or ends it; only then is the lease released.
"""

from __future__ import annotations

from sqlalchemy import update
from sqlmodel import Session, col, select

from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.reservations import keeps_out
from orchestrator.domain.states import DeviceHealth, JobState
from orchestrator.store.tables import Device, Job, StateChange

#: Longer than the rarest look at a run (see ``drive``) by what a full queue may cost: a gateway that is merely busy keeps its leases. And
#: short enough that a job whose gateway fell silent is driven again within a minute.
LEASE_SECS = 45.0
_SILENT = "lease expired: its gateway went silent"


def take_lease(session: Session, device_id: int, job_id: str, now: float) -> int | None:
    """Give the idle, healthy device to the waiting job; return the new fence, or None when either was taken or reserved meanwhile."""
    taken = session.execute(
        update(Device)
        .where(col(Device.id) == device_id, col(Device.lease_job_id).is_(None), col(Device.health) == DeviceHealth.GOOD)
        .values(lease_job_id=job_id, lease_expires_at=now + LEASE_SECS, fence=col(Device.fence) + 1)
        .returning(col(Device.fence))
    ).scalar_one_or_none()
    if taken is None:
        return None
    fence = int(taken)
    scheduled = None
    # Asked with the device's row locked, as whoever reserves it locks it: the one comes before the other.
    if not keeps_out(session, device_id, job_id, now):
        scheduled = session.execute(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.state) == JobState.SUBMITTED)
            .values(state=JobState.SCHEDULED, device_id=device_id, fence=fence, next_drive_at=now, waiting_for=None)
            .returning(col(Job.id))
        ).scalar_one_or_none()
    if scheduled is None:
        # Canceled, or the device reserved, between our look and our lease; the fence stays raised, which harms nobody.
        session.execute(
            update(Device).where(col(Device.id) == device_id, col(Device.fence) == fence).values(lease_job_id=None, lease_expires_at=None)
        )
        return None
    note_change(session, "job", job_id, JobState.SUBMITTED, JobState.SCHEDULED, "system", now)
    return fence


def renew_lease(session: Session, device_id: int, job_id: str, fence: int, now: float) -> bool:
    """Keep the lease for another term; False when a newer fence owns the device, and the caller must then write nothing."""
    return (
        session.execute(
            update(Device)
            .where(col(Device.id) == device_id, col(Device.lease_job_id) == job_id, col(Device.fence) == fence)
            .values(lease_expires_at=now + LEASE_SECS)
            .returning(col(Device.id))
        ).scalar_one_or_none()
        is not None
    )


def release_lease(session: Session, device_id: int, job_id: str, fence: int) -> bool:
    """Free the device, if this fence still owns it; False when a newer one does, and the caller must then write nothing."""
    return (
        session.execute(
            update(Device)
            .where(col(Device.id) == device_id, col(Device.lease_job_id) == job_id, col(Device.fence) == fence)
            .values(lease_job_id=None, lease_expires_at=None)
            .returning(col(Device.id))
        ).scalar_one_or_none()
        is not None
    )


def refence_expired(session: Session, now: float) -> list[tuple[str, int, str]]:
    """Hand every expired lease to its own job again under the next fence; return (job, fence, gateway) to be driven."""
    expired = session.exec(select(Device).where(col(Device.lease_job_id).is_not(None), col(Device.lease_expires_at) < now)).all()
    renewed = []
    for device in expired:
        fence = device.fence + 1
        won = session.execute(
            update(Device)
            .where(col(Device.id) == device.id, col(Device.fence) == device.fence, col(Device.lease_expires_at) < now)
            .values(fence=fence, lease_expires_at=now + LEASE_SECS)
            .returning(col(Device.id))
        ).scalar_one_or_none()
        if won is None or device.lease_job_id is None:
            continue
        session.execute(update(Job).where(col(Job.id) == device.lease_job_id).values(fence=fence, next_drive_at=now))
        if _is_news(session, device):
            note_change(session, "device", device.name, f"fence {device.fence}", f"fence {fence}", "system", now, _SILENT)
        renewed.append((device.lease_job_id, fence, device.gateway))
    return renewed


def _is_news(session: Session, device: Device) -> bool:
    """Whether the job was driven since this was last said: a gateway that is away for days says nothing new every minute."""
    last = session.exec(
        select(StateChange)
        .where(col(StateChange.subject) == "device", col(StateChange.subject_id) == device.name)
        .order_by(col(StateChange.id).desc())
        .limit(1)
    ).first()
    if last is None or last.why != _SILENT:
        return True
    progress = session.execute(select(Job.progress).where(col(Job.id) == device.lease_job_id)).scalar_one_or_none() or {}
    return float(progress.get("seen_at") or 0.0) > last.at
