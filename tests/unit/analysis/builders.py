"""Streams as the agent writes them, for tests."""

from __future__ import annotations

import numpy as np

from agent.protocol import PHASES, QUERY_COLUMNS, RunnerReport, RunOutcome, SensorInfo, sample_columns
from orchestrator.analysis.samples import SampleAnswers, check_samples

SECOND_NS = 1_000_000_000


def make_sample_columns(
    classes: np.ndarray, confidence: np.ndarray | None = None, finite: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """``classes`` has shape (n,) or (n, k), best first."""
    ranked = classes.reshape(classes.shape[0], -1)
    count, k = ranked.shape
    columns = {name: np.zeros(count, dtype=kind) for name, kind in sample_columns(k)}
    columns["sample"][:] = np.arange(count)
    columns["finite"][:] = 1 if finite is None else finite
    columns["confidence"][:] = 0.9 if confidence is None else confidence
    # Like the real one: the same outputs give the same digest, any other outputs another.
    columns["digest"][:] = columns["confidence"].view(np.uint32).astype(np.uint64) * 2**32 + (ranked[:, 0] + 1000).astype(np.uint64)
    for rank in range(k):
        columns[f"class_{rank}"][:] = ranked[:, rank]
    return columns


def make_samples(classes: np.ndarray, confidence: np.ndarray | None = None, finite: np.ndarray | None = None) -> SampleAnswers:
    return check_samples(make_sample_columns(classes, confidence, finite), classes.shape[0])


def make_queries(count: int, invoke_ns: int = 100_000, phase: str = "steady", jitter: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    columns = {name: np.zeros(count, dtype=kind) for name, kind in QUERY_COLUMNS}
    columns["phase"][:] = PHASES.index(phase)
    columns["invoke_ns"][:] = invoke_ns * np.random.default_rng(seed).lognormal(0, jitter, count) if jitter else invoke_ns
    columns["pre_ns"][:] = 2_000
    columns["post_ns"][:] = 1_000
    columns["start_ns"][1:] = np.cumsum(columns["pre_ns"] + columns["invoke_ns"] + columns["post_ns"])[:-1]
    return columns


#: A machine that has been up for 200 days: telemetry times are raw, queries count from here.
ORIGIN_NS = 200 * 86_400 * SECOND_NS


def make_telemetry(readings: dict[str, np.ndarray], period_ns: int = SECOND_NS // 10) -> tuple[dict[str, np.ndarray], list[SensorInfo]]:
    """One row per reading; the n-th reading of a sensor lies n periods after the origin."""
    time_ns = np.concatenate([ORIGIN_NS + np.arange(len(values)) * period_ns for values in readings.values()] or [[]]).astype(np.uint64)
    sensor = np.concatenate([np.full(len(values), number) for number, values in enumerate(readings.values())] or [[]]).astype(np.uint16)
    value = np.concatenate([*readings.values()] or [[]]).astype(np.float64)
    return {"time_ns": time_ns, "sensor": sensor, "value": value}, [SensorInfo(name, "", "test") for name in readings]


def make_outcome(sensors: list[SensorInfo] | None = None, conditions: dict | None = None, **runner: object) -> RunOutcome:
    facts: dict = {
        "origin_monotonic_ns": ORIGIN_NS,
        "load_ns": 5_000_000,
        "first_query_ns": 900_000,
        "peak_rss_bytes": 80_000_000,
        "rss_before_load_bytes": 60_000_000,
        **runner,
    }
    return RunOutcome(
        protocol=1,
        job_id="j",
        attempt=1,
        fence=1,
        agent_version="0",
        agent_sha256="0" * 64,
        status="completed",
        started_utc="2026-01-01T00:00:00Z",
        ended_utc="2026-01-01T00:00:10Z",
        duration_secs=10.0,
        runner=RunnerReport(**facts),
        conditions=conditions or {},
        sensors=sensors or [],
    )
