"""``drive`` with the real agent over a wire that dies or fails on demand: nothing is lost, doubled, or written under a stale fence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from agent.errors import DeviceUnreachable
from orchestrator.dispatch.drive import drive
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.health import check_device
from orchestrator.dispatch.schedule import tick
from orchestrator.domain.states import DeviceHealth, JobOutcome, JobState
from orchestrator.service import devices, experiments, submission
from orchestrator.service.context import Context, open_context
from orchestrator.store.database import read_session, session
from orchestrator.store.tables import Attempt, Device, Job, Result
from orchestrator.transports import CommandResult, LocalTransport, Transport
from orchestrator.worker.settings import Settings
from tests.integration.running import AGENT_PYTHON, DIGITS, variant, write_spec

DEADLINE_SECS = 120.0


class Killed(BaseException):
    """Stands for ``kill -9`` of the worker: no handler of ours sees it."""


class Wire(Transport):
    """This computer, over a wire that calls ``on_call`` before each use."""

    def __init__(self) -> None:
        self._real = LocalTransport()
        self.calls = 0
        self.on_call: Callable[[str, int], None] = lambda name, count: None

    def _count(self, name: str) -> None:
        self.calls += 1
        self.on_call(name, self.calls)

    def run(self, argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        self._count("run")
        return self._real.run(argv, timeout_secs=timeout_secs, max_output_bytes=max_output_bytes)

    def put(self, source: Path, target: str) -> None:
        self._count("put")
        self._real.put(source, target)

    def put_bytes(self, data: bytes, target: str) -> None:
        self._count("put_bytes")
        self._real.put_bytes(data, target)

    def read_from(self, path: str, offset: int, max_bytes: int) -> bytes | None:
        self._count("read_from")
        return self._real.read_from(path, offset, max_bytes)

    def size_of(self, path: str) -> int | None:
        self._count("size_of")
        return self._real.size_of(path)

    def close(self) -> None:
        self._real.close()


class Bench:
    """One device, one submitted experiment, and a worker's part played step by step."""

    def __init__(self, context: Context, wire: Wire) -> None:
        self.context, self.wire = context, wire
        self.skew_secs = 0.0

    def now(self) -> float:
        return time.time() + self.skew_secs

    def gateway(self) -> Gateway:
        """A new worker process, as after a restart: it knows nothing but what SQL and the device tell."""
        made = self.context.gateway()
        made.agent_for = self._agent_for(made)  # type: ignore[method-assign]
        return made

    def _agent_for(self, gateway: Gateway) -> Any:
        real = gateway.agent_for

        def agent_for(device: Device, interpreter: list[str]) -> Any:
            agent = real(device, interpreter)
            agent.transport = self.wire
            return agent

        return agent_for

    def submit(self, **limits: int) -> str:
        folder = self.context.settings.home
        spec = write_spec(folder, [variant("fp32", DIGITS / "onnx_fp32.onnx")], limits={"timeout_secs": 60, "max_attempts": 3} | limits)
        self.experiment = submission.submit(self.context, spec).experiment_id
        return f"{self.experiment}-000001"

    def tick(self) -> list[tuple[str, int]]:
        """One tick of the scheduler; return what it nudges. A check that it asks for is made at once."""
        nudges: list[tuple[str, int]] = []
        checks: list[str] = []
        tick(
            self.context.engine,
            self.now(),
            lambda gateway, job, fence: nudges.append((job, fence)),
            lambda gateway, name: checks.append(name),
        )
        for name in checks:
            check_device(self.gateway(), name)
        return nudges

    def lease(self) -> tuple[str, int]:
        return self.until(lambda: next(iter(self.tick()), None))

    def job(self, job_id: str) -> Job:
        with read_session(self.context.engine) as opened:
            return opened.get_one(Job, job_id)

    def drive_until(self, job_id: str, *states: JobState) -> Job:
        """Nudge as the scheduler would until the job is in one of the states."""

        def look() -> Job | None:
            job = self.job(job_id)
            if job.state in states:
                return job
            for nudged, fence in self.tick() or ([(job_id, job.fence)] if job.fence is not None else []):
                drive(self.gateway(), nudged, fence)
            return None

        return self.until(look)

    def drive_until_free(self, job_id: str) -> Job:
        job = self.drive_until(job_id, JobState.FINISHED)

        def freed() -> bool | None:
            with read_session(self.context.engine) as opened:
                device = opened.exec(select(Device)).one()
            if device.lease_job_id is None:
                return True
            drive(self.gateway(), job_id, device.fence)
            return None

        self.until(freed)
        return job

    def until(self, look: Callable[[], Any]) -> Any:
        end = time.monotonic() + DEADLINE_SECS
        while time.monotonic() < end:
            found = look()
            if found is not None:
                return found
            time.sleep(0.05)
        raise AssertionError("did not happen")

    def counts(self, job_id: str) -> tuple[int, int]:
        """How many attempts and results a job has."""
        with read_session(self.context.engine) as opened:
            attempts = len(opened.exec(select(Attempt).where(col(Attempt.job_id) == job_id)).all())
            results = len(opened.exec(select(Result).where(col(Result.job_id) == job_id)).all())
        return attempts, results

    def assert_device_is_clean(self) -> None:
        assert list((Path(devices_root(self.context)) / "jobs").glob("*")) == []


def devices_root(context: Context) -> str:
    with read_session(context.engine) as opened:
        return opened.exec(select(Device)).one().root


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if not AGENT_PYTHON.exists():
        pytest.skip(f"{AGENT_PYTHON} is not there: make setup")
    context = open_context(Settings(home=tmp_path / "home", agent_python=AGENT_PYTHON))
    devices.ensure_this_computer(context)
    yield Bench(context, Wire())
    context.engine.dispose()


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
    with gateway.job_lock(job_id) as mine:
        assert mine
        uses = bench.wire.calls
        drive(bench.gateway(), job_id, fence)
        assert bench.wire.calls == uses
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED
