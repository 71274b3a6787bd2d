"""Who used a device, for what, from when to when and for how long; and what became of the device meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, true
from sqlalchemy.orm import Mapped
from sqlmodel import Session, col, select

from orchestrator.domain.states import JobState
from orchestrator.domain.times import utc_text
from orchestrator.service.context import Context
from orchestrator.service.devices import find_device
from orchestrator.service.use_views import DeviceChange, DeviceHistory, PersonUse, Use
from orchestrator.store.database import read_session
from orchestrator.store.tables import Attempt, Device, Experiment, Job, Reservation, StateChange


@dataclass(frozen=True)
class _Period:
    """What is asked about: the uses that had not ended at ``since``, as seen ``now``; both in Unix seconds."""

    since: float | None
    now: float

    def of_attempts(self, device: Device) -> ColumnElement[bool]:
        mine = col(Attempt.device_id) == device.id
        return mine & self._reaches(func.coalesce(Attempt.ended_at, self.now))

    def of_reservations(self, device: Device) -> ColumnElement[bool]:
        return (col(Reservation.device_id) == device.id) & self._reaches(self.end_of_reservation)

    @property
    def end_of_reservation(self) -> ColumnElement[float]:
        """When somebody ended it, else its own end, as far as that lies behind us."""
        end: ColumnElement[float] = func.coalesce(Reservation.ended_at, Reservation.ends_at)
        return case((end > self.now, self.now), else_=end)

    def _reaches(self, end: ColumnElement[float]) -> ColumnElement[bool]:
        return true() if self.since is None else end >= self.since


def device_history(context: Context, name: str, *, since: float | None = None, limit: int = 50) -> DeviceHistory:
    """The uses of a device and its own changes, newest first, at most ``limit`` of each; totals per person over all of them."""
    period = _Period(since, context.clock())
    with read_session(context.engine) as session:
        device = find_device(session, name)
        uses = _uses(session, device, period, limit)
        changes = session.exec(
            select(StateChange)
            .where(col(StateChange.subject) == "device", col(StateChange.subject_id) == name, col(StateChange.at) >= (since or 0.0))
            .order_by(col(StateChange.at).desc(), col(StateChange.id).desc())
            .limit(limit)
        ).all()
        totals = _totals(session, device, period)
    return DeviceHistory(
        device=name,
        since_utc=None if since is None else utc_text(since),
        uses=tuple(uses),
        changes=tuple(DeviceChange(utc_text(row.at), row.old, row.new, row.actor, row.why) for row in changes),
        totals=tuple(totals),
    )


def _uses(session: Session, device: Device, period: _Period, limit: int) -> list[Use]:
    jobs = session.execute(
        select(Attempt, Experiment.name, Experiment.id, Experiment.submitted_by)
        .join(Job, col(Job.id) == col(Attempt.job_id))
        .join(Experiment, col(Experiment.id) == col(Job.experiment_id))
        .where(period.of_attempts(device))
        .order_by(col(Attempt.started_at).desc())
        .limit(limit)
    ).all()
    canceled_by = _cancels(session, [row[0].job_id for row in jobs])
    reservations = session.exec(
        select(Reservation).where(period.of_reservations(device)).order_by(col(Reservation.begins_at).desc()).limit(limit)
    ).all()
    begun = [
        (attempt.started_at, _use_of_job(attempt, name, experiment_id, person, canceled_by, period.now))
        for attempt, name, experiment_id, person in jobs
    ]
    begun += [(row.begins_at, _use_of_reservation(row, period.now)) for row in reservations]
    return [use for _, use in sorted(begun, key=lambda pair: pair[0], reverse=True)[:limit]]


def _cancels(session: Session, job_ids: Sequence[str]) -> dict[str, str]:
    """Who told each of the jobs to stop, and why."""
    rows = session.exec(
        select(StateChange).where(
            col(StateChange.subject) == "job", col(StateChange.subject_id).in_(job_ids), col(StateChange.new) == JobState.CANCELING
        )
    ).all()
    return {row.subject_id: f"by {row.actor}" + (f": {row.why}" if row.why not in ("", "canceled") else "") for row in rows}


def _use_of_job(attempt: Attempt, experiment: str, experiment_id: str, person: str, cancels: dict[str, str], now: float) -> Use:
    how = attempt.status or "runs"
    if attempt.job_id in cancels and (attempt.status in (None, "canceled")):
        how = f"{attempt.status or 'canceling'} {cancels[attempt.job_id]}"
    elif attempt.error:
        how = f"{how}: {attempt.error.get('message', '')}"
    return Use(
        kind="job",
        person=person,
        began_utc=utc_text(attempt.started_at),
        ended_utc=None if attempt.ended_at is None else utc_text(attempt.ended_at),
        secs=(attempt.ended_at if attempt.ended_at is not None else now) - attempt.started_at,
        experiment=experiment,
        experiment_id=experiment_id,
        job_id=attempt.job_id,
        attempt=attempt.number,
        how=how,
    )


def _use_of_reservation(row: Reservation, now: float) -> Use:
    end = row.ended_at if row.ended_at is not None else row.ends_at
    over = end <= now
    if row.ended_at is not None:
        how = f"ended by {row.ended_by}" + (f": {row.ended_why}" if row.ended_why else "")
    else:
        how = "ran out" if over else "holds"
    return Use(
        kind="reservation",
        person=row.holder,
        began_utc=utc_text(row.begins_at),
        ended_utc=utc_text(end) if over else None,
        secs=min(end, now) - row.begins_at,
        experiment=None,
        experiment_id=None,
        job_id=None,
        attempt=None,
        how=how + (f" ({row.why})" if row.why else ""),
    )


def _totals(session: Session, device: Device, period: _Period) -> list[PersonUse]:
    """Per person over the whole time, also beyond the limit; a use that began before ``since`` counts from there."""
    job_secs = _within(period, col(Attempt.started_at), func.coalesce(Attempt.ended_at, period.now))
    jobs = session.execute(
        select(Experiment.submitted_by, func.count(), func.sum(job_secs))
        .select_from(Attempt)
        .join(Job, col(Job.id) == col(Attempt.job_id))
        .join(Experiment, col(Experiment.id) == col(Job.experiment_id))
        .where(period.of_attempts(device))
        .group_by(col(Experiment.submitted_by))
    ).all()
    reserved_secs = _within(period, col(Reservation.begins_at), period.end_of_reservation)
    reservations = session.execute(
        select(Reservation.holder, func.count(), func.sum(reserved_secs))
        .where(period.of_reservations(device))
        .group_by(col(Reservation.holder))
    ).all()
    return _by_person(jobs, reservations)


def _within(period: _Period, begin: Mapped[float], end: ColumnElement[float]) -> ColumnElement[float]:
    counted = begin if period.since is None else case((begin < period.since, period.since), else_=begin)
    return end - counted


def _by_person(jobs: Iterable[Any], reservations: Iterable[Any]) -> list[PersonUse]:
    job = {person: (int(count), float(secs)) for person, count, secs in jobs}
    reserved = {person: (int(count), float(secs)) for person, count, secs in reservations}
    found = [PersonUse(person, *job.get(person, (0, 0.0)), *reserved.get(person, (0, 0.0))) for person in {**job, **reserved}]
    return sorted(found, key=lambda use: (-(use.job_secs + use.reserved_secs), use.person))
