"""Several people at one small lab: the same database, each with a name and one clock that tests turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import col, select

from orchestrator.dispatch.schedule import tick
from orchestrator.domain.states import DeviceHealth, JobOutcome, JobState
from orchestrator.service.context import Context
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import read_session, session
from orchestrator.store.tables import Attempt, Device, Environment, Experiment, Job, Reservation, StateChange
from orchestrator.worker.settings import Settings

NOON = 1_795_262_400.0
HOUR = 3600.0


class People:
    """``people["ada"]`` is the context of who is logged in as ada."""

    def __init__(self, engine: Engine, home: Path) -> None:
        self.engine = engine
        self.now = NOON
        self._context = Context(Settings(home=home), engine, ArtifactStore(str(home / "artifacts"), home / "cache"), "", lambda: self.now)
        self.checks: list[str] = []

    def __getitem__(self, name: str) -> Context:
        return replace(self._context, actor=name)

    def add_device(self, name: str = "pi", health: DeviceHealth = DeviceHealth.GOOD) -> int:
        with session(self.engine) as opened:
            row = Device(
                name=name,
                profile="linux-arm64",
                gateway="g1",
                transport="local",
                address={},
                root=f"/dev/{name}",
                labels={},
                facts={"machine": "aarch64"},
                health=health,
                added_at=NOON,
            )
            opened.add(row)
            opened.flush()
            assert row.id is not None
            opened.add(Environment(device_id=row.id, name="default", interpreter=["python3"], digest="0", facts={}, checked_at=NOON))
            return row.id

    def submit(self, person: str, device_id: int, jobs: int = 1) -> list[str]:
        """One experiment of that person for one device; return the ids of its jobs."""
        ids = []
        with session(self.engine) as opened:
            experiment = f"of-{person}-{int(self.now)}"
            values: dict[str, Any] = {"spec_file": "s", "spec_text": "", "spec_sha256": "", "plan": {}, "edgematrix_version": "0"}
            opened.add(Experiment(id=experiment, name=f"{person}'s", submitted_at=self.now, submitted_by=person, agent_sha256="", **values))
            opened.flush()
            for number in range(jobs):
                ids.append(f"{experiment}-{number:06d}")
                job: dict[str, Any] = {"model": "m", "variant": "v", "environment": "default", "num_threads": 1, "provider": "default"}
                opened.add(
                    Job(
                        id=ids[-1],
                        experiment_id=experiment,
                        job_key=str(number),
                        scenario="accuracy",
                        repeat=0,
                        device_query="",
                        device_id=device_id,
                        state=JobState.SUBMITTED,
                        submitted_at=self.now,
                        **job,
                    )
                )
        return ids

    def tick(self) -> list[str]:
        """One tick of the scheduler; return the jobs that it nudges, and keep the devices that it wants checked."""
        nudged: list[str] = []
        tick(self.engine, self.now, lambda gateway, job, fence: nudged.append(job), lambda gateway, name: self.checks.append(name))
        return nudged

    def begin(self, job_id: str) -> None:
        """What a drive writes when it begins an attempt."""
        with session(self.engine) as opened:
            job = opened.get_one(Job, job_id)
            assert job.device_id is not None
            assert job.fence is not None
            job.state, job.attempts = JobState.RUNNING, job.attempts + 1
            attempt = Attempt(job_id=job_id, number=job.attempts, device_id=job.device_id, fence=job.fence, started_at=self.now)
            opened.add_all([job, attempt])

    def finish(self, job_id: str, outcome: JobOutcome = JobOutcome.COMPLETED) -> None:
        """What a drive writes at the end of a job, and its release of the device."""
        with session(self.engine) as opened:
            job = opened.get_one(Job, job_id)
            device = opened.get_one(Device, job.device_id)
            attempt = opened.get_one(Attempt, (job_id, job.attempts))
            job.state, job.outcome, job.finished_at, job.next_drive_at = JobState.FINISHED, outcome, self.now, None
            attempt.ended_at, attempt.status = self.now, outcome
            device.lease_job_id = device.lease_expires_at = None
            opened.add_all([job, attempt, device])

    def job(self, job_id: str) -> Job:
        with read_session(self.engine) as opened:
            return opened.get_one(Job, job_id)

    def device(self, name: str = "pi") -> Device:
        with read_session(self.engine) as opened:
            return opened.exec(select(Device).where(col(Device.name) == name)).one()

    def reservations(self) -> list[Reservation]:
        with read_session(self.engine) as opened:
            return list(opened.exec(select(Reservation).order_by(col(Reservation.id))).all())

    def changes(self, subject: str, subject_id: str) -> list[tuple[str, str, str]]:
        """The record of one subject: what it became, by whom, why."""
        with read_session(self.engine) as opened:
            rows = opened.exec(
                select(StateChange)
                .where(col(StateChange.subject) == subject, col(StateChange.subject_id) == subject_id)
                .order_by(col(StateChange.id))
            ).all()
        return [(row.new, row.actor, row.why) for row in rows]
