"""Which waiting job an idle device gets: priority, then the experiment that holds least, then age; within one, the order of its jobs.

Made for many: what waits is asked once for all idle devices, by an index, so that a tick of 500 devices costs a few statements.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from agent.errors import EdgematrixError
from orchestrator.dispatch.leases import take_lease
from orchestrator.dispatch.placement import device_facts
from orchestrator.dispatch.reservations import active
from orchestrator.domain.device_query import parse_query
from orchestrator.domain.states import DeviceHealth, JobState
from orchestrator.store.tables import Device, Environment, Experiment, Job

#: So many jobs start in one transaction; what is left starts with the next tick, which comes at once.
MOST_STARTS = 64
#: What makes two jobs of one ``any`` demand the same cell.
_CELL_COLUMNS = ("model", "variant", "environment", "num_threads", "provider", "graph_optimization", "scenario", "repeat")


@dataclass(frozen=True)
class _Waiting:
    """An experiment with jobs that wait."""

    id: str
    priority: int
    max_devices: int | None
    submitted_at: float
    submitted_by: str


def start_waiting(session: Session, now: float) -> list[tuple[str, int, str]]:
    """Lease idle healthy devices to waiting jobs; return (job, fence, gateway) of at most MOST_STARTS of them, to be driven."""
    waiting = _waiting_experiments(session)
    idle = _idle_devices(session) if waiting else []
    if not idle:
        return []
    held = _devices_held(session)
    reserved = active(session, now)
    own = _first_own_jobs(session, [item.id for item in waiting])
    anyone = _AnyJobs(session, [item.id for item in waiting])
    started: list[tuple[str, int, str]] = []
    for device_id, gateway in idle:
        ranked = sorted(waiting, key=lambda item: (-item.priority, held[item.id], item.submitted_at))
        for experiment in ranked:
            if device_id in reserved and reserved[device_id].holder != experiment.submitted_by:
                continue
            if experiment.max_devices is not None and held[experiment.id] >= experiment.max_devices:
                continue
            candidates = (own.get((device_id, experiment.id)), anyone.first(experiment.id, device_id))
            job_id = min((candidate for candidate in candidates if candidate is not None), default=None)
            fence = take_lease(session, device_id, job_id, now) if job_id is not None else None
            if job_id is not None and fence is not None:
                held[experiment.id] += 1
                started.append((job_id, fence, gateway))
                break
        if len(started) >= MOST_STARTS:
            break
    return started


def _waiting_experiments(session: Session) -> list[_Waiting]:
    waits = select(Job.id).where(col(Job.state) == JobState.SUBMITTED, col(Job.experiment_id) == col(Experiment.id)).exists()
    columns = [getattr(Experiment, name) for name in _Waiting.__dataclass_fields__]
    rows = session.execute(
        select(*columns).where(col(Experiment.finished_at).is_(None), col(Experiment.cancel_requested_by).is_(None), waits)
    ).all()
    return [_Waiting(*row) for row in rows]


def _idle_devices(session: Session) -> list[tuple[int, str]]:
    rows = session.execute(
        select(Device.id, Device.gateway)
        .where(col(Device.lease_job_id).is_(None), col(Device.health) == DeviceHealth.GOOD)
        .order_by(col(Device.id))
    ).all()
    return [(int(device_id), gateway) for device_id, gateway in rows]


def _devices_held(session: Session) -> defaultdict[str, int]:
    """How many devices each experiment holds: also those that are being cleaned after a job."""
    rows = session.execute(
        select(Job.experiment_id, func.count())
        .select_from(Device)
        .join(Job, col(Job.id) == col(Device.lease_job_id))
        .group_by(col(Job.experiment_id))
    ).all()
    return defaultdict(int, {experiment_id: int(count) for experiment_id, count in rows})


def _first_own_jobs(session: Session, experiments: list[str]) -> dict[tuple[int, str], str]:
    """For each idle device and experiment the first waiting job that only this device may run; job ids carry their order."""
    first = (
        select(func.min(Job.id))
        .where(col(Job.device_id) == col(Device.id), col(Job.state) == JobState.SUBMITTED, col(Job.experiment_id) == col(Experiment.id))
        .correlate(Device, Experiment)
        .scalar_subquery()
    )
    rows = session.execute(
        select(Device.id, Experiment.id, first)
        .select_from(Device)
        .join(Experiment, col(Experiment.id).in_(experiments))
        .where(col(Device.lease_job_id).is_(None), col(Device.health) == DeviceHealth.GOOD)
    ).all()
    return {(int(device_id), experiment_id): job_id for device_id, experiment_id, job_id in rows if job_id is not None}


class _AnyJobs:
    """The waiting jobs that several devices may run."""

    def __init__(self, session: Session, experiments: list[str]) -> None:
        self._session = session
        self._queries: defaultdict[str, list[str]] = defaultdict(list)
        rows = session.execute(
            select(Job.experiment_id, Job.device_query)
            .where(col(Job.device_id).is_(None), col(Job.state) == JobState.SUBMITTED, col(Job.experiment_id).in_(experiments))
            .distinct()
        ).all()
        for experiment_id, query in rows:
            self._queries[experiment_id].append(query)
        self._matching: dict[tuple[str, int], bool] = {}

    def first(self, experiment_id: str, device_id: int) -> str | None:
        """The first of them that this device may run."""
        queries = self._queries.get(experiment_id)
        if not queries:
            return None
        device = self._session.get_one(Device, device_id)
        matching = [query for query in queries if self._matches(query, device)]
        if not matching:
            return None
        return self._session.exec(
            select(Job.id)
            .where(col(Job.experiment_id) == experiment_id, col(Job.state) == JobState.SUBMITTED, col(Job.device_id).is_(None))
            .where(col(Job.device_query).in_(matching), _environment_on(device), ~_same_cell_on(device))
            .order_by(col(Job.id))
            .limit(1)
        ).first()

    def _matches(self, query: str, device: Device) -> bool:
        key = (query, device.id or 0)
        if key not in self._matching:
            self._matching[key] = _matches(query, device)
        return self._matching[key]


def _matches(query: str, device: Device) -> bool:
    try:
        return parse_query(query).matches(device_facts(device))
    except EdgematrixError:
        return False


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
