"""``drive`` with the real agent over a wire that dies or fails on demand: nothing is lost, doubled, or written under a stale fence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import select

from agent.errors import DeviceUnreachable
from orchestrator.dispatch.drive import drive
from orchestrator.domain.states import DeviceHealth, JobOutcome, JobState
from orchestrator.service import experiments
from orchestrator.store.database import read_session, session
from orchestrator.store.tables import Device, Experiment, Job
from tests.integration.dispatch.bench import Bench, Killed, devices_root


def test_a_worker_killed_at_any_use_of_the_wire_loses_nothing_and_doubles_nothing(bench: Bench) -> None:
    killed_at = 0
    while True:
        killed_at += 1
        job_id = bench.submit()
        bench.wire.calls = 0

        def die(name: str, count: int, last: int = killed_at) -> None:
            if count == last:
                raise Killed

        bench.wire.on_call = die
        died = False
        try:
            bench.drive_until_free(job_id)
        except Killed:
            died = True
        bench.wire.on_call = lambda name, count: None
        job = bench.drive_until_free(job_id)
        assert job.outcome == JobOutcome.COMPLETED
        assert bench.counts(job_id) == (1, 1)
        bench.assert_device_is_clean()
        if not died or killed_at > 25:
            break
    # Pushing, starting, looking, collecting and cleaning use the wire more often than this.
    assert killed_at > 8


@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.RUNNING, JobState.CANCELING])
def test_a_stale_fence_writes_nothing_whatever_the_job_is_doing(bench: Bench, state: JobState) -> None:
    job_id = bench.submit()
    _, fence = bench.lease()
    if state != JobState.SCHEDULED:
        bench.drive_until(job_id, JobState.RUNNING)
    if state == JobState.CANCELING:
        experiments.cancel(bench.context, job_id)
    # The lease expires: the next fence goes to the same job.
    bench.skew_secs = 3600.0
    renewed = dict(bench.tick())
    assert renewed[job_id] == fence + 1
    before, uses = bench.job(job_id), bench.wire.calls
    drive(bench.gateway(), job_id, fence)
    assert bench.job(job_id) == before
    assert bench.wire.calls == uses
    bench.skew_secs = 0.0
    with session(bench.context.engine) as opened:
        opened.execute(update(Device).values(lease_expires_at=time.time() + 30))
    job = bench.drive_until_free(job_id)
    assert job.outcome == (JobOutcome.CANCELED if state == JobState.CANCELING else JobOutcome.COMPLETED)
    assert bench.counts(job_id)[1] == (0 if state == JobState.CANCELING else 1)


def test_a_lab_s_fault_is_retried_so_often_and_no_more_and_the_device_must_prove_itself_in_between(bench: Bench) -> None:
    job_id = bench.submit(max_attempts=2)

    def cut(name: str, count: int) -> None:
        job = bench.job(job_id)
        if name == "put_bytes" and job.state == JobState.PREPARING:
            raise DeviceUnreachable("the link is cut", "mend it")

    bench.wire.on_call = cut
    _, fence = bench.lease()
    drive(bench.gateway(), job_id, fence)
    with read_session(bench.context.engine) as opened:
        device = opened.exec(select(Device)).one()
    assert (device.health, device.lease_job_id) == (DeviceHealth.UNKNOWN, None)
    assert bench.job(job_id).state == JobState.SUBMITTED
    job = bench.drive_until(job_id, JobState.FINISHED)
    assert (job.outcome, job.attempts) == (JobOutcome.ERROR, 2)
    assert job.error is not None
    assert (job.error["class"], job.error["code"], job.error["remedy"]) == ("infrastructure", "device_unreachable", "mend it")
    assert bench.counts(job_id) == (2, 0)


def test_a_job_whose_plan_cannot_be_read_ends_and_its_device_is_free_after_a_check(bench: Bench) -> None:
    job_id = bench.submit()
    bench.drive_until(job_id, JobState.RUNNING)
    with session(bench.context.engine) as opened:
        opened.execute(update(Experiment).values(plan={"from": "another version"}))
    job = bench.drive_until_free(job_id)
    assert (job.outcome, job.error is not None and job.error["class"]) == (JobOutcome.ERROR, "bug")
    jobs = Path(devices_root(bench.context)) / "jobs"
    bench.until(lambda: bench.tick() or (True if list(jobs.glob("*")) == [] else None))


def test_a_job_s_own_fault_is_not_retried(bench: Bench) -> None:
    job_id = bench.submit()
    with session(bench.context.engine) as opened:
        opened.execute(update(Job).values(provider="no-such-provider"))
    job = bench.drive_until_free(job_id)
    assert (job.outcome, job.attempts) == (JobOutcome.ERROR, 1)
    assert job.error is not None
    assert job.error["code"] == "provider_unavailable"


def test_a_canceled_job_is_ended_on_the_device_too(bench: Bench) -> None:
    job_id = bench.submit()
    bench.drive_until(job_id, JobState.RUNNING)
    experiments.cancel(bench.context, bench.experiment)
    job = bench.drive_until_free(job_id)
    assert job.outcome == JobOutcome.CANCELED
    bench.assert_device_is_clean()


def test_a_run_that_another_lab_left_on_the_device_is_ended_before_ours_starts(bench: Bench) -> None:
    stranger = bench.submit()
    bench.drive_until(stranger, JobState.RUNNING)
    # The database forgets it, as one that was restored from a backup would.
    with session(bench.context.engine) as opened:
        opened.execute(update(Job).values(state=JobState.FINISHED, outcome=JobOutcome.CANCELED, next_drive_at=None))
        opened.execute(update(Device).values(lease_job_id=None))
    job_id = bench.submit()
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED


def test_the_same_nudge_twice_at_once_drives_once(bench: Bench) -> None:
    job_id = bench.submit()
    _, fence = bench.lease()
    gateway = bench.gateway()
    with gateway.job_lock(job_id, fence) as mine:
        assert mine
        uses = bench.wire.calls
        drive(bench.gateway(), job_id, fence)
        assert bench.wire.calls == uses
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED
