"""A drive that was frozen past its lease, and cancels at every moment of a job's life."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from agent.errors import DeviceUnreachable
from orchestrator.dispatch import drive as drive_module
from orchestrator.dispatch.drive import drive
from orchestrator.dispatch.health import check_device
from orchestrator.dispatch.measuring import remeasure_against_reference
from orchestrator.domain.plan import Plan
from orchestrator.domain.states import DeviceHealth, JobOutcome, JobState
from orchestrator.service import devices, experiments, submission
from orchestrator.store.database import read_session, session
from orchestrator.store.tables import Attempt, Device, Experiment, Job, MetricRow, Result, StateChange
from tests.integration.dispatch.bench import Bench, Killed, devices_root
from tests.integration.running import DIGITS, stopped, variant, write_spec


def everything(bench: Bench) -> list[Any]:
    """Every row that a drive may write, as plain values."""
    with read_session(bench.context.engine) as opened:
        return [row.model_dump() for table in (Job, Attempt, Device, Result, StateChange) for row in opened.exec(select(table)).all()]


def take_over(bench: Bench, job_id: str) -> None:
    """What the scheduler does when a lease expires; the device has not heard of the new fence yet."""
    with session(bench.context.engine) as opened:
        opened.execute(update(Device).values(fence=col(Device.fence) + 1))
        opened.execute(update(Job).where(col(Job.id) == job_id).values(fence=col(Job.fence) + 1))


def owner(bench: Bench) -> tuple[str | None, int]:
    with read_session(bench.context.engine) as opened:
        device = opened.exec(select(Device)).one()
    return device.lease_job_id, device.fence


def wait_for_outcome(bench: Bench) -> None:
    jobs = Path(devices_root(bench.context)) / "jobs"
    bench.until(lambda: next(jobs.glob("*/outcome.json"), None))


@pytest.mark.parametrize("then", ["it goes on", "its call fails"])
@pytest.mark.parametrize("begin", [JobState.SCHEDULED, JobState.RUNNING, JobState.CANCELING])
def test_a_drive_that_was_overtaken_at_any_use_of_the_wire_writes_nothing_more(bench: Bench, begin: JobState, then: str) -> None:
    job_id = bench.submit()
    bench.lease()
    if begin != JobState.SCHEDULED:
        bench.drive_until(job_id, JobState.RUNNING)
        wait_for_outcome(bench)
    if begin == JobState.CANCELING:
        experiments.cancel(bench.context, job_id)
    ends = (JobState.RUNNING, JobState.FINISHED) if begin == JobState.SCHEDULED else ()
    overtaken_at = 0
    while owner(bench)[0] == job_id and bench.job(job_id).state not in ends:
        overtaken_at += 1
        seen: list[Any] = []
        bench.wire.calls = 0

        def overtake(name: str, count: int, at: int = overtaken_at, seen: list[Any] = seen) -> None:
            if count == at:
                take_over(bench, job_id)
                seen.extend(everything(bench))
                if then == "its call fails":
                    raise DeviceUnreachable("the link is cut", "mend it")

        bench.wire.on_call = overtake
        drive(bench.gateway(), job_id, owner(bench)[1])
        if seen:
            assert everything(bench) == seen
    bench.wire.on_call = lambda name, count: None
    assert overtaken_at > 3
    job = bench.drive_until_free(job_id)
    assert job.outcome == (JobOutcome.CANCELED if begin == JobState.CANCELING else JobOutcome.COMPLETED)
    # One attempt: the one who was overtaken did not cancel the other's run either.
    assert bench.counts(job_id) == (1, 0 if begin == JobState.CANCELING else 1)
    bench.assert_device_is_clean()


def test_what_a_drive_that_woke_up_too_late_left_on_the_device_is_removed_by_a_check(bench: Bench) -> None:
    job_id = bench.submit()
    bench.drive_until(job_id, JobState.RUNNING)

    def freeze(name: str, count: int) -> None:
        # It marks the run as read; when that goes on, the run has been collected and cleaned under the next fence.
        if name == "put_bytes":
            bench.wire.on_call = lambda name, count: None
            take_over(bench, job_id)
            bench.drive_until_free(job_id)
            bench.assert_device_is_clean()

    bench.wire.on_call = freeze
    drive(bench.gateway(), job_id, owner(bench)[1])
    jobs = Path(devices_root(bench.context)) / "jobs"
    assert list(jobs.glob("*")) != [], "files are not fenced"
    bench.until(lambda: bench.tick() or (True if list(jobs.glob("*")) == [] else None))
    assert bench.counts(job_id) == (1, 1)


def test_a_start_whose_answer_was_lost_is_picked_up_however_long_the_link_is_down(bench: Bench) -> None:
    job_id = bench.submit()
    _, fence = bench.lease()

    def cut(*call: Any) -> None:
        raise DeviceUnreachable("the link is cut", "mend it")

    def lose(argv: Any) -> None:
        bench.wire.on_call = cut
        cut()

    bench.wire.on_answer = lose
    drive(bench.gateway(), job_id, fence)
    # Longer than a device that was never reached is waited for.
    seen_long_ago(bench, job_id, 100.0)
    drive(bench.gateway(), job_id, fence)
    assert bench.job(job_id).state == JobState.PREPARING
    bench.wire.on_call, bench.wire.on_answer = lambda name, count: None, lambda argv: None
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED
    assert bench.counts(job_id) == (1, 1)
    record = (Path(devices_root(bench.context)) / "custody.log").read_text()
    assert record.count('"taken"') == record.count('"released"') == 1


def seen_long_ago(bench: Bench, job_id: str, secs: float) -> None:
    seen = {**(bench.job(job_id).progress or {}), "seen_at": bench.now() - secs}
    with session(bench.context.engine) as opened:
        opened.execute(update(Job).where(col(Job.id) == job_id).values(progress=seen))


def test_a_nudge_for_another_gateways_device_is_refused(bench: Bench) -> None:
    job_id = bench.submit()
    _, fence = bench.lease()
    with session(bench.context.engine) as opened:
        opened.execute(update(Device).values(gateway="another"))
    before = everything(bench)
    drive(bench.gateway(), job_id, fence)
    assert (everything(bench), bench.wire.calls) == (before, 0)


def kill_at(bench: Bench, job_id: str, state: JobState, call: str) -> None:
    """Let a worker die at the first such call that it makes while the job is in the state."""

    def die(name: str, count: int) -> None:
        if name == call and bench.job(job_id).state == state:
            raise Killed

    bench.wire.on_call = die
    with pytest.raises(Killed):
        bench.drive_until_free(job_id)
    bench.wire.on_call = lambda name, count: None


@pytest.mark.parametrize(("state", "call"), [(JobState.SCHEDULED, ""), (JobState.PREPARING, "put_bytes"), (JobState.RUNNING, "read_from")])
def test_a_cancel_ends_a_job_wherever_it_is_on_its_way(bench: Bench, state: JobState, call: str) -> None:
    job_id = bench.submit()
    if call:
        kill_at(bench, job_id, state, call)
    else:
        bench.lease()
    assert bench.job(job_id).state == state
    assert experiments.cancel(bench.context, job_id) == 1
    job = bench.drive_until_free(job_id)
    assert (job.outcome, job.error) == (JobOutcome.CANCELED, None)
    assert bench.counts(job_id) == (0 if state == JobState.SCHEDULED else 1, 0)
    bench.assert_device_is_clean()


@pytest.mark.parametrize("state", [JobState.COLLECTING, JobState.FINISHED])
def test_a_cancel_that_comes_after_the_measurement_takes_nothing_away(bench: Bench, state: JobState) -> None:
    job_id = bench.submit()
    kill_at(bench, job_id, state, "read_from" if state == JobState.COLLECTING else "run")
    assert experiments.cancel(bench.context, job_id) == 0
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED
    assert bench.counts(job_id) == (1, 1)
    bench.assert_device_is_clean()


def test_a_cancel_of_a_job_whose_device_is_gone_ends_it_and_the_device_must_prove_itself(bench: Bench) -> None:
    job_id = bench.submit()
    bench.drive_until(job_id, JobState.RUNNING)

    def cut(name: str, count: int) -> None:
        raise DeviceUnreachable("the link is cut", "mend it")

    bench.wire.on_call = cut
    experiments.cancel(bench.context, job_id)
    drive(bench.gateway(), job_id, owner(bench)[1])
    assert bench.job(job_id).outcome == JobOutcome.CANCELED
    with read_session(bench.context.engine) as opened:
        device = opened.exec(select(Device)).one()
    assert (device.health, device.lease_job_id) == (DeviceHealth.UNKNOWN, None)
    bench.wire.on_call = lambda name, count: None
    # The check that follows finds the run and ends it.
    jobs = Path(devices_root(bench.context)) / "jobs"

    def clean() -> bool | None:
        check_device(bench.gateway(), devices.THIS_COMPUTER)
        return True if list(jobs.glob("*")) == [] else None

    bench.until(clean)


def test_a_run_that_does_not_end_when_told_to_holds_its_device_only_for_a_while(bench: Bench) -> None:
    job_id = bench.submit()
    bench.drive_until(job_id, JobState.RUNNING)
    (folder,) = (Path(devices_root(bench.context)) / "jobs").glob("*")
    with stopped(int((folder / "supervisor.lock").read_text())):
        with session(bench.context.engine) as opened:
            opened.execute(update(Job).values(state=JobState.FINISHED, outcome=JobOutcome.CANCELED, finished_at=bench.now()))
        drive(bench.gateway(), job_id, owner(bench)[1])
        assert owner(bench)[0] == job_id, "it gets its time"
        with session(bench.context.engine) as opened:
            opened.execute(update(Job).values(finished_at=bench.now() - 150.0))
        drive(bench.gateway(), job_id, owner(bench)[1])
        with read_session(bench.context.engine) as opened:
            device = opened.exec(select(Device)).one()
        assert (device.health, device.lease_job_id) == (DeviceHealth.UNKNOWN, None)
        assert "is running" in device.health_reason
        # Nobody else's run begins beside it.
        with session(bench.context.engine) as opened:
            opened.execute(update(Device).values(health=DeviceHealth.GOOD, next_check_at=None))
        following = bench.submit()
        _, fence = bench.lease()
        drive(bench.gateway(), following, fence)
        assert bench.job(following).state == JobState.PREPARING
        seen_long_ago(bench, following, 150.0)
        drive(bench.gateway(), following, fence)
        assert bench.job(following).state == JobState.SUBMITTED, "it may run elsewhere"
    assert bench.drive_until_free(following).outcome == JobOutcome.COMPLETED
    bench.assert_device_is_clean()


def tensor_spec(bench: Bench) -> tuple[str, str]:
    """A tensor task whose reference is measured last; return the jobs of the variant and of the reference."""
    spec = write_spec(
        bench.context.settings.home,
        [variant("dynamic", DIGITS / "onnx_dynamic.onnx"), variant("fp32", DIGITS / "onnx_fp32.onnx")],
        model={"reference": "fp32", "task": {"kind": "tensor"}, "dataset": {"file": str(DIGITS / "digits_test.npz"), "inputs": "x"}},
    )
    bench.experiment = submission.submit(bench.context, spec).experiment_id
    return f"{bench.experiment}-000001", f"{bench.experiment}-000002"


def sqnr(bench: Bench, job_id: str) -> MetricRow:
    with read_session(bench.context.engine) as opened:
        return opened.exec(select(MetricRow).where(col(MetricRow.job_id) == job_id, col(MetricRow.name) == "sqnr_db")).one()


def test_a_worker_killed_before_it_compared_with_the_reference_leaves_that_to_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, reference = tensor_spec(bench)
    bench.drive_until_free(candidate)
    assert sqnr(bench, candidate).value is None

    def die(*arguments: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(drive_module, "remeasure_against_reference", die)
        with pytest.raises(Killed):
            bench.drive_until_free(reference)
    assert bench.job(reference).outcome == JobOutcome.COMPLETED
    bench.drive_until_free(reference)
    compared = sqnr(bench, candidate)
    assert compared.value is not None
    assert compared.value > 10
    assert compared.cause is None


def test_a_variant_measured_while_the_reference_ended_is_compared_with_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, reference = tensor_spec(bench)
    # The reference looked for others before this one was there.
    with monkeypatch.context() as patched:
        patched.setattr(drive_module, "remeasure_against_reference", lambda *arguments: None)
        bench.drive_until_free(candidate)
        bench.drive_until_free(reference)
    assert sqnr(bench, candidate).value is None
    with read_session(bench.context.engine) as opened:
        job = opened.get_one(Job, candidate)
        plan = Plan.model_validate(opened.get_one(Experiment, job.experiment_id).plan)
    remeasure_against_reference(bench.context.engine, bench.context.artifacts, plan, job)
    assert sqnr(bench, candidate).value is not None
