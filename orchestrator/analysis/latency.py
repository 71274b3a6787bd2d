"""Latency of one run, from its query trace: statistics per stage over the steady part, with load, first query and warm-up kept apart.

Only percentiles that the number of queries supports are given (see :data:`orchestrator.analysis.statistics.MINIMUM_COUNTS`); the
others are None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.protocol import PHASES
from orchestrator.analysis.metric_names import METRICS, PERCENTILES, STAGES
from orchestrator.analysis.statistics import FloatArray, minimum_count, standard_deviation
from orchestrator.domain.results import Metric

#: Columns of a stream: a mapping of names to arrays of one length, or a DataFrame.
Columns: TypeAlias = Mapping[str, Any]
IntArray: TypeAlias = NDArray[np.integer[Any]]

NANOSECONDS_PER_MS = 1e6
NANOSECONDS_PER_SEC = 1e9

#: A window is at least this long; longer when a run would have more than MOST_WINDOWS of them.
WINDOW_SECS = 1.0
MOST_WINDOWS = 600


@dataclass(frozen=True)
class StageSummary:
    """Statistics of one stage in milliseconds; ``std`` needs two queries, a percentile its minimum count, else None."""

    mean: float
    std: float | None
    min: float
    max: float
    percentiles: dict[float, float | None]


@dataclass(frozen=True)
class WindowedLatency:
    """End-to-end latency by windows of ``window_secs``, all arrays of shape (windows,).

    A window holds the queries that started in it; one without queries is absent. Under duty-cycle throttling the median hides what the mean
    shows, so both are here.
    """

    window_secs: float
    start_secs: FloatArray
    count: NDArray[np.int64]
    mean_ms: FloatArray
    median_ms: FloatArray


@dataclass(frozen=True)
class LatencySummary:
    """One run's latency. ``stages`` has the keys of STAGES and is empty when there was no steady query; times in the unit of the name."""

    stages: dict[str, StageSummary]
    query_count: int
    steady_secs: float | None
    throughput_qps: float | None
    cv_percent: float | None
    first_ms: float | None
    warmup_count: int
    warmup_mean_ms: float | None


def summarize_latency(queries: Columns) -> LatencySummary:
    """Summarize the ``queries`` stream (``agent.protocol.QUERY_COLUMNS``).

    ``cv_percent`` is of the steady invoke times, query by query, as trtexec judges stability. ``throughput_qps`` counts steady
    queries over the wall-clock time from the first start to the last end, so it includes the harness' own cost.
    """
    steady = _rows_of("steady", queries)
    warmup = _rows_of("warmup", queries)
    first = _rows_of("first_query", queries)
    stages = _summarize_stages(queries, steady) if _count(queries, steady) else {}
    count = _count(queries, steady)
    steady_secs = _wall_secs(queries, steady) if count else None
    invoke = stages.get("invoke_ms")
    return LatencySummary(
        stages=stages,
        query_count=count,
        steady_secs=steady_secs,
        throughput_qps=count / steady_secs if steady_secs else None,
        cv_percent=100 * invoke.std / invoke.mean if invoke is not None and invoke.std is not None and invoke.mean > 0 else None,
        first_ms=_mean_end_to_end_ms(queries, first),
        warmup_count=_count(queries, warmup),
        warmup_mean_ms=_mean_end_to_end_ms(queries, warmup),
    )


def latency_metrics(summary: LatencySummary) -> tuple[Metric, ...]:
    """Return a summary as metrics, in the order of METRICS; what is absent carries its cause."""
    count = summary.query_count
    metrics: list[Metric] = []
    for stage in STAGES:
        metrics += _stage_metrics(stage, summary.stages.get(stage), count)
    none_steady = "no steady query was recorded"
    two_needed = f"{count} steady queries; 2 are needed"
    metrics += [
        _metric("warmup_ms.mean", summary.warmup_mean_ms, summary.warmup_count, "no warm-up query was recorded"),
        _metric("throughput_qps", summary.throughput_qps, count, none_steady),
        _metric("cv_percent", summary.cv_percent, count, two_needed),
        _metric("query_count", float(count), None, ""),
        _metric("warmup_count", float(summary.warmup_count), None, ""),
        _metric("steady_secs", summary.steady_secs, None, none_steady),
    ]
    return tuple(metrics)


def windowed_latency(queries: Columns, window_secs: float = WINDOW_SECS) -> WindowedLatency:
    """Cut the steady part into windows of at least ``window_secs``, doubled until there are at most MOST_WINDOWS."""
    steady = _rows_of("steady", queries)
    start_ns = np.asarray(queries["start_ns"])[steady]
    if start_ns.size == 0:
        nothing = np.empty(0)
        return WindowedLatency(window_secs, nothing, nothing.astype(np.int64), nothing, nothing)
    elapsed = (start_ns - start_ns[0]) / NANOSECONDS_PER_SEC
    while elapsed[-1] / window_secs > MOST_WINDOWS:
        window_secs *= 2
    latency_ms = _end_to_end_ns(queries, steady) / NANOSECONDS_PER_MS
    windows, first_rows = np.unique((elapsed / window_secs).astype(np.int64), return_index=True)
    parts = np.split(latency_ms, first_rows[1:])
    return WindowedLatency(
        window_secs=window_secs,
        start_secs=windows * window_secs,
        count=np.array([part.size for part in parts]),
        mean_ms=np.array([part.mean() for part in parts]),
        median_ms=np.array([np.median(part) for part in parts]),
    )


