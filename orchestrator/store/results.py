"""Reads results out of the tables as :class:`~orchestrator.domain.results.ResultEnvelope`, and publishes them.

Reading takes a fixed number of queries per 2,000 jobs; publishing happens once per job.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from orchestrator.domain.plan import Plan
from orchestrator.domain.results import (
    AttemptInfo,
    DeviceInfo,
    ErrorInfo,
    ExperimentInfo,
    JobInfo,
    Metric,
    ResultEnvelope,
    SensorRecord,
    SettingsInfo,
    TraceInfo,
    ValidityRecord,
)
from orchestrator.domain.states import Emulation, JobOutcome, JobState, Scenario
from orchestrator.store import tables
from orchestrator.store.errors import ResultExists, ResultMissing

#: Jobs named in one query; SQLite takes at most 32,766 parameters in a statement.
_JOBS_PER_QUERY = 2000
_METRIC_FIELDS = tuple(Metric.model_fields)

_TABLES = tables.Job.metadata.tables
_EXPERIMENT = _TABLES["experiment"]
_JOB = _TABLES["job"]
_ATTEMPT = _TABLES["attempt"]
_RESULT = _TABLES["result"]
_METRIC = _TABLES["metric"]
_DEVICE = _TABLES["device"]


def load_envelopes(session: Session, *, experiment_id: str | None = None, job_ids: Sequence[str] | None = None) -> list[ResultEnvelope]:
    """Return what is known of the jobs of one experiment, of the jobs named, of both conditions together, or of all jobs.

    In the order of submission. A job that is not finished has no validity, metrics and traces (and no attempt while its first one runs);
    one that failed has the attempt it failed in. The id of no job is left out.
    """
    conditions = [] if experiment_id is None else [_JOB.c.experiment_id == experiment_id]
    experiments: dict[str, _Experiment] = {}
    if job_ids is None:
        return _load(session, conditions, experiments)
    wanted = list(dict.fromkeys(job_ids))
    found: list[ResultEnvelope] = []
    for start in range(0, len(wanted), _JOBS_PER_QUERY):
        found += _load(session, [*conditions, _JOB.c.id.in_(wanted[start : start + _JOBS_PER_QUERY])], experiments)
    return found


def insert_result(
    session: Session,
    *,
    job_id: str,
    attempt: int,
    metrics: Iterable[Metric],
    validity: ValidityRecord,
    traces: Mapping[str, TraceInfo],
    analysis_version: int,
    now: float,
) -> None:
    """Publish the one result of a job: its traces are in the artifact store already, and this makes them visible. ``now`` in Unix seconds.

    Raises :class:`ResultExists` when the job has one, also when another process is just writing it; nothing is changed then.
    """
    insert_once: Any = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    published = session.connection().execute(
        insert_once(_RESULT)
        .values(
            job_id=job_id,
            attempt=attempt,
            analysis_version=analysis_version,
            validity=validity.model_dump(mode="json"),
            traces={name: trace.model_dump(mode="json") for name, trace in traces.items()},
            published_at=now,
        )
        .on_conflict_do_nothing(index_elements=["job_id"]),
        execution_options={"preserve_rowcount": True},
    )
    if published.rowcount != 1:
        raise ResultExists(f"job {job_id} already has its result; attempt {attempt} may not write a second one", "report this as a bug")
    _insert_metrics(session, job_id, metrics)


def replace_metrics(session: Session, *, job_id: str, metrics: Iterable[Metric], validity: ValidityRecord, analysis_version: int) -> None:
    """Put metrics made anew from the same traces in the place of the old ones (``edgematrix recompute``).

    Raises :class:`ResultMissing` when the job has no result.
    """
    connection = session.connection()
    changed = connection.execute(
        update(_RESULT)
        .where(_RESULT.c.job_id == job_id)
        .values(validity=validity.model_dump(mode="json"), analysis_version=analysis_version)
    )
    if changed.rowcount != 1:
        raise ResultMissing(f"job {job_id} has no result to recompute", "only completed jobs have one: edgematrix show")
    connection.execute(delete(_METRIC).where(_METRIC.c.job_id == job_id))
    _insert_metrics(session, job_id, metrics)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a job. ``traces`` (by stream, as in a result) are those of its result, or what it left when it was cut short.

    ``outcome_message`` is the device's RunOutcome as JSON; that of a run that was lost is made of what it had written by then. Times are
    Unix seconds; ``complete`` tells whether the job's result came of it.
    """

    number: int
    status: str | None
    error: dict[str, Any] | None
    traces: dict[str, dict[str, Any]]
    outcome_message: dict[str, Any] | None
    started_at: float
    ended_at: float | None
    clock_offset_secs: float | None
    clock_offset_uncertainty_secs: float | None
    complete: bool


