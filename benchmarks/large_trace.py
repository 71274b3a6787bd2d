"""Figure: statistics and report of a run with a million queries, against pandas doing the same percentiles from the same file."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sqlmodel import select

from agent import protocol
from benchmarks.homes import DEVICE_ID, make_home, open_home
from benchmarks.pairs import Bar, Measurement, interleave, judge_ratio, judge_value
from benchmarks.plan import DIGITS, ORCHESTRATOR_PYTHON, Figure, Plan, Row, versions
from orchestrator.analysis.latency import latency_metrics, summarize_latency
from orchestrator.analysis.measure import ANALYSIS_VERSION
from orchestrator.analysis.metric_names import PERCENTILES
from orchestrator.domain.results import ValidityRecord
from orchestrator.domain.states import Validity
from orchestrator.service.context import Context
from orchestrator.service.submission import submit
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.database import session as open_session
from orchestrator.store.results import insert_result
from orchestrator.store.tables import Attempt, Job
from orchestrator.store.traces import publish_trace, read_trace

STATISTICS_BAR = Bar(2.0)
REPORT_BAR_SECS = Bar(3.0)
QUERIES = 1_000_000
WARMUP = 1_000
REPORTS = 7
_STAGES = ("pre_ns", "invoke_ns", "post_ns")


def measure(plan: Plan) -> Figure:
    """Compare in one process; time the report as a user does, as a process from start to end."""
    facts = versions(ORCHESTRATOR_PYTHON, ("numpy", "pandas", "pyarrow", "plotly"))
    home = plan.scratch / "large"
    make_home(home)
    context = open_home(home)
    experiment_id, trace_sha256 = _fill(context, plan)
    parquet = plan.scratch / "queries.parquet"
    parquet.write_bytes(context.artifacts.get_bytes(trace_sha256))
    _check_same_percentiles(context.artifacts, trace_sha256, parquet)

    rounds = interleave(
        lambda: _timed(_with_pandas, parquet), lambda: _timed(_ours, context.artifacts, trace_sha256), plan.pairs, plan.seed
    )
    statistics_row = Row(
        what=f"statistics of {QUERIES} queries over pandas reading the Parquet and computing the percentiles",
        unit="ms",
        judgement=judge_ratio(rounds, "secs", STATISTICS_BAR),
        baseline=median(item.baseline["secs"] for item in rounds) * 1e3,
        candidate=median(item.candidate["secs"] for item in rounds) * 1e3,
    )
    context.engine.dispose()
    times = [_report(home, experiment_id, plan.scratch / "report.html") for _ in range(REPORTS)]
    report_row = Row(f"edgematrix report of {QUERIES} queries, the whole process", "s", judge_value(times, REPORT_BAR_SECS))
    facts["report_bytes"] = str((plan.scratch / "report.html").stat().st_size)
    return Figure("large trace", "Do a million queries stay quick to look at?", (statistics_row, report_row), {"orchestrator": facts})


def _ours(store: ArtifactStore, sha256: str) -> dict[str, float]:
    metrics = latency_metrics(summarize_latency(read_trace(store, sha256)))
    return {metric.name: metric.value for metric in metrics if metric.value is not None}


def _with_pandas(parquet: Path) -> pd.DataFrame:
    frame = pd.read_parquet(parquet)
    steady = frame.loc[frame["phase"] == protocol.PHASES.index("steady"), list(_STAGES)]
    steady = steady.assign(latency_ns=steady.sum(axis=1))
    return steady.quantile([value / 100 for value in PERCENTILES])


def _timed(function: Any, *arguments: Any) -> Measurement:
    started = time.perf_counter()
    function(*arguments)
    return {"secs": time.perf_counter() - started}


def _check_same_percentiles(store: ArtifactStore, sha256: str, parquet: Path) -> None:
    """What is compared must be the same work: raise AssertionError where a percentile differs."""
    ours, theirs = _ours(store, sha256), _with_pandas(parquet)
    for stage in (*_STAGES, "latency_ns"):
        for value, expected_ns in zip(PERCENTILES, theirs[stage].tolist(), strict=True):
            name = f"{stage.removesuffix('_ns')}_ms.p{value:g}"
            assert np.isclose(ours[name], expected_ns / 1e6, rtol=1e-9), name


def _report(home: Path, experiment_id: str, path: Path) -> float:
    command = [str(ORCHESTRATOR_PYTHON.with_name("edgematrix")), "report", experiment_id, "--output", str(path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGEMATRIX_")}
    started = time.perf_counter()
    subprocess.run(command, env={**environment, "EDGEMATRIX_HOME": str(home)}, capture_output=True, check=True)
    return time.perf_counter() - started


def _fill(context: Context, plan: Plan) -> tuple[str, str]:
    """Submit one latency job and publish a made-up result with a million queries for it; return the experiment's id and the trace's."""
    spec = yaml.safe_load((DIGITS.parent / "digits.yaml").read_text(encoding="utf-8"))
    model = spec["models"][0]
    model["variants"] = model["variants"][:1]
    model["dataset"]["file"] = str(DIGITS / "digits_test.npz")
    model["variants"][0]["file"] = str(DIGITS / "onnx_fp32.onnx")
    spec["scenarios"] = {"latency": {"repeats": 1}}
    spec_file = plan.scratch / "large.yaml"
    spec_file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    experiment_id = submit(context, spec_file).experiment_id
    queries = _queries(plan.seed)
    trace = publish_trace(context.artifacts, queries)
    with open_session(context.engine) as session:
        job = session.exec(select(Job)).one()
        job.state, job.outcome, job.attempts, job.fence, job.finished_at = "finished", "completed", 1, 1, job.submitted_at + 60
        session.add(job)
        outcome = protocol.RunOutcome(
            protocol=protocol.PROTOCOL_VERSION,
            job_id=job.id,
            attempt=1,
            fence=1,
            agent_version="0",
            agent_sha256="0" * 64,
            status="completed",
            started_utc="2026-01-01T00:00:00Z",
            ended_utc="2026-01-01T00:01:00Z",
            duration_secs=60.0,
            runner=protocol.RunnerReport(warmup_count=WARMUP, steady_count=QUERIES),
        )
        session.add(
            Attempt(
                job_id=job.id,
                number=1,
                device_id=DEVICE_ID,
                fence=1,
                started_at=job.submitted_at,
                ended_at=job.submitted_at + 60,
                status="completed",
                outcome_message=json.loads(protocol.to_json(outcome)),
            )
        )
        insert_result(
            session,
            job_id=job.id,
            attempt=1,
            metrics=latency_metrics(summarize_latency(queries)),
            validity=ValidityRecord(level=Validity.VALID),
            traces={protocol.QUERIES: trace},
            analysis_version=ANALYSIS_VERSION,
            now=job.submitted_at + 60,
        )
    return experiment_id, trace.sha256


def _queries(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return a ``queries`` stream with the long right tail that real latencies have: log-normal times, one slow query in a thousand."""
    generator = np.random.default_rng(seed)
    count = WARMUP + QUERIES
    slow = np.where(generator.random(count) < 1e-3, 10.0, 1.0)
    columns: dict[str, np.ndarray[Any, Any]] = {
        "phase": np.repeat([protocol.PHASES.index("warmup"), protocol.PHASES.index("steady")], [WARMUP, QUERIES]).astype(np.uint8),
        "sample": (np.arange(count) % 64).astype(np.uint32),
    }
    for name, typical_ns in (("pre_ns", 1_500), ("invoke_ns", 55_000), ("post_ns", 800)):
        columns[name] = (typical_ns * generator.lognormal(0.0, 0.03, count) * slow).astype(np.uint32)
    ends = np.cumsum(sum(columns[name].astype(np.uint64) for name in _STAGES) + np.uint64(300))
    columns["start_ns"] = np.concatenate([np.zeros(1, np.uint64), ends[:-1]])
    return columns
