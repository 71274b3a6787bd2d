"""Experiments: submit, follow, cancel. The jobs themselves are moved by the scheduler and the gateways."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from agent.errors import ConfigurationError
from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.schedule import cancel_jobs
from orchestrator.domain.states import LEASED_STATES, JobState, Scenario
from orchestrator.service.context import Context
from orchestrator.service.views import DeviceProgress, ExperimentSummary, Progress, RunningJob
from orchestrator.service.waiting import START_GATE, Waits, look_at_waits, start_wait
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device, Experiment, Job

#: What may stand for "the newest experiment" wherever an experiment is named.
LAST = "last"


class UnknownExperiment(ConfigurationError):
    code = "unknown_experiment"


def find_experiment(context: Context, wanted: str) -> str:
    """Turn an experiment's id, a unique beginning of it, its name or ``last`` into its id.

    A name stands for the newest experiment of that name. Raises :class:`UnknownExperiment` when nothing, or more than one beginning, fits.
    """
    with read_session(context.engine) as session:
        newest = select(Experiment.id).order_by(col(Experiment.submitted_at).desc(), col(Experiment.id).desc()).limit(1)
        if wanted == LAST:
            found = session.exec(newest).first()
            if found is None:
                raise UnknownExperiment("nothing has been submitted yet", "edgematrix run SPEC")
            return found
        begins = session.exec(select(Experiment.id).where(col(Experiment.id).startswith(wanted, autoescape=True)).limit(6)).all()
        if len(begins) == 1 or wanted in begins:
            return wanted if wanted in begins else begins[0]
        named = session.exec(newest.where(col(Experiment.name) == wanted)).first()
        if named is not None and not begins:
            return named
    if begins:
        raise UnknownExperiment(f"{wanted!r} begins the ids of several experiments: {', '.join(begins[:5])}", "give more of the id")
    raise UnknownExperiment(f"there is no experiment {wanted!r}", "edgematrix list")


def unfinished(context: Context) -> list[str]:
    """The ids of the experiments that still have jobs to do, oldest first."""
    with read_session(context.engine) as session:
        return list(
            session.exec(select(Experiment.id).where(col(Experiment.finished_at).is_(None)).order_by(col(Experiment.submitted_at))).all()
        )


def list_experiments(context: Context, limit: int = 20) -> list[ExperimentSummary]:
    """The newest experiments, newest first."""
    with read_session(context.engine) as session:
        rows = session.exec(select(Experiment).order_by(col(Experiment.submitted_at).desc()).limit(limit)).all()
        counts = _counts(session, [row.id for row in rows])
        return [_summary(row, counts.get(row.id, {})) for row in rows]


def cancel(context: Context, experiment_or_job: str) -> int:
    """Cancel an experiment or one job; what waits ends at once, what runs is told to stop. Returns how many jobs that concerned."""
    now = context.clock()
    with open_session(context.engine) as session:
        job = session.get(Job, experiment_or_job)
        if job is not None:
            return cancel_jobs(session, job.experiment_id, job.id, context.actor, now)
    experiment_id = find_experiment(context, experiment_or_job)
    with open_session(context.engine) as session:
        experiment = session.get_one(Experiment, experiment_id)
        if experiment.finished_at is not None:
            return 0
        experiment.cancel_requested_by = context.actor
        session.add(experiment)
        note_change(session, "experiment", experiment_id, "active", "canceling", context.actor, now)
        return cancel_jobs(session, experiment_id, None, context.actor, now)


def progress(context: Context, experiment_id: str) -> Progress:
    """How far an experiment is, device by device, and why what waits is waiting."""
    now = context.clock()
    with read_session(context.engine) as session:
        experiment = session.get(Experiment, experiment_id)
        if experiment is None:
            raise UnknownExperiment(f"there is no experiment {experiment_id!r}", "edgematrix list")
        summary = _summary(experiment, _counts(session, [experiment_id]).get(experiment_id, {}))
        devices = {device.id: device for device in session.exec(select(Device)).all()}
        tallies = session.execute(
            select(Job.device_id, Job.state, func.count())
            .where(col(Job.experiment_id) == experiment_id)
            .group_by(col(Job.device_id), col(Job.state))
        ).all()
        running = session.exec(select(Job).where(col(Job.experiment_id) == experiment_id, col(Job.state).in_(LEASED_STATES))).all()
        # A lease outlives its job until the device is clean: only then is the experiment over.
        waits = look_at_waits(session, experiment, devices, now)
    lines = _device_lines(waits, tallies, running)
    finished = summary.finished_count == summary.job_count and waits.held == 0
    return Progress(summary, lines, finished, None if finished else waits.blocked(lines))


def _device_lines(waits: Waits, tallies: Sequence[Any], running: Sequence[Job]) -> tuple[DeviceProgress, ...]:
    lines = []
    on_device = {job.device_id: job for job in running}
    for device_id in sorted({row[0] for row in tallies}, key=lambda value: (value is None, value)):
        total = sum(int(count) for owner, _, count in tallies if owner == device_id)
        done = sum(int(count) for owner, state, count in tallies if owner == device_id and state == JobState.FINISHED)
        device = waits.devices.get(device_id)
        job = on_device.get(device_id)
        name = device.name if device else "any free device"
        waiting = None if job is not None or done == total else waits.reason(device)
        lines.append(DeviceProgress(name, done, total, _running(job) if job else None, waiting))
    return tuple(lines)


def _running(job: Job) -> RunningJob:
    label = f"{job.model}/{job.variant} {job.scenario}" + (f" #{job.repeat + 1}" if job.repeat else "")
    waits = start_wait(job)
    if waits is not None:
        return RunningJob(job.id, label, START_GATE, 0, 0, None, lasting=True, words=waits)
    seen = (job.progress or {}) if job.state == JobState.RUNNING else {}
    phase = str(seen.get("phase", job.state))
    done, total, left = int(seen.get("done", 0)), int(seen.get("total", 0)), seen.get("seconds_left")
    return RunningJob(job.id, label, phase, done, total, left, lasting=job.scenario == Scenario.SOAK)


def _counts(session: Session, experiment_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    rows = session.execute(
        select(Job.experiment_id, Job.state, Job.outcome, func.count())
        .where(col(Job.experiment_id).in_(experiment_ids))
        .group_by(col(Job.experiment_id), col(Job.state), col(Job.outcome))
    ).all()
    counts: dict[str, dict[str, int]] = {}
    for experiment_id, state, outcome, count in rows:
        word = outcome if state == JobState.FINISHED and outcome else state
        mine = counts.setdefault(experiment_id, {})
        mine[str(word)] = mine.get(str(word), 0) + int(count)
    return counts


def _summary(experiment: Experiment, counts: dict[str, int]) -> ExperimentSummary:
    unfinished_words = set(JobState) - {JobState.FINISHED}
    waiting = sum(count for word, count in counts.items() if word in unfinished_words)
    total = sum(counts.values())
    state = "finished" if experiment.finished_at or not waiting else "canceling" if experiment.cancel_requested_by else "running"
    return ExperimentSummary(
        id=experiment.id,
        name=experiment.name,
        state=state,
        submitted_utc=datetime.fromtimestamp(experiment.submitted_at, UTC).isoformat(timespec="seconds"),
        submitted_by=experiment.submitted_by,
        priority=experiment.priority,
        counts=counts,
        job_count=total,
        finished_count=total - waiting,
    )
