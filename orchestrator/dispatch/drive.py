"""Drives one job one step further. Re-entrant and never waiting: look at what is true, take the next step, say when to look again.

Every step may be the last thing this process does. What is true lives in the job's row and in the device's job folder; the next
``drive``, in whatever process, goes on from there. Every write is made under the fence: a process that was frozen past its lease writes
nothing.
"""

from __future__ import annotations

import structlog
from sqlalchemy import update
from sqlmodel import col, select

from agent.errors import DeviceUnreachable, EdgematrixError, InternalError, RunLost, storage_error
from agent.protocol import RunStatus
from orchestrator.dispatch.collect import collect
from orchestrator.dispatch.device_agent import DeviceAgent, RunProgress
from orchestrator.dispatch.gate import StartGateNotReached, gate_patience_secs
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.job_rows import END_PATIENCE_SECS, LOOK_AGAIN_MIN_SECS, Held, end, have_checked, look_again, move, put_back
from orchestrator.dispatch.leases import LEASE_SECS, release_lease, renew_lease
from orchestrator.dispatch.ledger import set_health
from orchestrator.dispatch.measuring import remeasure_against_reference
from orchestrator.dispatch.pulling import PullUnfinished
from orchestrator.dispatch.salvage import salvage, worth_keeping
from orchestrator.dispatch.starting import settings_of, start, start_facts
from orchestrator.dispatch.surroundings import reset_surroundings
from orchestrator.domain.states import DeviceHealth, ErrorClass, JobOutcome, JobState
from orchestrator.store.database import session as open_session
from orchestrator.store.errors import ArtifactsUnreachable, DatabaseBusy, DatabaseUnreachable
from orchestrator.store.tables import Device, Job
from orchestrator.transports.ssh_errors import REFUSALS

log = structlog.get_logger(__name__)

#: How soon to look again at a run: at its expected end, but neither busily nor so rarely that a crash goes unseen. The longer it has to go,
#: the more rarely, up to a pause that leaves the lease a margin: hundreds of hour-long runs must not cost the lab a computer.
_LOOK_AGAIN_SHORT_SECS = 5.0
_LOOK_AGAIN_MOST_SECS = LEASE_SECS * 2 / 3
_LOOKS_TO_GO = 20
#: A run whose progress stands still for this long is asked for by a command; before that, only its files are read.
_STALL_SECS = 8.0
#: How often a device that does not answer is tried again while its run may live, and how long before there is a run to lose.
_LINK_RETRY_SECS = 2.0
_LINK_PATIENCE_SECS = 60.0


def drive(gateway: Gateway, job_id: str, fence: int) -> None:
    """Take the job's next step, if ``fence`` still owns its device.

    Errors of the lab or of the job become the job's state; only a database or an artifact store that cannot be reached is raised, and the
    scheduler's next nudge tries again.
    """
    with gateway.job_lock(job_id, fence) as mine:
        if not mine:
            return
        try:
            held = _hold(gateway, job_id, fence)
        except EdgematrixError:
            raise
        except Exception as error:
            log.exception("cannot read what this job is", job=job_id)
            _give_up(gateway, job_id, fence, _bug(error))
            return
        if held is None:
            return
        try:
            with gateway.keeper.keep(held.device.id or 0, job_id, fence):
                _step(gateway, held)
        except (DatabaseBusy, DatabaseUnreachable, ArtifactsUnreachable):
            # Neither the job's fault nor the device's: nothing is counted against them, and the next nudge tries the same step again.
            raise
        except EdgematrixError as error:
            if not _wait_for_link(gateway, held, error):
                _fail(gateway, held, error)
        except OSError as error:
            log.exception("this gateway's own folder failed", job=job_id)
            _fail(gateway, held, storage_error(error, error.filename or gateway.folder))
        except Exception as error:
            log.exception("drive failed", job=job_id)
            _fail(gateway, held, _bug(error))


def _bug(error: Exception) -> InternalError:
    return InternalError(f"{type(error).__name__}: {error}", "please report this with the worker's log")


