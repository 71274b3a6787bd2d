"""One tick of the scheduler: who is due, who may start, what was left behind. SQL is the truth; ``publish`` only nudges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from orchestrator.dispatch.check_schedule import devices_to_check
from orchestrator.dispatch.choosing import MOST_STARTS, start_waiting
from orchestrator.dispatch.leases import refence_expired
from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.reservations import end_decisions
from orchestrator.domain.states import JobOutcome, JobState
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Experiment, Job

#: A nudge may be lost; what was nudged and not driven is nudged again after this time.
RENUDGE_SECS = 5.0
Publish = Callable[[str, str, int], None]
"""``publish(gateway, job_id, fence)``: tell a gateway to drive a job one step."""

PublishCheck = Callable[[str, str], None]
"""``publish_check(gateway, device_name)``: tell a gateway to check a device's health."""


@dataclass(frozen=True)
class Tick:
    """What one tick did, for the log and the metrics; ``more``: jobs were left for a next one, which should come at once."""

    refenced: int
    started: int
    nudged: int
    checks: int
    finished_experiments: int
    more: bool


def tick(engine: Engine, now: float, publish: Publish, publish_check: PublishCheck) -> Tick:
    """Look once at everything and act on it.

    Messages are sent after the commit: one for a lease that was rolled back would only be refused by its fence, but one lost after the
    commit is sent again as soon as it is overdue.
    """
    with open_session(engine) as session:
        refenced = refence_expired(session, now)
        finished = _finish_experiments(session, now)
        end_decisions(session, now)
        started = start_waiting(session, now)
        nudged = _due(session, now)
        checks = devices_to_check(session, now)
    for job_id, fence, gateway in dict.fromkeys(refenced + started + nudged):
        publish(gateway, job_id, fence)
    for gateway, name in checks:
        publish_check(gateway, name)
    return Tick(len(refenced), len(started), len(nudged), len(checks), finished, len(started) >= MOST_STARTS)


def _due(session: Session, now: float) -> list[tuple[str, int, str]]:
    rows = session.execute(
        select(Job.id, Job.fence, Device.gateway)
        .join(Device, col(Device.id) == col(Job.device_id))
        .where(col(Job.next_drive_at) <= now, col(Device.lease_job_id) == col(Job.id))
    ).all()
    if rows:
        session.execute(update(Job).where(col(Job.id).in_([row[0] for row in rows])).values(next_drive_at=now + RENUDGE_SECS))
    return [(job_id, int(fence), gateway) for job_id, fence, gateway in rows if fence is not None]


def _finish_experiments(session: Session, now: float) -> int:
    """Close experiments with no job left to finish, and end the waiting jobs of canceled ones."""
    canceling = session.exec(
        select(Experiment).where(col(Experiment.finished_at).is_(None), col(Experiment.cancel_requested_by).is_not(None))
    ).all()
    for experiment in canceling:
        cancel_jobs(session, experiment.id, None, experiment.cancel_requested_by or "system", now)
    # Named one by one, the states are found by index; "not finished" would read every finished job of a large matrix at every tick.
    states = [state for state in JobState if state != JobState.FINISHED]
    unfinished = select(Job.id).where(col(Job.experiment_id) == col(Experiment.id), col(Job.state).in_(states)).exists()
    over = session.exec(select(Experiment).where(col(Experiment.finished_at).is_(None), ~unfinished)).all()
    for experiment in over:
        experiment.finished_at = now
        session.add(experiment)
        note_change(session, "experiment", experiment.id, "active", "finished", "system", now)
    return len(over)


def cancel_jobs(session: Session, experiment_id: str, job_id: str | None, actor: str, now: float, why: str = "canceled") -> int:
    """Cancel an experiment's jobs (or one of them): those that wait end at once, those on a device are told to stop. Returns how many."""
    mine = [col(Job.experiment_id) == experiment_id] + ([col(Job.id) == job_id] if job_id else [])
    ended = (
        session.execute(
            update(Job)
            .where(*mine, col(Job.state) == JobState.SUBMITTED)
            .values(state=JobState.FINISHED, outcome=JobOutcome.CANCELED, finished_at=now, waiting_for=None)
            .returning(col(Job.id))
        )
        .scalars()
        .all()
    )
    stopping = (
        session.execute(
            update(Job)
            .where(*mine, col(Job.state).in_([JobState.SCHEDULED, JobState.PREPARING, JobState.RUNNING]))
            .values(state=JobState.CANCELING, next_drive_at=now)
            .returning(col(Job.id))
        )
        .scalars()
        .all()
    )
    for changed in (*ended, *stopping):
        note_change(session, "job", changed, "", JobState.CANCELING if changed in stopping else JobState.FINISHED, actor, now, why)
    return len(ended) + len(stopping)
