"""Keeps what an attempt has measured that has no result: a soak that was cut short tells of the hours before.

Only soaks are kept. Their beginning is a measurement by itself, and heat that is gone cannot be asked again; an accuracy or a latency run
that broke is run again within the minute, and a part of its answers would only be mistaken for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np
import structlog
from sqlalchemy import update
from sqlmodel import col, select

from agent import protocol
from agent.errors import DeviceReplyInvalid, EdgematrixError
from orchestrator.dispatch.attempt_record import conditions_key, message_of
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.job_rows import Held
from orchestrator.dispatch.measuring import Streams
from orchestrator.dispatch.pulling import pull_partial
from orchestrator.dispatch.starting import settings_of
from orchestrator.domain.states import JobState
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Attempt, Job
from orchestrator.store.traces import publish_trace

log = structlog.get_logger(__name__)

#: The status of an outcome that was made here, of what a run had written before it was lost.
LOST = "lost"

_Told = TypeVar("_Told")


def worth_keeping(held: Held) -> bool:
    """Whether this attempt may have left a part of a soak on its device."""
    began = held.job.state in (JobState.RUNNING, JobState.COLLECTING, JobState.CANCELING)
    return began and held.job.attempts > 0 and settings_of(held).soak is not None


def salvage(gateway: Gateway, agent: DeviceAgent, held: Held, error: EdgematrixError | None) -> protocol.RunOutcome | None:
    """Bring over what the attempt has left and lay it beside the attempt, under the fence. Doing it again is harmless.

    Returns the outcome that it was kept with, None when it left none.

    Raises what a link raises; what it has brought over by then stays with this gateway, and the next call goes on there. What a device
    says that cannot be is passed over.
    """
    outcome = _outcome(agent, held, error)
    if outcome is None:
        return None
    streams = pull_partial(gateway, agent, held.plan, held.job, held.fence)
    outcome = _with_length(outcome, streams)
    traces = {name: publish_trace(gateway.artifacts, columns) for name, columns in streams.items()}
    mine = select(Job.id).where(col(Job.id) == held.job.id, col(Job.fence) == held.fence)
    with open_session(gateway.engine) as session:
        session.execute(
            update(Attempt)
            .where(col(Attempt.job_id).in_(mine), col(Attempt.number) == held.job.attempts)
            .values(
                outcome_message=message_of(outcome, held.job),
                conditions_key=conditions_key(outcome, held.environment),
                traces={name: trace.model_dump(mode="json") for name, trace in traces.items()},
            )
        )
    log.info("kept what a failed attempt has measured", run=held.run, rows={name: trace.rows for name, trace in traces.items()})
    return outcome


def _outcome(agent: DeviceAgent, held: Held, error: EdgematrixError | None) -> protocol.RunOutcome | None:
    """What the supervisor said last; of a run that was lost, what supervisor and runner said when they began. None when it never did."""
    told = _believed(lambda: agent.outcome(held.run), held)
    begun = _believed(lambda: agent.beginning(held.run), held)
    start, runner_start = begun if begun is not None else (None, None)
    if told is None and start is not None:
        told = protocol.RunOutcome(
            protocol=start.protocol,
            job_id=held.job.id,
            attempt=held.job.attempts,
            fence=held.fence,
            agent_version=start.agent_version,
            agent_sha256=start.agent_sha256,
            status=LOST,
            started_utc=start.started_utc,
            ended_utc=start.started_utc,
            duration_secs=0.0,
            error=error.to_json() if error is not None else None,
            conditions=start.conditions,
            sensors=start.sensors,
        )
    if told is not None and told.runner is None and runner_start is not None:
        runner = protocol.RunnerReport(origin_monotonic_ns=runner_start.origin_monotonic_ns, runtime=runner_start.runtime)
        told = replace(told, runner=runner)
    return told


def _believed(ask: Callable[[], _Told], held: Held) -> _Told | None:
    try:
        return ask()
    except DeviceReplyInvalid as error:
        log.warning("a message of a failed attempt is passed over", run=held.run, why=error.message)
        return None


def _with_length(outcome: protocol.RunOutcome, streams: Streams) -> protocol.RunOutcome:
    """Say of a lost run how long it was seen to live: from its first event to the last thing that was recorded."""
    if outcome.status != LOST:
        return outcome
    times = [np.asarray(columns["time_ns"]) for name, columns in streams.items() if name in (protocol.EVENTS, protocol.TELEMETRY)]
    times = [column for column in times if column.size]
    if not times:
        return outcome
    lived_secs = (int(max(column.max() for column in times)) - int(min(column.min() for column in times))) / 1e9
    if not 0 <= lived_secs < 10 * 365 * 86_400:
        return outcome
    return replace(outcome, duration_secs=lived_secs, ended_utc=_later(outcome.started_utc, lived_secs))


def _later(utc: str, secs: float) -> str:
    try:
        began = datetime.fromisoformat(utc.replace("Z", "+00:00")).astimezone(UTC)
    except (ValueError, OverflowError):
        return utc
    return (began + timedelta(seconds=secs)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
