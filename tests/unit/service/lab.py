"""A store with experiments in it, built through the product's own tables, artifacts and traces."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agent import protocol
from orchestrator.analysis.measure import ANALYSIS_VERSION, compute
from orchestrator.domain.plan import Plan, PlannedDataset, PlannedInputs, PlannedModel, PlannedTask, PlannedVariant, ScenarioSettings
from orchestrator.domain.results import DatasetInfo, VariantInfo
from orchestrator.domain.states import Emulation, JobOutcome, JobState, Scenario, TaskKind
from orchestrator.service.context import Context, open_context
from orchestrator.store.database import session
from orchestrator.store.results import insert_result
from orchestrator.store.tables import Attempt, Device, Experiment, Job
from orchestrator.store.traces import publish_trace
from orchestrator.worker.settings import Settings

SAMPLE_COUNT = 200
CLASSES = 4
SUBMITTED_AT = 1_790_000_000.0


def labels() -> np.ndarray[Any, Any]:
    return np.arange(SAMPLE_COUNT) % CLASSES


def predictions(wrong: Sequence[int] = ()) -> np.ndarray[Any, Any]:
    """Return the right class of every sample, but for the next one at ``wrong``."""
    found = labels().copy()
    found[list(wrong)] = (found[list(wrong)] + 1) % CLASSES
    return found


@dataclass
class Cell:
    """What one variant did in one place: the classes it answered, its digest salt, and the medians of its latency repeats in ms."""

    variant: str
    classes: np.ndarray[Any, Any]
    environment: str = "default"
    device: str = "bench"
    latencies_ms: Sequence[float] = (1.0, 1.1)
    salt: int = 0
    accuracy_repeats: int = 1
    error: dict[str, Any] | None = None
    outcome: JobOutcome = JobOutcome.COMPLETED
    query_count: int = 2000
    model: str = "cnn"
    changing: bool = False


@dataclass
class Lab:
    """``add_device`` before ``add_experiment``; ids are as given, so that tests can name them."""

    context: Context
    devices: dict[str, int] = field(default_factory=dict)
    _fence: int = 0

    def add_device(self, name: str, emulated: Emulation = Emulation.NONE) -> None:
        with session(self.context.engine) as opened:
            device = Device(
                name=name,
                profile="linux-x86_64",
                gateway="local",
                transport="local",
                address={},
                root=f"/dev-root/{name}",
                labels={},
                emulated=emulated.value,
                health="good",
                facts={},
                added_at=SUBMITTED_AT,
            )
            opened.add(device)
            opened.flush()
            assert device.id is not None
            self.devices[name] = device.id

    def add_experiment(
        self,
        experiment_id: str,
        cells: Sequence[Cell],
        *,
        name: str = "digits",
        reference: str = "fp32",
        notes: Sequence[str] = (),
        age_secs: float = 0.0,
    ) -> None:
        sink = io.BytesIO()
        pq.write_table(pa.table({"label": labels().astype(np.int64)}), sink)
        answers = self.context.artifacts.put_bytes(sink.getvalue(), "answers")
        plan = _plan(cells, reference, answers.sha256, notes)
        submitted_at = SUBMITTED_AT - age_secs
        with session(self.context.engine) as opened:
            opened.add(
                Experiment(
                    id=experiment_id,
                    name=name,
                    spec_file="digits.yaml",
                    spec_text="format: 1\n",
                    spec_sha256="5" * 64,
                    plan=plan.model_dump(mode="json"),
                    submitted_at=submitted_at,
                    submitted_by="tester",
                    finished_at=submitted_at + 60,
                    edgematrix_version="0.1.0",
                    agent_sha256="a" * 64,
                )
            )
        number = 0
        for cell in cells:
            for repeat in range(cell.accuracy_repeats):
                number += 1
                self._add_job(experiment_id, number, cell, Scenario.ACCURACY, repeat, plan, submitted_at)
            for repeat in range(len(cell.latencies_ms)):
                number += 1
                self._add_job(experiment_id, number, cell, Scenario.LATENCY, repeat, plan, submitted_at)

    def _add_job(
        self, experiment_id: str, number: int, cell: Cell, scenario: Scenario, repeat: int, plan: Plan, submitted_at: float
    ) -> None:
        job_id = f"{experiment_id}-{number:03d}"
        self._fence += 1
        measured = cell.outcome is JobOutcome.COMPLETED
        outcome = _outcome(job_id, self._fence)
        streams = _streams(cell, scenario, repeat)
        with session(self.context.engine) as opened:
            opened.add(
                Job(
                    id=job_id,
                    experiment_id=experiment_id,
                    job_key=f"key-{number}",
                    model=cell.model,
                    variant=cell.variant,
                    environment=cell.environment,
                    num_threads=1,
                    provider="default",
                    graph_optimization="all" if cell.variant.startswith(("fp", "onnx")) else None,
                    scenario=scenario.value,
                    repeat=repeat,
                    device_query="all",
                    device_id=self.devices[cell.device],
                    state=JobState.FINISHED.value,
                    outcome=cell.outcome.value,
                    error=cell.error,
                    attempts=1,
                    fence=self._fence,
                    submitted_at=submitted_at,
                    finished_at=submitted_at + 50,
                )
            )
            opened.flush()
            opened.add(
                Attempt(
                    job_id=job_id,
                    number=1,
                    device_id=self.devices[cell.device],
                    fence=self._fence,
                    started_at=submitted_at + 1,
                    ended_at=submitted_at + 50,
                    status=cell.outcome.value,
                    error=cell.error,
                    outcome_message=_as_record(outcome),
                    conditions_key="c" * 64,
                )
            )
            opened.flush()
            if not measured:
                return
            measurement = compute(
                scenario=scenario,
                task=TaskKind.CLASSIFICATION,
                sample_count=SAMPLE_COUNT,
                streams=streams,
                outcome=outcome,
                emulated=self._emulated(opened, cell.device),
                answers={"label": labels()} if plan.models[cell.model].dataset.answers_sha256 else None,
            )
            insert_result(
                opened,
                job_id=job_id,
                attempt=1,
                metrics=measurement.metrics,
                validity=measurement.validity,
                traces={stream: publish_trace(self.context.artifacts, columns) for stream, columns in streams.items()},
                analysis_version=ANALYSIS_VERSION,
                now=submitted_at + 50,
            )

    def _emulated(self, opened: Any, device: str) -> Emulation:
        return Emulation(opened.get_one(Device, self.devices[device]).emulated)


def make_lab(home: Path) -> Lab:
    context = open_context(Settings(home=home))
    return Lab(Context(context.settings, context.engine, context.artifacts, "tester", lambda: SUBMITTED_AT + 100))


def _plan(cells: Sequence[Cell], reference: str, answers_sha256: str, notes: Sequence[str]) -> Plan:
    models = {}
    for model in dict.fromkeys(cell.model for cell in cells):
        variants = {
            name: PlannedVariant(
                info=VariantInfo(
                    model=model,
                    name=name,
                    reference=name == reference,
                    runtime="onnx",
                    precision="fp32" if name == reference else "w8a8",
                    quantization="none",
                    file=f"{name}.onnx",
                    sha256=(name.encode().hex() + "0" * 64)[:64],
                    size_bytes=1000,
                    notes=() if name == reference else tuple(notes),
                )
            )
            for name in dict.fromkeys(cell.variant for cell in cells if cell.model == model)
        }
        models[model] = PlannedModel(
            name=model,
            reference=reference,
            task=PlannedTask(kind=TaskKind.CLASSIFICATION, top_k=1),
            dataset=PlannedDataset(
                info=DatasetInfo(file="digits.npz", sha256="d" * 64, sample_count=SAMPLE_COUNT, class_count=CLASSES),
                inputs=PlannedInputs(sha256="e" * 64, size_bytes=1, sample_count=SAMPLE_COUNT, sample_shape=(8, 8, 1), dtype="float32"),
                answers_sha256=answers_sha256,
            ),
            variants=variants,
        )
    return Plan(models=models, scenarios={Scenario.ACCURACY: ScenarioSettings(), Scenario.LATENCY: ScenarioSettings(repeats=2)})


def _streams(cell: Cell, scenario: Scenario, repeat: int) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    if scenario is Scenario.ACCURACY:
        salt = cell.salt + (repeat if cell.changing else 0)
        index = np.arange(SAMPLE_COUNT, dtype="<u4")
        return {
            protocol.SAMPLES: {
                "sample": index,
                "digest": (index.astype("<u8") << np.uint64(20)) + cell.classes.astype("<u8") + np.uint64(salt * 1000),
                "finite": np.ones(SAMPLE_COUNT, "u1"),
                "confidence": np.full(SAMPLE_COUNT, 0.9, "<f4"),
                "class_0": cell.classes.astype("<i4"),
                "score_0": np.full(SAMPLE_COUNT, 0.9, "<f4"),
            }
        }
    # Exactly the median asked for, with a spread small enough to count as steady.
    invoke = (
        np.full(cell.query_count, round(cell.latencies_ms[repeat] * 1e6) - 2000, "<u8") + np.arange(cell.query_count, dtype="<u8") % 3 - 1
    )
    total = invoke + 2000
    return {
        protocol.QUERIES: {
            "phase": np.full(cell.query_count, protocol.PHASES.index("steady"), "u1"),
            "sample": np.arange(cell.query_count, dtype="<u4") % SAMPLE_COUNT,
            "start_ns": np.concatenate(([0], np.cumsum(total)[:-1])).astype("<u8"),
            "pre_ns": np.full(cell.query_count, 1500, "<u8"),
            "invoke_ns": invoke,
            "post_ns": np.full(cell.query_count, 500, "<u8"),
        }
    }


def _outcome(job_id: str, fence: int) -> protocol.RunOutcome:
    runner = protocol.RunnerReport(
        runtime={"name": "onnxruntime", "version": "1.23.2"},
        load_ns=2_000_000,
        first_query_ns=900_000,
        min_duration_met=True,
        min_query_count_met=True,
        peak_rss_bytes=50_000_000,
        rss_before_load_bytes=30_000_000,
    )
    return protocol.RunOutcome(
        protocol=protocol.PROTOCOL_VERSION,
        job_id=job_id,
        attempt=1,
        fence=fence,
        agent_version="0.1.0",
        agent_sha256="a" * 64,
        status="completed",
        started_utc="2026-09-21T10:00:00Z",
        ended_utc="2026-09-21T10:00:40Z",
        duration_secs=40.0,
        runner=runner,
        conditions={"board": {"model": "bench"}},
    )


def _as_record(outcome: protocol.RunOutcome) -> dict[str, Any]:
    import json

    record: dict[str, Any] = json.loads(protocol.to_json(outcome))
    return record
