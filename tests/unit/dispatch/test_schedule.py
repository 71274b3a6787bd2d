"""Leases, fences and the scheduler's tick, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlmodel import select

from orchestrator.dispatch.leases import LEASE_SECS, refence_expired, release_lease, renew_lease, take_lease
from orchestrator.dispatch.schedule import RENUDGE_SECS, cancel_jobs, tick
from orchestrator.domain.states import DeviceHealth, JobOutcome, JobState
from orchestrator.store.database import read_session, session
from orchestrator.store.locks import hold_lock
from orchestrator.store.tables import Device, Environment, Experiment, Job, StateChange

NOW = 1_000_000.0


class Lab:
    """Rows of a small lab, and what the scheduler published."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.nudges: list[tuple[str, str, int]] = []
        self.checks: list[tuple[str, str]] = []

    def device(self, name: str, environments: tuple[str, ...] = ("default",), **values: Any) -> int:
        given = {"health": DeviceHealth.GOOD, "labels": {}, "facts": {"machine": "aarch64"}} | values
        with session(self.engine) as opened:
            row = Device(
                name=name, profile="linux-arm64", gateway="g1", transport="local", address={}, root=f"/dev/{name}", added_at=NOW, **given
            )
            opened.add(row)
            opened.flush()
            assert row.id is not None
            for environment in environments:
                opened.add(Environment(device_id=row.id, name=environment, interpreter=["python3"], digest="0", facts={}, checked_at=NOW))
            return row.id

    def experiment(self, name: str, priority: int = 0, submitted_at: float = NOW, max_devices: int | None = None) -> str:
        with session(self.engine) as opened:
            opened.add(
                Experiment(
                    id=name,
                    name=name,
                    spec_file="s",
                    spec_text="",
                    spec_sha256="",
                    plan={},
                    priority=priority,
                    max_devices=max_devices,
                    submitted_at=submitted_at,
                    submitted_by="me",
                    edgematrix_version="0",
                    agent_sha256="",
                )
            )
        return name

    def job(self, experiment: str, number: int, device_id: int | None = None, query: str = "", slot: int = 0) -> str:
        with session(self.engine) as opened:
            row = Job(
                id=f"{experiment}-{number:06d}",
                experiment_id=experiment,
                job_key=f"{number}.{slot}",
                model="m",
                variant="v",
                environment="default",
                num_threads=1,
                provider="default",
                scenario="accuracy",
                repeat=0,
                device_query=query,
                device_id=device_id,
                state=JobState.SUBMITTED,
                submitted_at=NOW,
            )
            opened.add(row)
            return row.id

    def tick(self, now: float = NOW) -> list[tuple[str, int]]:
        """One tick; return what it published, as (job, fence)."""
        self.nudges.clear()
        tick(self.engine, now, lambda *nudge: self.nudges.append(nudge), lambda *check: self.checks.append(check))
        return [(job_id, fence) for _, job_id, fence in self.nudges]

    def get(self, job_id: str) -> Job:
        with read_session(self.engine) as opened:
            return opened.get_one(Job, job_id)

    def held_by(self, device_id: int) -> str | None:
        with read_session(self.engine) as opened:
            return opened.get_one(Device, device_id).lease_job_id

    def finish(self, job_id: str) -> None:
        """What a drive does at the end of a job."""
        with session(self.engine) as opened:
            job = opened.get_one(Job, job_id)
            assert job.device_id is not None
            assert job.fence is not None
            assert release_lease(opened, job.device_id, job_id, job.fence)
            job.state, job.outcome, job.next_drive_at = JobState.FINISHED, JobOutcome.COMPLETED, None
            opened.add(job)


@pytest.fixture
def lab(database: Engine) -> Lab:
    return Lab(database)


def test_a_device_is_leased_to_one_job_at_a_time(lab: Lab) -> None:
    device, experiment = lab.device("pi"), lab.experiment("e1")
    first, second = lab.job(experiment, 1, device), lab.job(experiment, 2, device)
    assert lab.tick() == [(first, 1)]
    assert lab.tick(NOW + 1) == []
    with session(lab.engine) as opened:
        assert take_lease(opened, device, second, NOW) is None
    lab.finish(first)
    assert lab.tick(NOW + 2) == [(second, 2)]