def _hold(gateway: Gateway, job_id: str, fence: int) -> Held | None:
    now = gateway.clock()
    with open_session(gateway.engine) as session:
        found = session.execute(select(Job, Device).join(Device, col(Device.id) == col(Job.device_id)).where(col(Job.id) == job_id)).first()
        if found is not None and found[1].gateway != gateway.name:
            log.error("refused a nudge for another gateway's device", job=job_id, theirs=found[1].gateway, ours=gateway.name)
            return None
        if found is None or not renew_lease(session, found[1].id, job_id, fence, now):
            log.info("stale nudge", job=job_id, fence=fence)
            return None
        job, device = found
        plan = gateway.plan_of(session, job.experiment_id)
        environment = None
        try:
            environment = gateway.environment_of(session, device, job.environment)
        except EdgematrixError as error:
            end(session, job, device, fence, JobOutcome.ERROR, error, now)
            job.state = JobState.FINISHED
    return Held(job, device, plan, environment, fence)


def _interpreter(held: Held) -> list[str]:
    """The environment's command prefix; a job whose environment is gone has ended, and any Python cleans up after it."""
    return held.environment.interpreter if held.environment else ["python3"]


def _agent(gateway: Gateway, held: Held) -> DeviceAgent:
    return gateway.agent_for(held.device, _interpreter(held))


def _step(gateway: Gateway, held: Held) -> None:
    if held.job.state in (JobState.SCHEDULED, JobState.PREPARING):
        start(gateway, held, _agent(gateway, held))
    elif held.job.state == JobState.RUNNING:
        _look(gateway, held)
    elif held.job.state == JobState.COLLECTING:
        _collect(gateway, held)
    elif held.job.state == JobState.CANCELING:
        _cancel(gateway, held)
    elif held.job.state == JobState.FINISHED:
        _let_go(gateway, held)


# --- running --------------------------------------------------------------------------------------------------


def _look(gateway: Gateway, held: Held) -> None:
    agent = _agent(gateway, held)
    if agent.outcome(held.run) is not None:
        if move(gateway, held, JobState.RUNNING, JobState.COLLECTING, look_again_in=0.0):
            held.job.state = JobState.COLLECTING
            _collect(gateway, held)
        return None
    now = gateway.clock()
    agent.mark_read(held.run)
    progress = agent.progress(held.run)
    seen = held.job.progress or {}
    # The seconds left, too: while a soak rests, or is watched as it cools down, nothing else of its progress moves.
    mark = [progress.phase, progress.done, progress.seconds_left] if progress else None
    changed_at = now if mark != seen.get("mark") else float(seen.get("changed_at", now))
    if now - changed_at > _STALL_SECS or held.fence != seen.get("fence", held.fence):
        status = agent.status(held.run, held.fence)
        if status.state == "ended":
            return look_again(gateway, held, seen, 0.0)
        if status.state != "running":
            raise _lost(held, status)
        changed_at = now
    record: dict[str, object] = {"mark": mark, "changed_at": changed_at, "fence": held.fence, "seen_at": now, **start_facts(seen)}
    if progress is not None:
        record |= {"phase": progress.phase, "done": progress.done, "total": progress.total, "seconds_left": progress.seconds_left}
    return look_again(gateway, held, record, _pause(progress))


def _lost(held: Held, status: RunStatus) -> RunLost:
    if status.restarted:
        return RunLost(
            f"{held.device.name} restarted while {held.run} ran on it",
            "see its power supply and its kernel's last words; the run is tried again",
        )
    killed = "its supervisor was killed" if status.restarted is False else "its supervisor was killed or the device restarted"
    return RunLost(f"{held.run} ended on {held.device.name} without an outcome (state {status.state})", f"{killed}; it is tried again")


def _pause(progress: RunProgress | None) -> float:
    if progress is None or progress.seconds_left is None:
        return LOOK_AGAIN_MIN_SECS * 2
    rarest = min(max(progress.seconds_left / _LOOKS_TO_GO, _LOOK_AGAIN_SHORT_SECS), _LOOK_AGAIN_MOST_SECS)
    return min(max(progress.seconds_left, LOOK_AGAIN_MIN_SECS), rarest)


# --- collecting, canceling, finished ------------------------------------------------------------------------------


def _collect(gateway: Gateway, held: Held) -> None:
    try:
        outcome = collect(gateway, _agent(gateway, held), held)
    except PullUnfinished:
        return look_again(gateway, held, (held.job.progress or {}) | {"seen_at": gateway.clock()}, 0.0)
    if outcome is not None:
        held.job.state, held.job.outcome = JobState.FINISHED, outcome
        _let_go(gateway, held)
    return None