def _rows_of(phase: str, queries: Columns) -> slice | NDArray[np.bool_]:
    """Select a phase's rows: a slice where they lie together, as they do in every orderly run, so that nothing is copied."""
    chosen = np.asarray(queries["phase"]) == PHASES.index(phase)
    count = int(np.count_nonzero(chosen))
    if count == 0:
        return slice(0, 0)
    first = int(np.argmax(chosen))
    return slice(first, first + count) if bool(chosen[first : first + count].all()) else chosen


def _count(queries: Columns, rows: slice | NDArray[np.bool_]) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else int(np.count_nonzero(rows))


def _summarize_stages(queries: Columns, rows: slice | NDArray[np.bool_]) -> dict[str, StageSummary]:
    columns: dict[str, IntArray] = {name: np.asarray(queries[f"{name}_ns"])[rows] for name in ("pre", "invoke", "post")}
    # Sorting 32-bit numbers takes half the time of 64-bit ones, so all stay narrow where their sum cannot overflow.
    widest = sum(int(column.max()) for column in columns.values())
    kind: type[np.unsignedinteger[Any]] = np.uint32 if widest < 2**32 else np.uint64
    ordered: dict[str, IntArray] = {name: column.astype(kind) for name, column in columns.items()}
    total: IntArray = ordered["pre"] + ordered["invoke"] + ordered["post"]
    for column in (total, *ordered.values()):
        column.sort()
    return {
        "latency_ms": _summarize_sorted(total),
        "pre_ms": _summarize_sorted(ordered["pre"]),
        "invoke_ms": _summarize_sorted(ordered["invoke"]),
        "post_ms": _summarize_sorted(ordered["post"]),
    }


def _summarize_sorted(ordered_ns: IntArray) -> StageSummary:
    count = ordered_ns.size
    mean_ns = float(ordered_ns.mean(dtype=np.float64))
    return StageSummary(
        mean=mean_ns / NANOSECONDS_PER_MS,
        std=standard_deviation(ordered_ns, mean_ns) / NANOSECONDS_PER_MS if count > 1 else None,
        min=int(ordered_ns[0]) / NANOSECONDS_PER_MS,
        max=int(ordered_ns[-1]) / NANOSECONDS_PER_MS,
        percentiles={
            percentile: _percentile_of_sorted(ordered_ns, percentile) / NANOSECONDS_PER_MS if count >= minimum_count(percentile) else None
            for percentile in PERCENTILES
        },
    )


def _percentile_of_sorted(ordered: IntArray, percentile: float) -> float:
    """Linear interpolation between closest ranks (Hyndman and Fan's type 7, the default of numpy and pandas)."""
    position = (ordered.size - 1) * percentile / 100
    below = int(position)
    low = int(ordered[below])
    high = int(ordered[min(below + 1, ordered.size - 1)])
    return low + (high - low) * (position - below)


def _end_to_end_ns(queries: Columns, rows: slice | NDArray[np.bool_]) -> NDArray[np.uint64]:
    parts = [np.asarray(queries[name])[rows] for name in ("pre_ns", "invoke_ns", "post_ns")]
    total: NDArray[np.uint64] = np.add(parts[0], parts[1], dtype=np.uint64)
    total += parts[2]
    return total


def _mean_end_to_end_ms(queries: Columns, rows: slice | NDArray[np.bool_]) -> float | None:
    if _count(queries, rows) == 0:
        return None
    return float(_end_to_end_ns(queries, rows).mean(dtype=np.float64)) / NANOSECONDS_PER_MS


def _wall_secs(queries: Columns, rows: slice | NDArray[np.bool_]) -> float:
    start_ns = np.asarray(queries["start_ns"])[rows]
    last = {name: int(np.asarray(queries[name])[rows][-1]) for name in ("pre_ns", "invoke_ns", "post_ns")}
    return (int(start_ns[-1]) + sum(last.values()) - int(start_ns[0])) / NANOSECONDS_PER_SEC


def _stage_metrics(stage: str, summary: StageSummary | None, count: int) -> list[Metric]:
    none_steady = "no steady query was recorded"
    if summary is None:
        return [_metric(name, None, 0, none_steady) for name in METRICS if name.startswith(f"{stage}.")]
    metrics = [
        _metric(f"{stage}.mean", summary.mean, count, none_steady),
        _metric(f"{stage}.std", summary.std, count, f"{count} steady queries; 2 are needed"),
        _metric(f"{stage}.min", summary.min, count, none_steady),
        _metric(f"{stage}.max", summary.max, count, none_steady),
    ]
    for percentile, value in summary.percentiles.items():
        needed = minimum_count(percentile)
        metrics.append(
            _metric(f"{stage}.p{percentile:g}", value, count, f"{count} steady queries; {needed} are needed for p{percentile:g}")
        )
    return metrics


def _metric(name: str, value: float | None, count: int | None, cause: str) -> Metric:
    return Metric(name=name, value=value, unit=METRICS[name].unit, count=count, cause=cause if value is None else None)