def test_a_job_that_was_canceled_meanwhile_gets_no_lease_and_keeps_no_device(lab: Lab) -> None:
    device, experiment = lab.device("pi"), lab.experiment("e1")
    job = lab.job(experiment, 1, device)
    with session(lab.engine) as opened:
        assert cancel_jobs(opened, experiment, None, "me", NOW) == 1
        assert take_lease(opened, device, job, NOW) is None
    assert lab.held_by(device) is None
    assert lab.get(job).outcome == JobOutcome.CANCELED


def test_an_expired_lease_goes_to_the_same_job_under_a_higher_fence_and_the_old_fence_is_worthless(lab: Lab) -> None:
    device, experiment = lab.device("pi"), lab.experiment("e1")
    job = lab.job(experiment, 1, device)
    lab.tick()
    assert lab.tick(NOW + LEASE_SECS + 1) == [(job, 2)]
    assert lab.held_by(device) == job
    with session(lab.engine) as opened:
        assert not renew_lease(opened, device, job, 1, NOW)
        assert not release_lease(opened, device, job, 1)
        assert renew_lease(opened, device, job, 2, NOW + LEASE_SECS)
        assert refence_expired(opened, NOW + LEASE_SECS + 1) == []


def test_a_gateway_that_is_away_for_long_is_told_once_in_the_record_and_again_when_it_was_back(lab: Lab) -> None:
    device, experiment = lab.device("pi"), lab.experiment("e1")
    job = lab.job(experiment, 1, device)
    lab.tick()
    for minute in range(1, 4):
        assert lab.tick(NOW + 60 * minute) == [(job, minute + 1)]
    assert _silences(lab) == 1
    with session(lab.engine) as opened:
        row = opened.get_one(Job, job)
        row.progress = {"seen_at": NOW + 200}
        opened.add(row)
    lab.tick(NOW + 300)
    assert _silences(lab) == 2


def _silences(lab: Lab) -> int:
    with read_session(lab.engine) as opened:
        return len(opened.exec(select(StateChange).where(StateChange.subject == "device")).all())


def test_a_nudge_that_nobody_answers_is_sent_again_and_not_at_every_tick(lab: Lab) -> None:
    device, experiment = lab.device("pi"), lab.experiment("e1")
    job = lab.job(experiment, 1, device)
    assert lab.tick() == [(job, 1)]
    assert lab.tick(NOW + RENUDGE_SECS / 2) == []
    assert lab.tick(NOW + RENUDGE_SECS + 1) == [(job, 1)]


def test_priority_goes_before_share_and_share_before_age(lab: Lab) -> None:
    devices = [lab.device(f"pi{number}") for number in range(4)]
    old, young, urgent = lab.experiment("old"), lab.experiment("young", submitted_at=NOW + 10), lab.experiment("urgent", 5, NOW + 20)
    for number, device in enumerate(devices):
        lab.job(old, number, device)
        lab.job(young, number, device)
    lab.job(urgent, 0, devices[0])
    started = [job_id.split("-")[0] for job_id, _ in lab.tick()]
    # The urgent one first; then the older of two that hold nothing, and from then on whoever holds less.
    assert started == ["urgent", "old", "young", "old"]


def test_an_experiment_never_holds_more_devices_than_it_may_and_others_get_the_rest(lab: Lab) -> None:
    devices = [lab.device(f"pi{number}") for number in range(4)]
    capped, other = lab.experiment("capped", priority=5, max_devices=2), lab.experiment("other")
    for number, device in enumerate(devices):
        lab.job(capped, number, device)
        lab.job(other, number, device)
    started = [job_id for job_id, _ in lab.tick()]
    assert [job_id.split("-")[0] for job_id in started] == ["capped", "capped", "other", "other"]
    lab.finish(started[2])
    assert [job_id.split("-")[0] for job_id, _ in lab.tick(NOW + 1)] == []
    # One that has ended and is still being cleaned up after holds its device too.
    with session(lab.engine) as opened:
        job = opened.get_one(Job, started[0])
        job.state, job.outcome = JobState.FINISHED, JobOutcome.COMPLETED
        opened.add(job)
    assert lab.tick(NOW + 2) == []
    lab.finish(started[0])
    assert [job_id for job_id, _ in lab.tick(NOW + 3)] == ["other-000000", "capped-000002"]


