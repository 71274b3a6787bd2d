"""From a finished run on the device to a result in the store: pull, verify, publish traces by digest, then metrics in one transaction."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import update
from sqlmodel import Session, col, select

from agent import errors, protocol
from agent.spool import read_spool
from orchestrator.analysis.measure import ANALYSIS_VERSION
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.measuring import Streams, measure_streams
from orchestrator.dispatch.request import required_streams, stream_limit
from orchestrator.domain.plan import Plan
from orchestrator.domain.states import JobOutcome, JobState
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.results import insert_result
from orchestrator.store.tables import Attempt, Device, Environment, Job
from orchestrator.store.traces import publish_trace

#: Facts that make two measurements comparable; times, loads and temperatures are found anew at every run and are left out.
_CONDITION_KEYS = ("board", "cpu", "memory_bytes", "kernel", "os", "frequency", "virtualization", "container", "cpu_quota")


def collect(
    gateway: Gateway, agent: DeviceAgent, plan: Plan, job: Job, device: Device, environment: Environment | None, fence: int
) -> JobOutcome | None:
    """Collect one attempt and finish its job under the fence; None when a newer fence took over meanwhile.

    Raises the infrastructure error of a stream that is torn, damaged or not what the agent says it wrote; the attempt is then repeated.
    """
    run = f"{job.id}.{job.attempts}"
    outcome = agent.outcome(run)
    if outcome is None:
        raise errors.RunLost(f"the outcome of {run} vanished from {device.name}", "it is tried again")
    if outcome.status == "error":
        _keep_message(gateway, job, fence, outcome, environment)
        raise errors.from_json(outcome.error or {"class": "bug", "message": "the agent gave no reason"})
    if outcome.status == "canceled":
        # A cancel of ours would have been answered in the state `canceling`.
        raise errors.RunnerKilled(
            f"something on {device.name} told {run} to stop", "see who stops processes on this device; the job is tried again"
        )
    streams: Streams = {}
    if outcome.status == "completed":
        streams = _pull(gateway, agent, plan, job, fence, outcome)
    conditions = conditions_key(outcome, environment)
    message: dict[str, Any] = json.loads(protocol.to_json(outcome))
    now = gateway.clock()
    if outcome.status != "completed":
        return _finish(gateway, job, fence, JobOutcome(outcome.status), message, conditions, now)
    traces = {name: publish_trace(gateway.artifacts, columns) for name, columns in streams.items()}
    with read_session(gateway.engine) as session:
        attempt = session.get_one(Attempt, (job.id, job.attempts))
    measured = measure_streams(gateway.engine, gateway.artifacts, plan, job, attempt, device, outcome, streams)

    def add_result(session: Session) -> None:
        insert_result(
            session,
            job_id=job.id,
            attempt=job.attempts,
            metrics=measured.metrics,
            validity=measured.validity,
            traces=traces,
            analysis_version=ANALYSIS_VERSION,
            now=now,
        )

    return _finish(gateway, job, fence, JobOutcome.COMPLETED, message, conditions, now, add_result)


def conditions_key(outcome: protocol.RunOutcome, environment: Environment | None) -> str:
    """Hash the facts found that decide whether another measurement was made under the same conditions."""
    facts: dict[str, Any] = {name: outcome.conditions.get(name) for name in _CONDITION_KEYS}
    facts["environment"] = environment.digest if environment else None
    facts["agent"] = outcome.agent_sha256
    facts["runtime"] = outcome.runner.runtime if outcome.runner else None
    facts["placement"] = dataclasses.asdict(outcome.runner.placement) if outcome.runner and outcome.runner.placement else None
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _pull(gateway: Gateway, agent: DeviceAgent, plan: Plan, job: Job, fence: int, outcome: protocol.RunOutcome) -> Streams:
    """Bring the streams over and verify them. Only the names of the protocol are ever asked for, into files this side has named."""
    run = f"{job.id}.{job.attempts}"
    missing = [stream for stream in required_streams(plan, job) if stream not in outcome.streams]
    if missing:
        raise errors.DeviceReplyInvalid(f"{run} claims to be complete and brings no {' and no '.join(missing)}", "it is tried again")
    folder = gateway.run_folder(run, fence)
    streams: Streams = {}
    for stream in protocol.STREAMS:
        reference = outcome.streams.get(stream)
        if reference is None:
            continue
        limit = stream_limit(plan, job, stream)
        if not 0 <= reference.size_bytes <= limit:
            raise errors.DeviceReplyInvalid(f"{stream} of {run} claims {reference.size_bytes} bytes; at most {limit} are possible")
        target = folder / f"{stream}.spool"
        size = agent.pull_stream(run, stream, target, reference.size_bytes)
        if size != reference.size_bytes or _sha256(target) != reference.sha256:
            target.unlink()
            raise errors.DigestMismatch(
                f"{stream} of {run}: {size} bytes arrived that are not the {reference.size_bytes} the agent wrote", "it is tried again"
            )
        streams[stream] = _columns(target, stream, plan.models[job.model].task.top_k)
    return streams


def _columns(path: Path, stream: str, top_k: int) -> dict[str, Any]:
    """Read a spool that must be whole (its writer has ended) and hold the columns that the protocol gives its stream."""
    found = read_spool(path, expected_stream=stream)
    if found.torn_bytes:
        raise errors.DeviceReplyInvalid(
            f"{stream} ends with {found.torn_bytes} bytes of a block that was never finished", "it is tried again"
        )
    expected: dict[str, str] = {
        protocol.QUERIES: dict(protocol.QUERY_COLUMNS),
        protocol.SAMPLES: dict(protocol.sample_columns(top_k)),
        protocol.OUTPUTS: {"sample": "<u4", "values": "<f4"},
        protocol.PROBES: dict(protocol.PROBE_COLUMNS),
        protocol.TELEMETRY: dict(protocol.TELEMETRY_COLUMNS),
        protocol.EVENTS: dict(protocol.EVENT_COLUMNS),
    }[stream]
    kinds = {name: np.dtype(kind) for name, kind in expected.items()}
    if {name: column.dtype for name, column in found.columns.items()} != kinds:
        raise errors.DeviceReplyInvalid(f"{stream} holds the columns {', '.join(found.columns)[:200]}, which are not the protocol's")
    return dict(found.columns)


def _keep_message(gateway: Gateway, job: Job, fence: int, outcome: protocol.RunOutcome, environment: Environment | None) -> None:
    """Keep what was found on the device beside an attempt that failed: conditions and sensors are the evidence of why."""
    mine = select(Job.id).where(col(Job.id) == job.id, col(Job.fence) == fence)
    with open_session(gateway.engine) as session:
        session.execute(
            update(Attempt)
            .where(col(Attempt.job_id).in_(mine), col(Attempt.number) == job.attempts)
            .values(outcome_message=json.loads(protocol.to_json(outcome)), conditions_key=conditions_key(outcome, environment))
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finish(
    gateway: Gateway,
    job: Job,
    fence: int,
    outcome: JobOutcome,
    message: dict[str, Any],
    conditions: str,
    now: float,
    add_result: Callable[[Session], None] | None = None,
) -> JobOutcome | None:
    """Make the result visible and the job finished in one transaction, under the fence. A stale fence writes nothing."""
    error = message.get("error")
    with open_session(gateway.engine) as session:
        won = session.execute(
            update(Job)
            .where(col(Job.id) == job.id, col(Job.fence) == fence, col(Job.state) == JobState.COLLECTING)
            .values(state=JobState.FINISHED, outcome=outcome, error=error, finished_at=now, next_drive_at=now, waiting_for=None)
            .returning(col(Job.id))
        ).scalar_one_or_none()
        if won is None:
            return None
        session.execute(
            update(Attempt)
            .where(col(Attempt.job_id) == job.id, col(Attempt.number) == job.attempts)
            .values(ended_at=now, status=outcome, error=error, outcome_message=message, conditions_key=conditions)
        )
        if add_result is not None:
            add_result(session)
        note_change(session, "job", job.id, JobState.COLLECTING, JobState.FINISHED, "system", now, outcome)
    return outcome
