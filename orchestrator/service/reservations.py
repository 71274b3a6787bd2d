"""A device for one person: reserve, extend and release it, and get it back from whoever is in the way. Everything has who, why and when.

A reservation holds from now on for new work: jobs of others do not start meanwhile, those of its holder do. What runs already ends
normally, unless it is kicked.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

from agent.errors import ConfigurationError
from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.reservations import reservation_of
from orchestrator.dispatch.schedule import cancel_jobs
from orchestrator.domain.reasons import one_line
from orchestrator.domain.states import DeviceHealth, JobState
from orchestrator.domain.times import WrongTime, format_moment
from orchestrator.service.context import Context
from orchestrator.service.devices import find_device
from orchestrator.service.use_views import KickView, ReservationView, ReservedView, view_reservation
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Job, Reservation


class DeviceReserved(ConfigurationError):
    code = "device_reserved"


class NotReserved(ConfigurationError):
    code = "not_reserved"


class NothingToKick(ConfigurationError):
    code = "nothing_to_kick"


class DeviceRetired(ConfigurationError):
    code = "device_retired"


@dataclass(frozen=True)
class _Stopped:
    job_id: str
    canceled: bool


def reserve(context: Context, name: str, until: float, why: str = "", *, kick_running: bool = False) -> ReservedView:
    """Reserve a device for who asks, until then (Unix seconds); with ``kick_running`` what runs there is canceled at once.

    Raises :class:`DeviceReserved`, naming the holder, when there is a reservation already.
    """
    now, why = context.clock(), one_line(why)
    with open_session(context.engine) as session:
        device = _locked(session, name)
        if device.health == DeviceHealth.RETIRED:
            raise DeviceRetired(f"{name} is retired: {device.health_reason}", f"edgematrix device return {name}")
        held = reservation_of(session, device.id, now)
        if held is not None:
            raise _taken(context, held, name, now)
        if until <= now or device.id is None:
            raise WrongTime(f"{format_moment(until, now)} has passed", "give a time ahead, such as 2h or 14:30")
        row = Reservation(device_id=device.id, holder=context.actor, why=why, begins_at=now, ends_at=until)
        session.add(row)
        session.flush()
        note_change(session, "reservation", str(row.id), "", "active", context.actor, now, why)
        running = device.lease_job_id
        kicked = _stop_running(session, device, context.actor, why, now) if kick_running else None
        return ReservedView(
            view_reservation(row, name, now), running if kicked is None else None, kicked.job_id if kicked and kicked.canceled else None
        )


def extend(context: Context, name: str, *, by_secs: float | None = None, until: float | None = None) -> ReservationView:
    """Move the end of one's own reservation, by so long or to that moment (Unix seconds).

    Raises :class:`NotReserved` when there is none (any more), :class:`DeviceReserved` when it is somebody else's.
    """
    now = context.clock()
    with open_session(context.engine) as session:
        row = _own(context, session, _locked(session, name), now)
        ends_at = until if until is not None else row.ends_at + (by_secs or 0.0)
        if ends_at <= now:
            raise WrongTime(f"{format_moment(ends_at, now)} has passed", f"edgematrix device release {name}")
        old, row.ends_at = row.ends_at, ends_at
        session.add(row)
        note_change(session, "reservation", str(row.id), _until(old), _until(ends_at), context.actor, now, "extended")
        return view_reservation(row, name, now)


def release(context: Context, name: str) -> ReservationView:
    """End one's own reservation before its time; raises as :func:`extend` does."""
    now = context.clock()
    with open_session(context.engine) as session:
        row = _own(context, session, _locked(session, name), now)
        _end(session, row, context.actor, "released", now)
        return view_reservation(row, name, now)


def kick(context: Context, name: str, why: str = "") -> KickView:
    """Get a device free: end the reservation of somebody else, cancel the job that runs there, on the device too.

    One's own reservation stays. A job whose results are being collected has left the device already and ends by itself. Raises
    :class:`NothingToKick` when nobody is in the way.
    """
    now, why = context.clock(), one_line(why)
    with open_session(context.engine) as session:
        device = _locked(session, name)
        held = reservation_of(session, device.id, now)
        ended = None
        if held is not None and held.holder != context.actor:
            _end(session, held, context.actor, f"kicked: {why}" if why else "kicked", now)
            ended = view_reservation(held, name, now)
        stopped = _stop_running(session, device, context.actor, why, now)
        if ended is None and stopped is None:
            raise NothingToKick(f"nobody else holds {name}, and no job runs there", f"edgematrix device history {name}")
        return KickView(name, ended, stopped.job_id if stopped else None, bool(stopped and stopped.canceled))


def _locked(session: Session, name: str) -> Device:
    """The device's row, locked until the end of the transaction: of two people at one moment one gets the device, and no job slips in."""
    device = find_device(session, name)
    return session.exec(select(Device).where(col(Device.id) == device.id).with_for_update().execution_options(populate_existing=True)).one()


def _own(context: Context, session: Session, device: Device, now: float) -> Reservation:
    row = reservation_of(session, device.id, now)
    if row is None:
        raise NotReserved(f"{device.name} is not reserved (any more)", f"edgematrix device reserve {device.name} --for 2h")
    if row.holder != context.actor:
        raise _taken(context, row, device.name, now)
    return row


def _taken(context: Context, row: Reservation, name: str, now: float) -> DeviceReserved:
    held = view_reservation(row, name, now)
    remedy = (
        f"edgematrix device extend {name} --by 1h"
        if row.holder == context.actor
        else f"ask {row.holder}; or edgematrix device kick {name} --why TEXT, which is recorded"
    )
    return DeviceReserved(f"{name} is {held.text}", remedy)


def _end(session: Session, row: Reservation, actor: str, why: str, now: float) -> None:
    row.ended_at, row.ended_by, row.ended_why = now, actor, why
    session.add(row)
    note_change(session, "reservation", str(row.id), "active", "ended", actor, now, why)


def _stop_running(session: Session, device: Device, actor: str, why: str, now: float) -> _Stopped | None:
    """Cancel the job that holds the device's lease; None when there is none."""
    job = session.get(Job, device.lease_job_id) if device.lease_job_id else None
    if job is None:
        return None
    reason = f"kicked from {device.name}" + (f": {why}" if why else "")
    canceled = job.state == JobState.CANCELING or cancel_jobs(session, job.experiment_id, job.id, actor, now, reason) > 0
    return _Stopped(job.id, canceled)


def _until(at: float) -> str:
    # The record is read later: with its date.
    return f"until {format_moment(at, 0.0)}"
