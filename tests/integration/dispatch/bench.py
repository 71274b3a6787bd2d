"""One device of this computer, one experiment, and a worker's part played step by step, over a wire that a test can cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlmodel import col, select

from orchestrator.dispatch.drive import drive
from orchestrator.dispatch.gateway import Gateway
from orchestrator.dispatch.health import check_device
from orchestrator.dispatch.schedule import tick
from orchestrator.domain.states import JobState
from orchestrator.service import submission
from orchestrator.service.context import Context
from orchestrator.store.database import read_session
from orchestrator.store.tables import Attempt, Device, Job, Result
from orchestrator.transports import CommandResult, LocalTransport, Transport
from tests.integration.running import DIGITS, variant, write_spec

DEADLINE_SECS = 120.0


class Killed(BaseException):
    """Stands for ``kill -9`` of the worker: no handler of ours sees it."""


class Wire(Transport):
    """This computer, over a wire that calls ``on_call`` before each use and ``on_answer`` before the answer to a command comes."""

    def __init__(self) -> None:
        self._real = LocalTransport()
        self.calls = 0
        self.on_call: Callable[[str, int], None] = lambda name, count: None
        self.on_answer: Callable[[Sequence[str]], None] = lambda argv: None

    def _count(self, name: str) -> None:
        self.calls += 1
        self.on_call(name, self.calls)

    def run(self, argv: Sequence[str], *, timeout_secs: float, max_output_bytes: int) -> CommandResult:
        self._count("run")
        result = self._real.run(argv, timeout_secs=timeout_secs, max_output_bytes=max_output_bytes)
        self.on_answer(argv)
        return result

    def put(self, source: Path, target: str, *, executable: bool = False) -> None:
        self._count("put")
        self._real.put(source, target, executable=executable)

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

    def submit_soak(self, limits: dict[str, Any] | None = None, **soak: Any) -> str:
        """A soak of the digits with short parts; ``soak`` changes it."""
        asked = {"duration_secs": 30, "window_secs": 1, "idle_secs": 0, "cooldown": {"secs": 0}, "probe": {"every_secs": 0.5}} | soak
        spec = write_spec(
            self.context.settings.home,
            [variant("fp32", DIGITS / "onnx_fp32.onnx")],
            scenarios={"soak": asked},
            limits={"timeout_secs": 60, "max_attempts": 1} | (limits or {}),
        )
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
