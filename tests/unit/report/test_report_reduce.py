"""Reducing traces: nothing is lost from the count, and extremes survive."""

from __future__ import annotations

import numpy as np
import pytest

from agent.protocol import PHASES
from orchestrator.report.reduce import LATENCY_BINS, TELEMETRY_POINTS, reduce_latency, reduce_telemetry


def queries(invoke_ns: np.ndarray, phase: str = "steady") -> dict[str, np.ndarray]:
    count = invoke_ns.size
    return {
        "phase": np.full(count, PHASES.index(phase), dtype=np.uint8),
        "pre_ns": np.full(count, 1000, dtype=np.uint32),
        "invoke_ns": invoke_ns.astype(np.uint32),
        "post_ns": np.full(count, 500, dtype=np.uint32),
    }


def test_shares_of_bins_and_of_what_lies_outside_add_up_to_all_queries() -> None:
    rng = np.random.default_rng(7)
    found = reduce_latency("j", queries(rng.gamma(3.0, 40_000, 20_000)))
    assert found is not None
    assert len(found.shares) == LATENCY_BINS
    assert len(found.edges_ms) == LATENCY_BINS + 1
    assert sum(found.shares) + found.below_share + found.above_share == pytest.approx(1.0, abs=1e-3)
    assert found.count == 20_000


def test_the_histogram_has_its_mass_where_the_latencies_are() -> None:
    found = reduce_latency("j", queries(np.r_[np.full(900, 100_000), np.full(100, 200_000)]))
    assert found is not None
    at_fast = next(index for index, edge in enumerate(found.edges_ms) if edge > 0.1015) - 1
    assert found.shares[at_fast] == pytest.approx(0.9, abs=0.001)


def test_pre_processing_and_post_processing_are_part_of_the_latency() -> None:
    found = reduce_latency("j", queries(np.array([10_000, 20_000])))
    assert found is not None
    assert (found.min_ms, found.max_ms) == (pytest.approx(0.0115), pytest.approx(0.0215))


def test_a_single_outlier_is_kept_as_the_maximum_and_does_not_stretch_the_bins() -> None:
    values = np.full(10_000, 50_000)
    values[17] = 90_000_000
    found = reduce_latency("j", queries(values))
    assert found is not None
    assert found.max_ms == pytest.approx(90.0015)
    assert found.edges_ms[-1] < 0.1
    assert found.above_share == pytest.approx(1e-4)


def test_queries_before_the_steady_part_do_not_count() -> None:
    assert reduce_latency("j", queries(np.array([1, 2, 3]), phase="warmup")) is None


def test_a_clock_with_one_value_still_gives_bins_that_increase() -> None:
    found = reduce_latency("j", queries(np.full(50, 1000)))
    assert found is not None
    assert all(a < b for a, b in zip(found.edges_ms, found.edges_ms[1:], strict=False))
    assert sum(found.shares) == pytest.approx(1.0)


def test_a_thinned_series_keeps_its_extremes_and_says_how_long_it_was() -> None:
    values = np.sin(np.arange(5000) / 300)
    values[1234] = 9.5
    values[4321] = -7.25
    found = reduce_telemetry("j", "thermal.cpu_c", "°C", np.arange(5000, dtype=np.uint64) * 100_000_000, values)
    assert found is not None
    assert len(found.values) <= TELEMETRY_POINTS
    assert (min(found.values), max(found.values)) == (-7.25, 9.5)
    assert (found.count, found.minimum, found.maximum) == (5000, -7.25, 9.5)
    assert list(found.time_s) == sorted(found.time_s)


def test_readings_that_are_not_finite_are_left_out_and_none_at_all_is_none() -> None:
    times = np.arange(3, dtype=np.uint64)
    found = reduce_telemetry("j", "s", "", times, np.array([np.nan, 2.0, np.inf]))
    assert found is not None
    assert found.values == (2.0,)
    assert reduce_telemetry("j", "s", "", times, np.array([np.nan, np.nan, np.inf])) is None