def _cancel(gateway: Gateway, held: Held) -> None:
    agent = _agent(gateway, held)
    if held.job.attempts:
        agent.push_agent()
        status = agent.status(held.run, held.fence)
        if status.state == "running":
            agent.cancel(held.run, held.fence)
            return look_again(gateway, held, dict(held.job.progress or {}), LOOK_AGAIN_MIN_SECS)
        if status.state in ("ended", "lost") and not _keep_what_is_there(gateway, held, None):
            return None
    with open_session(gateway.engine) as session:
        end(session, held.job, held.device, held.fence, JobOutcome.CANCELED, None, gateway.clock())
    held.job.state = JobState.FINISHED
    return _let_go(gateway, held)


def _let_go(gateway: Gateway, held: Held) -> None:
    """Clean the device, then free it. A device that cannot be cleaned keeps no job from its end: its health decides what it gets next."""
    why = ""
    if held.job.outcome == JobOutcome.COMPLETED:
        _remeasure(gateway, held)
    if held.job.attempts and held.environment is not None:
        try:
            agent = _agent(gateway, held)
            state = agent.status(held.run, held.fence).state
            asked_for_secs = gateway.clock() - (held.job.finished_at or gateway.clock())
            if state == "running" and asked_for_secs < END_PATIENCE_SECS:
                agent.cancel(held.run, held.fence)
                return look_again(gateway, held, dict(held.job.progress or {}), LOOK_AGAIN_MIN_SECS)
            if state != "absent":
                # One that runs although it was told to end is refused, and that becomes the device's health.
                agent.clean(held.run, held.fence)
        except Exception as error:
            # Even a mistake of our own: its device would be held for ever, by a job that has ended.
            log.exception("could not clean", job=held.job.id)
            told = error.message if isinstance(error, EdgematrixError) else f"{type(error).__name__}: {error}"
            why = f"cleaning {held.run} failed: {told}"
    gateway.forget_run(held.run, held.fence)
    why = "; ".join(filter(None, (why, _reset(held))))
    with open_session(gateway.engine) as session:
        if held.device.id is None or not release_lease(session, held.device.id, held.job.id, held.fence):
            return None
        if why:
            set_health(session, held.device, DeviceHealth.UNKNOWN, why, gateway.clock())
        session.execute(update(Job).where(col(Job.id) == held.job.id, col(Job.fence) == held.fence).values(next_drive_at=None))
    return None


def _reset(held: Held) -> str:
    """Bring the device's surroundings back to what is usual, if the job had them set; in words why that failed."""
    try:
        soak = settings_of(held).soak
        if held.job.attempts and soak is not None and soak.surroundings is not None:
            reset_surroundings(held.device)
    except EdgematrixError as error:
        log.warning("could not reset the surroundings", job=held.job.id, why=error.message)
        return error.message
    return ""


def _remeasure(gateway: Gateway, held: Held) -> None:
    """Before the lease is released: whoever is killed in the middle of it begins again."""
    try:
        remeasure_against_reference(gateway.engine, gateway.artifacts, held.plan, held.job)
    except (DatabaseBusy, DatabaseUnreachable, ArtifactsUnreachable):
        raise
    except Exception:
        # The result is there and stays as it is; `edgematrix recompute` tells what is wrong with it.
        log.exception("could not compare with the reference", job=held.job.id)


# --- failures -------------------------------------------------------------------------------------------------------


def _wait_for_link(gateway: Gateway, held: Held, error: EdgematrixError) -> bool:
    """Say whether the job keeps its device and looks again: a run survives its link, so it is picked up and not run again.

    The patience ends where the run would have ended itself for want of a reader. A host that answers and refuses us does not come back by
    waiting; neither does a run whose end was asked for.
    """
    seen = held.job.progress or {}
    may_run = held.plan.limits.orphan_after_secs
    waits_at_gate = gate_patience_secs(settings_of(held).gate, seen.get("gate"))
    patience_secs = {
        JobState.PREPARING: may_run if seen.get("asked") else max(_LINK_PATIENCE_SECS, waits_at_gate),
        JobState.RUNNING: may_run,
        JobState.COLLECTING: may_run,
    }.get(JobState(held.job.state))
    seen_at = seen.get("seen_at")
    if not isinstance(error, DeviceUnreachable) or isinstance(error, REFUSALS) or patience_secs is None or seen_at is None:
        return False
    if gateway.clock() - float(seen_at) > patience_secs:
        return False
    log.info("the device does not answer; its run may live", job=held.job.id, why=error.message)
    look_again(gateway, held, dict(seen), _LINK_RETRY_SECS)
    return True