def load_attempts(session: Session, job_id: str) -> list[AttemptRecord]:
    """Return every attempt of a job, the first one first; none for a job that has not begun, or is not there."""
    connection = session.connection()
    result = connection.execute(select(_RESULT).where(_RESULT.c.job_id == job_id)).first()
    rows = connection.execute(select(_ATTEMPT).where(_ATTEMPT.c.job_id == job_id).order_by(_ATTEMPT.c.number)).all()
    return [_record(row, result if result is not None and result.attempt == row.number else None) for row in rows]


def _record(row: Row[Any], result: Row[Any] | None) -> AttemptRecord:
    return AttemptRecord(
        number=row.number,
        status=row.status,
        error=row.error,
        traces=dict((result.traces if result is not None else row.traces) or {}),
        outcome_message=row.outcome_message,
        started_at=row.started_at,
        ended_at=row.ended_at,
        clock_offset_secs=row.clock_offset_secs,
        clock_offset_uncertainty_secs=row.clock_offset_uncertainty_secs,
        complete=result is not None,
    )


def _insert_metrics(session: Session, job_id: str, metrics: Iterable[Metric]) -> None:
    rows = [{"job_id": job_id, **metric.model_dump()} for metric in metrics]
    if rows:
        session.connection().execute(insert(_METRIC), rows)


# --- reading -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Experiment:
    """What the jobs of one experiment share, parsed once."""

    info: ExperimentInfo
    plan: Plan
    agent_sha256: str


def _load(session: Session, conditions: list[ColumnElement[bool]], experiments: dict[str, _Experiment]) -> list[ResultEnvelope]:
    """Read the jobs that meet the conditions; ``experiments`` keeps what was read for the next call."""
    connection = session.connection()
    wanted = select(_JOB.c.id).where(*conditions)
    jobs = connection.execute(
        select(_JOB, _DEVICE.c.name.label("device_name"), _DEVICE.c.profile, _DEVICE.c.emulated)
        .select_from(_JOB.outerjoin(_DEVICE, _JOB.c.device_id == _DEVICE.c.id))
        .where(*conditions)
        .order_by(_JOB.c.submitted_at, _JOB.c.id)
    ).all()
    new = {job.experiment_id for job in jobs} - set(experiments)
    if new:
        experiments.update((row.id, _experiment(row)) for row in connection.execute(select(_EXPERIMENT).where(_EXPERIMENT.c.id.in_(new))))
    results = {row.job_id: row for row in connection.execute(select(_RESULT).where(_RESULT.c.job_id.in_(wanted)))}
    chosen = (
        # The attempt that was measured, else the last one.
        select(_ATTEMPT.c.job_id, func.coalesce(func.max(_RESULT.c.attempt), func.max(_ATTEMPT.c.number)).label("number"))
        .select_from(_ATTEMPT.outerjoin(_RESULT, _RESULT.c.job_id == _ATTEMPT.c.job_id))
        .where(_ATTEMPT.c.job_id.in_(wanted))
        .group_by(_ATTEMPT.c.job_id)
        .subquery()
    )
    joined = _ATTEMPT.join(chosen, and_(_ATTEMPT.c.job_id == chosen.c.job_id, _ATTEMPT.c.number == chosen.c.number))
    attempts = {row.job_id: row for row in connection.execute(select(_ATTEMPT).select_from(joined))}
    metrics: dict[str, list[Metric]] = defaultdict(list)
    numbers = select(_METRIC.c.job_id, *(_METRIC.c[name] for name in _METRIC_FIELDS))
    for job_id, *values in connection.execute(numbers.where(_METRIC.c.job_id.in_(wanted)).order_by(_METRIC.c.job_id, _METRIC.c.name)):
        metrics[job_id].append(Metric(**dict(zip(_METRIC_FIELDS, values, strict=True))))
    return [
        _envelope(job, experiments[job.experiment_id], attempts.get(job.id), results.get(job.id), tuple(metrics.get(job.id, ())))
        for job in jobs
    ]


