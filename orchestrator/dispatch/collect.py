"""From a finished run on the device to a result in the store: pull, verify, publish traces by digest, then metrics in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from agent import errors, protocol
from orchestrator.analysis.measure import ANALYSIS_VERSION
from orchestrator.dispatch.attempt_record import conditions_key, message_of
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.job_rows import Held
from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.measuring import measure_streams
from orchestrator.dispatch.pulling import pull_whole
from orchestrator.dispatch.salvage import salvage, worth_keeping
from orchestrator.domain.states import JobOutcome, JobState
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.results import insert_result
from orchestrator.store.tables import Attempt, Job
from orchestrator.store.traces import publish_trace


def collect(gateway: Gateway, agent: DeviceAgent, held: Held) -> JobOutcome | None:
    """Collect one attempt and finish its job under the fence; None when a newer fence took over meanwhile.

    Raises the infrastructure error of a stream that is torn, damaged or not what the agent says it wrote; the attempt is then repeated.
    """
    run, job, device, plan = held.run, held.job, held.device, held.plan
    outcome = agent.outcome(run)
    if outcome is None:
        raise errors.RunLost(f"the outcome of {run} vanished from {device.name}", "it is tried again")
    if outcome.status == "error":
        _keep_message(gateway, held, outcome)
        raise errors.from_json(outcome.error or {"class": "bug", "message": "the agent gave no reason"})
    if outcome.status == "canceled":
        # A cancel of ours would have been answered in the state `canceling`.
        raise errors.RunnerKilled(
            f"something on {device.name} told {run} to stop", "see who stops processes on this device; the job is tried again"
        )
    if outcome.status != "completed" and worth_keeping(held):
        outcome = salvage(gateway, agent, held, None) or outcome
    conditions = conditions_key(outcome, held.environment)
    message = message_of(outcome, job)
    if outcome.status != "completed":
        return _finish(gateway, job, held.fence, JobOutcome(outcome.status), message, conditions, gateway.clock())
    streams = pull_whole(gateway, agent, plan, job, held.fence, outcome.streams)
    now = gateway.clock()
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

    return _finish(gateway, job, held.fence, JobOutcome.COMPLETED, message, conditions, now, add_result)


def _keep_message(gateway: Gateway, held: Held, outcome: protocol.RunOutcome) -> None:
    """Keep what was found on the device beside an attempt that failed: conditions and sensors are the evidence of why."""
    mine = select(Job.id).where(col(Job.id) == held.job.id, col(Job.fence) == held.fence)
    with open_session(gateway.engine) as session:
        session.execute(
            update(Attempt)
            .where(col(Attempt.job_id).in_(mine), col(Attempt.number) == held.job.attempts)
            .values(outcome_message=message_of(outcome, held.job), conditions_key=conditions_key(outcome, held.environment))
        )


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
