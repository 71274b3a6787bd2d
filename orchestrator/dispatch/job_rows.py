"""A job's row and its device's, as one drive sees and changes them: every write is made under the fence, or not at all."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import Session, col, select

from agent.errors import EdgematrixError
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.leases import release_lease
from orchestrator.dispatch.ledger import note_change
from orchestrator.domain.plan import Plan
from orchestrator.domain.states import JobOutcome, JobState
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Attempt, Device, Environment, Job

#: How soon to look again at what is about to happen.
LOOK_AGAIN_MIN_SECS = 0.25
#: How long a run may take to end that was told to; a supervisor sees it within a quarter of a second, unless the device hangs.
END_PATIENCE_SECS = 120.0


@dataclass(frozen=True)
class Held:
    """One look at the rows, under the lease that was just renewed."""

    job: Job
    device: Device
    plan: Plan
    environment: Environment | None
    fence: int

    @property
    def run(self) -> str:
        return f"{self.job.id}.{self.job.attempts}"


def look_again(gateway: Gateway, held: Held, progress: dict[str, object], pause_secs: float) -> None:
    """Note what was seen and when to look next; a job that has gone on without us is left alone."""
    with open_session(gateway.engine) as session:
        found = session.execute(
            update(Job)
            .where(col(Job.id) == held.job.id, col(Job.fence) == held.fence, col(Job.state) == held.job.state)
            .values(progress=progress, next_drive_at=gateway.clock() + pause_secs)
            .returning(col(Job.id))
        ).scalar_one_or_none()
    if found is None:
        have_checked(gateway, held)


def note_progress(gateway: Gateway, held: Held, progress: dict[str, object]) -> bool:
    """Note what was done while the same drive goes on; False when the job is not ours any more, and nothing more may be done."""
    with open_session(gateway.engine) as session:
        found = session.execute(
            update(Job)
            .where(col(Job.id) == held.job.id, col(Job.fence) == held.fence, col(Job.state) == held.job.state)
            .values(progress=progress)
            .returning(col(Job.id))
        ).scalar_one_or_none()
    if found is None:
        have_checked(gateway, held)
        return False
    held.job.progress = progress
    return True


def have_checked(gateway: Gateway, held: Held) -> None:
    """Owe the device a check, unless this run still is its business.

    Files are not fenced: a drive that froze may have put one into the folder of a run that is gone by now, and a check removes that.
    """
    still_there = (
        select(Job.id)
        .where(col(Job.id) == held.job.id, col(Job.attempts) == held.job.attempts, col(Device.lease_job_id) == col(Job.id))
        .correlate(Device)
        .exists()
    )
    with open_session(gateway.engine) as session:
        session.execute(update(Device).where(col(Device.id) == held.device.id, ~still_there).values(next_check_at=gateway.clock()))


def put_back(session: Session, held: Held, error: EdgematrixError, now: float) -> None:
    """End the attempt and let the job wait again; one that was canceled meanwhile keeps its lease, and the next nudge ends it."""
    back = {"state": JobState.SUBMITTED, "fence": None, "next_drive_at": None, "progress": None, "waiting_for": error.message}
    if held.job.device_query:
        back["device_id"] = None
    was_ours = session.execute(
        update(Job)
        .where(col(Job.id) == held.job.id, col(Job.fence) == held.fence, col(Job.state) == held.job.state)
        .values(**back)
        .returning(col(Job.id))
    ).scalar_one_or_none()
    if was_ours is None:
        return
    session.execute(
        update(Attempt)
        .where(col(Attempt.job_id) == held.job.id, col(Attempt.number) == held.job.attempts)
        .values(ended_at=now, status=JobOutcome.ERROR, error=error.to_json())
    )
    why = f"attempt {held.job.attempts}: {error.message}"
    note_change(session, "job", held.job.id, held.job.state, JobState.SUBMITTED, "system", now, why)
    if held.device.id is not None:
        release_lease(session, held.device.id, held.job.id, held.fence)


def move(gateway: Gateway, held: Held, old: JobState, new: JobState, look_again_in: float) -> bool:
    """Change the job's state; False when it was not ours, or not in ``old``, any more."""
    now = gateway.clock()
    with open_session(gateway.engine) as session:
        return move_in(session, held, old, new, now, next_drive_at=now + look_again_in)


def move_in(session: Session, held: Held, old: JobState, new: JobState, now: float, **values: object) -> bool:
    """As :func:`move`, in a transaction of the caller's, with further ``values`` for the row."""
    moved = session.execute(
        update(Job)
        .where(col(Job.id) == held.job.id, col(Job.fence) == held.fence, col(Job.state) == old)
        .values(state=new, **values)
        .returning(col(Job.id))
    ).scalar_one_or_none()
    if moved is not None:
        note_change(session, "job", held.job.id, old, new, "system", now)
    return moved is not None


def end(session: Session, job: Job, device: Device, fence: int, outcome: JobOutcome, error: EdgematrixError | None, now: float) -> None:
    """Finish the job and its attempt under the fence, once; the lease stays until the device is clean."""
    record = error.to_json() if error else None
    ended = session.execute(
        update(Job)
        .where(col(Job.id) == job.id, col(Job.fence) == fence, col(Job.state) != JobState.FINISHED)
        .values(state=JobState.FINISHED, outcome=outcome, error=record, finished_at=now, next_drive_at=now, waiting_for=None)
        .returning(col(Job.id))
    ).scalar_one_or_none()
    if ended is not None:
        session.execute(
            update(Attempt)
            .where(col(Attempt.job_id) == job.id, col(Attempt.number) == job.attempts)
            .values(ended_at=now, status=outcome, error=record)
        )
        note_change(session, "job", job.id, job.state, JobState.FINISHED, "system", now, error.message if error else str(outcome))