def _experiment(row: Row[Any]) -> _Experiment:
    info = ExperimentInfo(
        id=row.id,
        name=row.name,
        spec_sha256=row.spec_sha256,
        submitted_utc=_utc(row.submitted_at),
        edgematrix_version=row.edgematrix_version,
    )
    return _Experiment(info, Plan.model_validate(row.plan), row.agent_sha256)


def _envelope(
    job: Row[Any], experiment: _Experiment, attempt: Row[Any] | None, result: Row[Any] | None, metrics: tuple[Metric, ...]
) -> ResultEnvelope:
    model = experiment.plan.models[job.model]
    return ResultEnvelope(
        experiment=experiment.info,
        job=JobInfo(
            id=job.id,
            key=job.job_key,
            scenario=Scenario(job.scenario),
            task=model.task.kind,
            environment=job.environment,
            settings=SettingsInfo(num_threads=job.num_threads, provider=job.provider, graph_optimization=job.graph_optimization),
            repeat=job.repeat,
            state=JobState(job.state),
            outcome=None if job.outcome is None else JobOutcome(job.outcome),
            attempts=job.attempts,
            error=None if job.error is None else _error(job.error),
        ),
        variant=model.variants[job.variant].info,
        dataset=model.dataset.info,
        device=None if job.device_id is None else DeviceInfo(name=job.device_name, profile=job.profile, emulated=Emulation(job.emulated)),
        attempt=None if attempt is None or attempt.ended_at is None else _attempt(attempt, experiment.agent_sha256),
        validity=None if result is None else ValidityRecord.model_validate(result.validity),
        metrics=metrics,
        traces={} if result is None else {name: TraceInfo.model_validate(trace) for name, trace in result.traces.items()},
        analysis_version=None if result is None else result.analysis_version,
    )


def _attempt(row: Row[Any], agent_sha256: str) -> AttemptInfo:
    """What the device said of the attempt; where it said nothing (a run that was lost), what the orchestrator knows."""
    outcome = row.outcome_message or {}
    return AttemptInfo(
        number=row.number,
        fence=row.fence,
        agent_sha256=outcome.get("agent_sha256", agent_sha256),
        started_utc=outcome.get("started_utc", _utc(row.started_at)),
        ended_utc=outcome.get("ended_utc", _utc(row.ended_at)),
        duration_secs=outcome.get("duration_secs", row.ended_at - row.started_at),
        conditions=outcome.get("conditions") or {},
        conditions_key=row.conditions_key or "",
        clock_offset_secs=row.clock_offset_secs,
        clock_offset_uncertainty_secs=row.clock_offset_uncertainty_secs,
        runner=outcome.get("runner") or {},
        sensors=tuple(SensorRecord.model_validate(sensor) for sensor in outcome.get("sensors") or ()),
        sampling=outcome.get("sampling"),
        stopped=outcome.get("stopped"),
    )


def _error(record: Mapping[str, Any]) -> ErrorInfo:
    return ErrorInfo(error_class=record["class"], code=record["code"], message=record["message"], remedy=record.get("remedy", ""))


def _utc(seconds: float) -> str:
    """Unix seconds as ISO 8601 with milliseconds and a Z, the form the agent writes as well."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
