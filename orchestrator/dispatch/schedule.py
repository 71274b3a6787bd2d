"""One tick of the scheduler: who is due, who may start, what was left behind. SQL is the truth; ``publish`` only nudges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, func, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from agent.errors import EdgematrixError
from orchestrator.dispatch.check_schedule import devices_to_check
from orchestrator.dispatch.leases import refence_expired, take_lease
from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.placement import device_facts
from orchestrator.dispatch.reservations import active, end_decisions
from orchestrator.domain.device_query import parse_query
from orchestrator.domain.states import LEASED_STATES, DeviceHealth, JobOutcome, JobState
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Environment, Experiment, Job

#: A nudge may be lost; what was nudged and not driven is nudged again after this time.
RENUDGE_SECS = 5.0
#: What makes two jobs of one ``any`` demand the same cell.
_CELL_COLUMNS = ("model", "variant", "environment", "num_threads", "provider", "graph_optimization", "scenario", "repeat")

Publish = Callable[[str, str, int], None]
"""``publish(gateway, job_id, fence)``: tell a gateway to drive a job one step."""

PublishCheck = Callable[[str, str], None]
"""``publish_check(gateway, device_name)``: tell a gateway to check a device's health."""


@dataclass(frozen=True)
class Tick:
    """What one tick did, for the log and the metrics."""

    refenced: int
    started: int
    nudged: int
    checks: int
    finished_experiments: int


def tick(engine: Engine, now: float, publish: Publish, publish_check: PublishCheck) -> Tick:
    """Look once at everything and act on it.

    Messages are sent after the commit: one for a lease that was rolled back would only be refused by its fence, but one lost after the
    commit is sent again as soon as it is overdue.
    """
    with open_session(engine) as session:
        refenced = refence_expired(session, now)
        finished = _finish_experiments(session, now)
        end_decisions(session, now)
        started = _start_waiting(session, now)
        nudged = _due(session, now)
        checks = devices_to_check(session, now)
    for job_id, fence, gateway in dict.fromkeys(refenced + started + nudged):
        publish(gateway, job_id, fence)
    for gateway, name in checks:
        publish_check(gateway, name)
    return Tick(len(refenced), len(started), len(nudged), len(checks), finished)


def _due(session: Session, now: float) -> list[tuple[str, int, str]]:
    rows = session.execute(
        select(Job.id, Job.fence, Device.gateway)
        .join(Device, col(Device.id) == col(Job.device_id))
        .where(col(Job.next_drive_at) <= now, col(Device.lease_job_id) == col(Job.id))
    ).all()
    if rows:
        session.execute(update(Job).where(col(Job.id).in_([row[0] for row in rows])).values(next_drive_at=now + RENUDGE_SECS))
    return [(job_id, int(fence), gateway) for job_id, fence, gateway in rows if fence is not None]


def _start_waiting(session: Session, now: float) -> list[tuple[str, int, str]]:
    """For each idle healthy device the best waiting job: priority, then the experiment that holds least, then age."""
    idle = session.exec(
        select(Device).where(col(Device.lease_job_id).is_(None), col(Device.health) == DeviceHealth.GOOD).order_by(col(Device.id))
    ).all()
    if not idle:
        return []
    waiting = session.exec(
        select(Experiment).where(
            col(Experiment.finished_at).is_(None),
            col(Experiment.cancel_requested_by).is_(None),
            select(Job.id).where(col(Job.state) == JobState.SUBMITTED, col(Job.experiment_id) == col(Experiment.id)).exists(),
        )
    ).all()
    if not waiting:
        return []
    held: dict[str, int] = {
        experiment_id: int(count)
        for experiment_id, count in session.execute(
            select(Job.experiment_id, func.count()).where(col(Job.state).in_(LEASED_STATES)).group_by(col(Job.experiment_id))
        ).all()
    }
    reserved = active(session, now)
    started = []
    for device in idle:
        ranked = sorted(waiting, key=lambda experiment: (-experiment.priority, held.get(experiment.id, 0), experiment.submitted_at))
        for experiment in ranked:
            if device.id is None or (device.id in reserved and reserved[device.id].holder != experiment.submitted_by):
                continue
            job_id = _next_job(session, experiment.id, device)
            if job_id is None:
                continue
            fence = take_lease(session, device.id, job_id, now)
            if fence is not None:
                held[experiment.id] = held.get(experiment.id, 0) + 1
                started.append((job_id, fence, device.gateway))
                break
    return started


def _next_job(session: Session, experiment_id: str, device: Device) -> str | None:
    """The experiment's first waiting job that this device may run; job ids carry their order."""
    waiting = select(Job.id).where(col(Job.experiment_id) == experiment_id, col(Job.state) == JobState.SUBMITTED)
    own = session.exec(waiting.where(col(Job.device_id) == device.id).order_by(col(Job.id)).limit(1)).first()
    queries = session.exec(
        select(Job.device_query)
        .where(col(Job.experiment_id) == experiment_id, col(Job.state) == JobState.SUBMITTED, col(Job.device_id).is_(None))
        .distinct()
    ).all()
    matching = [query for query in queries if _matches(query, device)]
    if not matching:
        return own
    anyone = session.exec(
        waiting.where(col(Job.device_id).is_(None), col(Job.device_query).in_(matching), _environment_on(device), ~_same_cell_on(device))
        .order_by(col(Job.id))
        .limit(1)
    ).first()
    return min((job_id for job_id in (own, anyone) if job_id is not None), default=None)


def _environment_on(device: Device) -> ColumnElement[bool]:
    """The device has the environment that the job asks for: it may have been registered after the job was."""
    return (
        select(Environment.id)
        .where(col(Environment.device_id) == device.id, col(Environment.name) == col(Job.environment))
        .correlate(Job)
        .exists()
    )


def _same_cell_on(device: Device) -> ColumnElement[bool]:
    """Another of the N jobs of one ``any`` demand went to this device already: N means N devices."""
    other = aliased(Job)
    same = [getattr(other, name).is_not_distinct_from(getattr(Job, name)) for name in ("experiment_id", "device_query", *_CELL_COLUMNS)]
    return select(col(other.id)).where(col(other.device_id) == device.id, col(other.id) != col(Job.id), *same).correlate(Job).exists()


def _matches(query: str, device: Device) -> bool:
    try:
        return parse_query(query).matches(device_facts(device))
    except EdgematrixError:
        return False


def _finish_experiments(session: Session, now: float) -> int:
    """Close experiments with no job left to finish, and end the waiting jobs of canceled ones."""
    canceling = session.exec(
        select(Experiment).where(col(Experiment.finished_at).is_(None), col(Experiment.cancel_requested_by).is_not(None))
    ).all()
    for experiment in canceling:
        cancel_jobs(session, experiment.id, None, experiment.cancel_requested_by or "system", now)
    unfinished = select(Job.id).where(col(Job.experiment_id) == col(Experiment.id), col(Job.state) != JobState.FINISHED).exists()
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
