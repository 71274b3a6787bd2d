"""From a leased device to a run on it: count the attempt, push what is missing, set the surroundings, wait at the start gate, start."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import update
from sqlmodel import col

from agent.errors import DeviceBusy, DeviceUnreachable
from orchestrator.dispatch.device_agent import DeviceAgent, end_leftovers
from orchestrator.dispatch.gate import look_at_gate
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.job_rows import (
    END_PATIENCE_SECS,
    LOOK_AGAIN_MIN_SECS,
    Held,
    have_checked,
    look_again,
    move_in,
    note_progress,
)
from orchestrator.dispatch.request import build_request, planned_variant
from orchestrator.dispatch.surroundings import set_surroundings
from orchestrator.domain.plan import ScenarioSettings
from orchestrator.domain.states import JobState, Scenario
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Attempt

#: How long one drive pushes; what is left goes with the next nudge, under a renewed lease.
_PUSH_SECS = 5.0
#: A gate that was met so long ago says nothing of now.
_GATE_HOLDS_SECS = 10.0
#: What is known before a run of its start, and kept beside its progress until it is collected.
START_FACTS = ("gate", "surroundings")


def settings_of(held: Held) -> ScenarioSettings:
    """How the plan runs the scenario of a job."""
    return held.plan.scenarios[Scenario(held.job.scenario)]


def start(gateway: Gateway, held: Held, agent: DeviceAgent) -> None:
    """Take a scheduled or preparing job one step further; what lasts is gone on with at the next nudge."""
    if held.job.state == JobState.SCHEDULED:
        if not _begin_attempt(gateway, held):
            return None
        held.job.state = JobState.PREPARING
    _, variant = planned_variant(held.plan, held.job)
    inputs = held.plan.models[held.job.model].dataset.inputs
    agent.push_agent()
    until = gateway.clock() + _PUSH_SECS
    for sha256, size_bytes in ((variant.info.sha256, variant.info.size_bytes), (inputs.sha256, inputs.size_bytes)):
        source = partial(gateway.artifacts.local_path, sha256)
        if not agent.push_content(sha256, size_bytes, source, lambda: gateway.clock() > until):
            return look_again(gateway, held, _seen(gateway, held, anew=True), 0.0)
    if not _ready(gateway, held, agent):
        return None
    # A run that an earlier drive started and could not note down is found here: start is idempotent under the same job.
    interpreter = held.environment.interpreter if held.environment else ["python3"]
    agent.push_request(held.run, build_request(held.plan, held.job, interpreter, held.job.attempts, held.fence))
    try:
        started = agent.start(held.run, held.fence)
    except DeviceBusy:
        # We hold the device's only lease, so whatever else lives there was left behind by a lease that is gone.
        end_leftovers(agent, held.fence, keep=held.run)
        seen = _seen(gateway, held)
        seen.pop("gate", None)  # that heated the device
        # A gate that is waited for in between sees the device, and does not make it less busy.
        busy_since = min(float(seen["seen_at"]), float(seen.setdefault("busy_since", seen["seen_at"])))
        if gateway.clock() - busy_since > END_PATIENCE_SECS:
            raise
        return look_again(gateway, held, seen, LOOK_AGAIN_MIN_SECS)
    except DeviceUnreachable:
        # The answer was lost, perhaps after the run began: from here on there is one to lose.
        held.job.progress = _seen(gateway, held) | {"asked": True}
        raise
    return _note_started(gateway, held, started)


def start_facts(progress: dict[str, Any] | None) -> dict[str, Any]:
    """What of a job's progress is to be kept until its run is collected: the start gate's readings, the surroundings that were set."""
    return {name: progress[name] for name in START_FACTS if name in progress} if progress else {}


def start_conditions(progress: dict[str, Any] | None) -> dict[str, Any]:
    """The same as conditions of the run: ``start_gate`` and ``surroundings``, where there were such."""
    facts = start_facts(progress)
    return {{"gate": "start_gate"}.get(name, name): fact for name, fact in facts.items()}


def _ready(gateway: Gateway, held: Held, agent: DeviceAgent) -> bool:
    """Set the surroundings once, and let the gate be met; False when the job is to be looked at again."""
    settings = settings_of(held)
    asked = settings.soak.surroundings if settings.soak is not None else None
    seen = _seen(gateway, held)
    if asked is not None and "surroundings" not in seen:
        seen["surroundings"] = set_surroundings(held.device, asked)
        if not note_progress(gateway, held, seen):
            return False
    gate, record = settings.gate, seen.get("gate")
    if gate is None:
        return True
    now = gateway.clock()
    if record is not None and "met_at" in record:
        if now - float(record["met_at"]) < _GATE_HOLDS_SECS or agent.status(held.run, held.fence).state not in ("absent", "pushed"):
            return True
        del record["met_at"]
    record, view = look_at_gate(gate, agent, record, now)
    seen |= {"gate": record, "seen_at": now}
    if view is not None and view.met:
        # Noted before the start: whoever goes on after us must not wait for a device to cool that runs already.
        record["met_at"] = now
        return note_progress(gateway, held, seen)
    look_again(gateway, held, seen, LOOK_AGAIN_MIN_SECS * 8 if view is None else view.look_again_secs)
    return False


def _seen(gateway: Gateway, held: Held, anew: bool = False) -> dict[str, Any]:
    """The job's progress so far, with the time when its device was last seen: now, if there is none or with ``anew``."""
    now = {"seen_at": gateway.clock()}
    return (held.job.progress or {}) | now if anew else now | (held.job.progress or {})


def _begin_attempt(gateway: Gateway, held: Held) -> bool:
    """Count the attempt before anything reaches the device, so that no attempt can be lost."""
    now = gateway.clock()
    number = held.job.attempts + 1
    with open_session(gateway.engine) as session:
        moved = move_in(session, held, JobState.SCHEDULED, JobState.PREPARING, now, attempts=number, progress={"seen_at": now})
        if moved and held.device.id is not None:
            session.add(Attempt(job_id=held.job.id, number=number, device_id=held.device.id, fence=held.fence, started_at=now))
    held.job.attempts = number
    return moved


def _note_started(gateway: Gateway, held: Held, reply: dict[str, object]) -> None:
    """The job runs; how far the device's clock is from ours was found on the way."""
    now = gateway.clock()
    found = {name: reply.get(name) for name in ("clock_offset_secs", "clock_offset_uncertainty_secs")}
    progress = {"seen_at": now, **start_facts(held.job.progress)}
    with open_session(gateway.engine) as session:
        if move_in(session, held, JobState.PREPARING, JobState.RUNNING, now, next_drive_at=now + LOOK_AGAIN_MIN_SECS, progress=progress):
            session.execute(
                update(Attempt).where(col(Attempt.job_id) == held.job.id, col(Attempt.number) == held.job.attempts).values(**found)
            )
            return
    have_checked(gateway, held)