def _keep_what_is_there(gateway: Gateway, held: Held, error: EdgematrixError | None) -> bool:
    """Bring over what a soak has measured that is about to end without a result; False when its device is to be waited for meanwhile.

    Whatever stands in the way but a link that may come back, and a store of ours: the end of the job does not wait for it.
    """
    if not worth_keeping(held) or isinstance(error, DeviceUnreachable) or not _still_ours(gateway, held):
        return True
    try:
        salvage(gateway, _agent(gateway, held), held, error)
    except PullUnfinished:
        look_again(gateway, held, (held.job.progress or {}) | {"seen_at": gateway.clock()}, 0.0)
        return False
    except (DatabaseBusy, DatabaseUnreachable, ArtifactsUnreachable):
        raise
    except Exception as failed:
        if isinstance(failed, EdgematrixError) and _wait_for_link(gateway, held, failed):
            return False
        log.warning("could not keep what was measured", job=held.job.id, why=str(failed), exc_info=not isinstance(failed, EdgematrixError))
    return True


def _fail(gateway: Gateway, held: Held, error: EdgematrixError) -> None:
    """An infrastructure error is tried again on a device that proves healthy; any other error is the job's end."""
    if not _keep_what_is_there(gateway, held, error):
        # The next look finds the same failure again, and goes on from what was brought over.
        return
    now = gateway.clock()
    log.warning("attempt failed", job=held.job.id, attempt=held.job.attempts, code=error.code, message=error.message)
    # Who waited at the gate in vain has waited as long as was asked, and the device is none the worse.
    in_vain = isinstance(error, StartGateNotReached)
    again = (
        error.error_class == ErrorClass.INFRASTRUCTURE
        and not in_vain
        and held.job.attempts < held.plan.limits.max_attempts
        and held.job.state not in (JobState.CANCELING, JobState.FINISHED)
    )
    if again and _still_ours(gateway, held):
        _stop_quietly(gateway, held)
        _reset(held)
    with open_session(gateway.engine) as session:
        ours = held.device.id is not None and renew_lease(session, held.device.id, held.job.id, held.fence, now)
        if ours and error.error_class == ErrorClass.INFRASTRUCTURE and not in_vain:
            set_health(session, held.device, DeviceHealth.UNKNOWN, error.message, now)
        if ours and again:
            put_back(session, held, error, now)
        elif ours:
            outcome = JobOutcome.CANCELED if held.job.state == JobState.CANCELING else JobOutcome.ERROR
            end(session, held.job, held.device, held.fence, outcome, error, now)
    if not ours:
        have_checked(gateway, held)
    elif not again:
        held.job.state = JobState.FINISHED
        _let_go(gateway, held)


def _give_up(gateway: Gateway, job_id: str, fence: int, error: EdgematrixError) -> None:
    """End a job whose plan cannot be read, by another version's mistake or ours; it would hold its device, and be nudged, for ever."""
    now = gateway.clock()
    with open_session(gateway.engine) as session:
        found = session.execute(select(Job, Device).join(Device, col(Device.id) == col(Job.device_id)).where(col(Job.id) == job_id)).first()
        if found is None or not renew_lease(session, found[1].id, job_id, fence, now):
            return
        job, device = found
        end(session, job, device, fence, JobOutcome.ERROR, error, now)
        # A run of it may live there: the check that is owed now ends that.
        set_health(session, device, DeviceHealth.UNKNOWN, f"{job_id} was given up: {error.message}", now)
        release_lease(session, device.id, job_id, fence)
        session.execute(update(Job).where(col(Job.id) == job_id, col(Job.fence) == fence).values(next_drive_at=None))


def _still_ours(gateway: Gateway, held: Held) -> bool:
    """The device may not have seen the newer fence yet: only SQL can say that a run is another drive's by now."""
    with open_session(gateway.engine) as session:
        return held.device.id is not None and renew_lease(session, held.device.id, held.job.id, held.fence, gateway.clock())


def _stop_quietly(gateway: Gateway, held: Held) -> None:
    """End what may still live on the device before it is given away; what cannot be reached is ended by the next fence or by itself."""
    try:
        agent = _agent(gateway, held)
        agent.cancel(held.run, held.fence)
        agent.clean(held.run, held.fence)
    except Exception as error:
        log.info("could not clean after a failed attempt", job=held.job.id, why=str(error), exc_info=not isinstance(error, EdgematrixError))
    gateway.forget_run(held.run, held.fence)
