"""From streams to metrics with everything the plan knows: the answers, the reference's outputs, the device's emulation and clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from agent import protocol
from agent.errors import EdgematrixError
from agent.protocol import RunOutcome
from orchestrator.analysis.evaluators import REFERENCE_ABSENT
from orchestrator.analysis.measure import ANALYSIS_VERSION, Measured, compute
from orchestrator.analysis.thermal_energy import ExternalPower
from orchestrator.dispatch.profiles import load_profile
from orchestrator.dispatch.request import telemetry_hz
from orchestrator.domain.plan import Plan, ScenarioSettings
from orchestrator.domain.states import Emulation, JobOutcome, Scenario, TaskKind
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.imported import POWER, latest_import
from orchestrator.store.results import replace_metrics
from orchestrator.store.tables import Attempt, Device, Job, MetricRow, Result
from orchestrator.store.traces import read_trace

Columns = dict[str, np.ndarray[Any, Any]]
Streams = dict[str, Columns]


def measure_streams(
    engine: Engine, artifacts: ArtifactStore, plan: Plan, job: Job, attempt: Attempt, device: Device, outcome: RunOutcome, streams: Streams
) -> Measured:
    """Compute the metrics and the validity of one completed run."""
    model, settings = plan.models[job.model], plan.scenarios[Scenario(job.scenario)]
    answers = read_trace(artifacts, model.dataset.answers_sha256) if model.dataset.answers_sha256 else None
    reference = None
    if model.task.kind == TaskKind.TENSOR and job.scenario == Scenario.ACCURACY:
        reference = _reference_outputs(engine, artifacts, job, model.reference, streams)
    return compute(
        scenario=Scenario(job.scenario),
        task=model.task.kind,
        sample_count=model.dataset.inputs.sample_count,
        streams=streams,
        outcome=outcome,
        emulated=Emulation(device.emulated),
        class_names=model.dataset.info.class_names,
        answers=answers,
        reference_outputs=reference,
        telemetry_hz=telemetry_hz(plan, job),
        clock_offset_secs=attempt.clock_offset_secs,
        start_gate_c=_start_range(settings),
        soak=settings.soak,
        limit_c=limit_of(device.profile),
        external_power=external_power(engine, artifacts, job.id, attempt.number) if settings.soak is not None else None,
    )


def _start_range(settings: ScenarioSettings) -> tuple[float, float] | None:
    """The range in which the hottest zone had to be at the start; None also for a latency run whose gate went by a sensor of its own."""
    gate = settings.gate
    if gate is None or (settings.soak is None and gate.sensor is not None):
        return None
    return gate.temperature_c - gate.tolerance_c, gate.temperature_c + gate.tolerance_c


def external_power(engine: Engine, artifacts: ArtifactStore, job_id: str, attempt: int) -> ExternalPower | None:
    """The power that a meter of its own measured beside an attempt, where somebody attached its trace."""
    with read_session(engine) as session:
        found = latest_import(session, job_id, attempt, POWER)
    if found is None:
        return None
    columns = read_trace(artifacts, found.sha256)
    return ExternalPower(time_ns=columns["time_ns"], power_mw=columns["power_mw"], source=found.source)


def limit_of(profile: str) -> float | None:
    """The temperature at which boards of this kind begin to slow down, °C, where their profile states one."""
    try:
        thermal = load_profile(profile).thermal
    except EdgematrixError:
        # A profile that was removed since: nothing else of the measurement depends on it.
        return None
    return thermal.throttle_c if thermal else None


def load_streams(artifacts: ArtifactStore, traces: Mapping[str, Any]) -> Streams:
    """Read a result's traces back into the streams they were made from."""
    return {name: read_trace(artifacts, trace["sha256"]) for name, trace in traces.items()}


def remeasure(engine: Engine, artifacts: ArtifactStore, plan: Plan, job_id: str) -> bool:
    """Rebuild one job's metrics from its traces; False when it has no result."""
    with read_session(engine) as session:
        job, result = session.get(Job, job_id), session.get(Result, job_id)
        if job is None or result is None or job.device_id is None:
            return False
        device = session.get_one(Device, job.device_id)
        attempt = session.get_one(Attempt, (job_id, result.attempt))
    outcome = protocol.from_json(RunOutcome, json.dumps(attempt.outcome_message))
    measured = measure_streams(engine, artifacts, plan, job, attempt, device, outcome, load_streams(artifacts, result.traces))
    with open_session(engine) as session:
        replace_metrics(session, job_id=job_id, metrics=measured.metrics, validity=measured.validity, analysis_version=ANALYSIS_VERSION)
    return True


def remeasure_against_reference(engine: Engine, artifacts: ArtifactStore, plan: Plan, job: Job) -> None:
    """Call it when ``job`` has its result: what was measured without the reference, and is a tensor task, can be told from it now.

    After the reference that concerns the other variants, after a variant itself: the reference may have ended while it was measured.
    """
    model = plan.models[job.model]
    if model.task.kind != TaskKind.TENSOR or job.scenario != Scenario.ACCURACY:
        return
    with read_session(engine) as session:
        if job.variant != model.reference and not _reference_jobs(session, job, model.reference):
            return
        waiting = session.exec(
            select(Job.id)
            .join(MetricRow, col(MetricRow.job_id) == col(Job.id))
            .where(
                col(Job.experiment_id) == job.experiment_id,
                col(Job.model) == job.model,
                col(Job.scenario) == Scenario.ACCURACY,
                col(Job.outcome) == JobOutcome.COMPLETED,
                col(MetricRow.cause) == REFERENCE_ABSENT,
            )
            .distinct()
        ).all()
    for job_id in waiting:
        remeasure(engine, artifacts, plan, job_id)


def _reference_outputs(engine: Engine, artifacts: ArtifactStore, job: Job, reference: str, own: Streams) -> Columns | None:
    """The outputs of the reference variant, best from the same device and environment; None while it has not been measured."""
    if job.variant == reference:
        return own.get(protocol.OUTPUTS)
    with read_session(engine) as session:
        found = _reference_jobs(session, job, reference)
        if not found:
            return None
        nearest = min(found, key=lambda other: (other.device_id != job.device_id, other.environment != job.environment, other.id))
        result = session.get(Result, nearest.id)
    trace = result.traces.get(protocol.OUTPUTS) if result else None
    return read_trace(artifacts, trace["sha256"]) if trace else None


def _reference_jobs(session: Session, job: Job, reference: str) -> list[Job]:
    return list(
        session.exec(
            select(Job).where(
                col(Job.experiment_id) == job.experiment_id,
                col(Job.model) == job.model,
                col(Job.variant) == reference,
                col(Job.scenario) == Scenario.ACCURACY,
                col(Job.outcome) == JobOutcome.COMPLETED,
            )
        ).all()
    )
