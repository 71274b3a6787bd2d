"""A store with soaks in it: specs really submitted, and runs of a simulated board in the place of a device's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlmodel import col, select

from agent import protocol
from orchestrator.analysis.measure import ANALYSIS_VERSION
from orchestrator.dispatch.measuring import measure_streams
from orchestrator.domain.plan import Plan
from orchestrator.domain.states import DeviceHealth, Emulation, JobOutcome, JobState, Scenario
from orchestrator.service import submission
from orchestrator.service.context import Context, open_context
from orchestrator.store.database import read_session, session
from orchestrator.store.results import insert_result
from orchestrator.store.tables import Attempt, Device, Environment, Experiment, Job
from orchestrator.store.traces import publish_trace
from orchestrator.worker.settings import Settings
from tests.integration.running import DIGITS
from tests.unit.analysis.builders import ORIGIN_NS
from tests.unit.analysis.soaks import ZERO_SECS, Bench, Board, Soak, make_soak

NOW = 1_790_000_000.0
BOTH = {"runtimes": {"onnx": {"available": True, "version": "1.23.2"}, "tflite": {"available": True, "version": "2.14.0"}}}

#: A board that throttles in a soak of two minutes.
HOT = Board(trip_c=60.0)


@dataclass
class SoakLab:
    """``add_device``, ``submit`` a spec, then ``measure`` its jobs as boards would have answered them."""

    context: Context
    folder: Path
    _fence: int = 0
    conditions: dict[str, Any] = field(default_factory=dict)

    def add_device(self, name: str, profile: str = "linux-x86_64", emulated: Emulation = Emulation.NONE) -> None:
        with session(self.context.engine) as opened:
            device = Device(
                name=name,
                profile=profile,
                gateway="local",
                transport="local",
                address={},
                root=f"/dev-root/{name}",
                labels={},
                emulated=emulated.value,
                health=DeviceHealth.GOOD,
                facts={"machine": "x86_64"},
                added_at=NOW,
            )
            opened.add(device)
            opened.flush()
            assert device.id is not None
            opened.add(Environment(device_id=device.id, name="default", interpreter=["python3"], digest="e", facts=BOTH, checked_at=NOW))

    def write_spec(self, devices: Sequence[str] = ("bench",), repeats: int = 1, **soak: Any) -> Path:
        """A soak of the digits over these devices."""
        content = {
            "format": 1,
            "name": "hot-digits",
            "models": [
                {
                    "name": "digits-cnn",
                    "task": {"kind": "classification"},
                    "dataset": {"file": str(DIGITS / "digits_test.npz"), "inputs": "x", "labels": "y", "slices": ["ink"], "limit": 50},
                    "reference": "onnx-fp32",
                    "variants": [
                        {"name": "onnx-fp32", "file": str(DIGITS / "onnx_fp32.onnx"), "runtime": "onnx", "precision": "fp32"},
                    ],
                }
            ],
            "devices": [{"each": f"name == '{name}'"} for name in devices],
            "scenarios": {"soak": {"repeats": repeats, "duration_secs": 120, "ambient": {"stated_c": 25}, "window_secs": 10, **soak}},
        }
        path = self.folder / "spec.yaml"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def submit(self, spec: Path) -> str:
        return submission.submit(self.context, spec).experiment_id

    def jobs(self, experiment_id: str) -> list[str]:
        with read_session(self.context.engine) as opened:
            return list(opened.exec(select(Job.id).where(col(Job.experiment_id) == experiment_id).order_by(col(Job.id))).all())

    def measure(self, job_id: str, board: Board = HOT, seed: int = 0, markers: Sequence[float] = (), **conditions: Any) -> Soak:
        """Let a board of these constants have run the job, with marker loads that began so many seconds after the runner."""
        made = self.simulated(job_id, board, seed, **conditions)
        made.streams["events"] = _with_markers(made.streams["events"], markers)
        self._publish(job_id, made)
        return made

    def measure_all(self, experiment_id: str, board: Board = HOT, **conditions: Any) -> None:
        for seed, job_id in enumerate(self.jobs(experiment_id)):
            self.measure(job_id, board, seed, **conditions)

    def simulated(self, job_id: str, board: Board, seed: int, **conditions: Any) -> Soak:
        with read_session(self.context.engine) as opened:
            job = opened.get_one(Job, job_id)
            soak = Plan.model_validate(opened.get_one(Experiment, job.experiment_id).plan).scenarios[Scenario.SOAK].soak
        assert soak is not None
        made = make_soak(Bench(board, duration=soak.duration_secs, seed=seed, noise_c=0.05))
        facts = {**made.outcome.conditions, **self.conditions, **conditions}
        return replace(made, settings=soak, outcome=replace(made.outcome, job_id=job_id, conditions=facts))

    def lose(self, job_id: str, error: dict[str, Any], until_secs: float) -> None:
        """Let the only attempt of a job have been lost after so many seconds; what it recorded until then is kept."""
        made = self.simulated(job_id, HOT, 0)
        streams = {name: _until(name, columns, until_secs) for name, columns in made.streams.items()}
        traces = {name: publish_trace(self.context.artifacts, columns).model_dump() for name, columns in streams.items()}
        with session(self.context.engine) as opened:
            job = self._finished(opened, job_id, JobOutcome.ERROR, error)
            message = json.loads(protocol.to_json(made.outcome))
            opened.add(self._attempt(job, message, "lost", error, traces))

    def _publish(self, job_id: str, made: Soak) -> None:
        with session(self.context.engine) as opened:
            job = self._finished(opened, job_id, JobOutcome.COMPLETED, None)
            attempt = self._attempt(job, json.loads(protocol.to_json(made.outcome)), "completed", None, None)
            opened.add(attempt)
            opened.flush()
            device = opened.get_one(Device, job.device_id)
            plan = Plan.model_validate(opened.get_one(Experiment, job.experiment_id).plan)
            opened.expunge_all()
        measured = measure_streams(self.context.engine, self.context.artifacts, plan, job, attempt, device, made.outcome, made.streams)
        with session(self.context.engine) as opened:
            insert_result(
                opened,
                job_id=job_id,
                attempt=1,
                metrics=measured.metrics,
                validity=measured.validity,
                traces={name: publish_trace(self.context.artifacts, columns) for name, columns in made.streams.items()},
                analysis_version=ANALYSIS_VERSION,
                now=NOW + 300,
            )

    def _finished(self, opened: Any, job_id: str, outcome: JobOutcome, error: dict[str, Any] | None) -> Job:
        self._fence += 1
        job: Job = opened.get_one(Job, job_id)
        job.state, job.outcome, job.error, job.fence, job.attempts = JobState.FINISHED, outcome, error, self._fence, 1
        job.finished_at = NOW + 300
        opened.add(job)
        return job

    def _attempt(self, job: Job, message: dict[str, Any], status: str, error: Any, traces: Any) -> Attempt:
        assert job.device_id is not None
        return Attempt(
            job_id=job.id,
            number=1,
            device_id=job.device_id,
            fence=self._fence,
            started_at=NOW,
            ended_at=NOW + 300,
            status=status,
            error=error,
            outcome_message=message,
            conditions_key="c" * 64,
            clock_offset_secs=0.0,
            clock_offset_uncertainty_secs=0.001,
            traces=traces,
        )


def _with_markers(events: dict[str, np.ndarray[Any, Any]], starts: Sequence[float]) -> dict[str, np.ndarray[Any, Any]]:
    """Add square waves: three seconds of load with a second of rest after each."""
    edges = [(start + at, 1.0 - at % 2) for start in starts for at in range(6)]
    code = protocol.EVENT_CODES.index("marker")
    added = {
        "time_ns": np.array([ORIGIN_NS + round(at * 1e9) for at, _ in edges], dtype=np.uint64),
        "code": np.full(len(edges), code, dtype=np.uint16),
        "value": np.array([value for _, value in edges], dtype=np.float64),
    }
    joined = {name: np.concatenate([events[name], added[name]]) for name in events}
    order = np.argsort(joined["time_ns"], kind="stable")
    return {name: column[order] for name, column in joined.items()}


def _until(name: str, columns: dict[str, np.ndarray[Any, Any]], secs: float) -> dict[str, np.ndarray[Any, Any]]:
    limit = round((ZERO_SECS + secs) * 1e9)
    time = columns["start_ns"] if "start_ns" in columns else columns["time_ns"] - np.uint64(ORIGIN_NS)
    return {key: column[time.astype(np.int64) < limit] for key, column in columns.items()}


def make_soak_lab(home: Path, folder: Path) -> SoakLab:
    context = open_context(Settings(home=home))
    return SoakLab(Context(context.settings, context.engine, context.artifacts, "tester", lambda: NOW + 400), folder)