def test_hundreds_of_idle_devices_get_their_first_jobs_within_a_few_ticks_and_few_statements(lab: Lab) -> None:
    devices = [lab.device(f"pi{number}") for number in range(70)]
    experiment = lab.experiment("e1")
    jobs = [lab.job(experiment, number, device) for number, device in enumerate(devices)]
    first = tick(lab.engine, NOW, lambda *nudge: lab.nudges.append(nudge), lambda *check: None)
    assert (first.started, first.more) == (64, True)
    second = tick(lab.engine, NOW, lambda *nudge: lab.nudges.append(nudge), lambda *check: None)
    assert (second.started, second.more) == (6, False)
    assert sorted(job_id for _, job_id, _ in lab.nudges) == jobs
    # With nothing to do, what a tick costs does not grow with the devices and jobs that there are.
    statements: list[str] = []
    event.listen(lab.engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    lab.tick(NOW + 1)
    assert len(statements) <= 15


def test_an_any_job_goes_to_whichever_matching_device_is_free_and_has_the_environment(lab: Lab) -> None:
    lab.device("wrong", labels={"room": "b"})
    lab.device("bare", environments=(), labels={"room": "a"})
    free = lab.device("free", labels={"room": "a"})
    job = lab.job(lab.experiment("e1"), 1, query="label.room == 'a'")
    assert lab.tick() == [(job, 1)]
    assert lab.get(job).device_id == free


def test_the_two_jobs_of_an_any_demand_go_to_two_devices(lab: Lab) -> None:
    one = lab.device("one")
    experiment = lab.experiment("e1")
    jobs = [lab.job(experiment, number, query="all", slot=number) for number in range(2)]
    assert lab.tick() == [(jobs[0], 1)]
    lab.finish(jobs[0])
    assert lab.tick(NOW + 1) == []
    two = lab.device("two")
    assert lab.tick(NOW + 2) == [(jobs[1], 1)]
    assert {lab.get(job).device_id for job in jobs} == {one, two}


@pytest.mark.parametrize("health", [DeviceHealth.BAD, DeviceHealth.UNKNOWN, DeviceHealth.MAINTENANCE, DeviceHealth.RETIRED])
def test_a_device_that_is_not_healthy_gets_no_job(lab: Lab, health: DeviceHealth) -> None:
    lab.job(lab.experiment("e1"), 1, lab.device("pi", health=health))
    assert lab.tick() == []


def test_a_device_of_unknown_health_is_checked_once_and_again_when_no_answer_comes(lab: Lab) -> None:
    lab.device("pi", health=DeviceHealth.UNKNOWN)
    lab.tick()
    lab.tick(NOW + 1)
    assert lab.checks == [("g1", "pi")]
    lab.tick(NOW + 10 * RENUDGE_SECS)
    assert lab.checks == [("g1", "pi")] * 2


def test_a_canceled_experiment_ends_its_waiting_jobs_and_tells_the_running_one_to_stop(lab: Lab) -> None:
    device, experiment = lab.device("pi"), lab.experiment("e1")
    running, waiting = lab.job(experiment, 1, device), lab.job(experiment, 2, device)
    lab.tick()
    with session(lab.engine) as opened:
        row = opened.get_one(Experiment, experiment)
        row.cancel_requested_by = "ada"
        opened.add(row)
    assert lab.tick(NOW + 1) == [(running, 1)]
    assert lab.get(running).state == JobState.CANCELING
    assert (lab.get(waiting).state, lab.get(waiting).outcome) == (JobState.FINISHED, JobOutcome.CANCELED)
    with read_session(lab.engine) as opened:
        actors = {change.actor for change in opened.exec(select(StateChange).where(StateChange.why == "canceled")).all()}
    assert actors == {"ada"}


def test_an_experiment_is_closed_when_its_last_job_has_ended(lab: Lab) -> None:
    device, experiment = lab.device("pi"), lab.experiment("e1")
    job = lab.job(experiment, 1, device)
    lab.tick()
    lab.finish(job)
    lab.tick(NOW + 5)
    with read_session(lab.engine) as opened:
        assert opened.get_one(Experiment, experiment).finished_at == NOW + 5


def test_a_second_scheduler_waits_until_the_first_falls_silent(lab: Lab) -> None:
    assert hold_lock(lab.engine, "scheduler", "a", NOW, 5.0)
    assert not hold_lock(lab.engine, "scheduler", "b", NOW + 4, 5.0)
    assert hold_lock(lab.engine, "scheduler", "a", NOW + 4, 5.0)
    assert hold_lock(lab.engine, "scheduler", "b", NOW + 10, 5.0)
    assert not hold_lock(lab.engine, "scheduler", "a", NOW + 11, 5.0)
