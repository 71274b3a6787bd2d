"""A meter's clock is brought to the device's: by the marker load to within its sampling, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent import protocol
from orchestrator.service.power_alignment import AlignmentFailed, align_by_clock, align_by_marker
from orchestrator.service.power_csv import MeterTrace

MARKER = protocol.EVENT_CODES.index("marker")
#: The device's monotonic clock when the meter began, seconds.
BEGAN = 5000.0


def wave(start: float) -> list[tuple[float, float]]:
    """Three seconds of load, each followed by a second of rest."""
    return [(start + at, 1.0 - at % 2) for at in range(6)]


def events(*starts: float) -> dict[str, np.ndarray[Any, Any]]:
    edges = [edge for start in starts for edge in wave(start)]
    others = [(BEGAN + 1.0, protocol.EVENT_CODES.index("runner_started"), 0.0)]
    rows = sorted([(at, MARKER, value) for at, value in edges] + others)
    return {
        "time_ns": np.array([round(at * 1e9) for at, _, _ in rows], "<u8"),
        "code": np.array([code for _, code, _ in rows], "<u2"),
        "value": np.array([value for _, _, value in rows], "<f8"),
    }


def meter(
    starts: list[float], load: tuple[float, float], hertz: float, drift: float = 0.0, noise_mw: float = 80.0, secs: float = 200.0
) -> MeterTrace:
    """What a meter shows: 2 W at rest, 5 W under load, noise; its own clock began at 0 and runs ``drift`` too slow."""
    rng = np.random.default_rng(7)
    time = np.arange(0.0, secs, 1 / hertz)
    device = BEGAN + time * (1 + drift)
    busy = (device >= load[0]) & (device < load[1])
    for start in starts:
        for at, value in wave(start):
            busy |= (value > 0) & (device >= at) & (device < at + 1)
    return MeterTrace(time, 2000.0 + 3000.0 * busy + rng.normal(0, noise_mw, len(time)))


@pytest.mark.parametrize("hertz", [20.0, 100.0, 1000.0])
def test_the_marker_places_a_meter_to_within_its_stated_uncertainty(hertz: float) -> None:
    starts = [BEGAN + 10.0137, BEGAN + 150.0291]
    trace = meter(starts, (BEGAN + 30, BEGAN + 140), hertz)
    found = align_by_marker(trace, events(*starts))
    error = abs(found.device_ns(np.array([0.0, 100.0]))[1] / 1e9 - (BEGAN + 100.0))
    assert error <= found.uncertainty_secs <= 1.5 / hertz + 0.005
    assert f"{found.uncertainty_secs:.3f} s" in found.words


def test_two_markers_show_how_the_clocks_drift() -> None:
    starts = [BEGAN + 10.0137, BEGAN + 150.0291]
    trace = meter(starts, (BEGAN + 30, BEGAN + 140), 500.0, drift=2e-4)
    found = align_by_marker(trace, events(*starts))
    assert found.rate == pytest.approx(1 + 2e-4, abs=2e-5)
    assert found.device_ns(np.array([160.0]))[0] / 1e9 == pytest.approx(BEGAN + 160.0 * (1 + 2e-4), abs=0.005)


def test_one_marker_is_enough() -> None:
    trace = meter([BEGAN + 10.0137], (BEGAN + 30, BEGAN + 140), 100.0)
    found = align_by_marker(trace, events(BEGAN + 10.0137))
    assert found.rate == 1.0
    assert found.device_ns(np.array([0.0]))[0] / 1e9 == pytest.approx(BEGAN, abs=0.02)


def test_a_trace_without_the_marker_is_refused() -> None:
    trace = meter([], (BEGAN + 30, BEGAN + 140), 100.0)
    with pytest.raises(AlignmentFailed, match="not in this trace"):
        align_by_marker(trace, events(BEGAN + 10.0137))


def test_a_load_that_looks_like_the_marker_is_refused_rather_than_guessed() -> None:
    trace = meter([BEGAN + 10.0137, BEGAN + 60.5], (BEGAN + 90, BEGAN + 140), 100.0)
    with pytest.raises(AlignmentFailed, match="more than one place"):
        align_by_marker(trace, events(BEGAN + 10.0137))


def test_a_run_without_marker_and_a_slow_meter_are_refused() -> None:
    with pytest.raises(AlignmentFailed, match="no marker"):
        align_by_marker(meter([], (0, 1), 100.0), events())
    with pytest.raises(AlignmentFailed, match="too seldom"):
        align_by_marker(meter([BEGAN + 10], (0, 1), 1.0), events(BEGAN + 10.0))


def test_times_of_day_are_brought_over_both_offsets() -> None:
    trace = MeterTrace(np.array([1_790_000_100.0, 1_790_000_101.0]), np.array([1.0, 2.0]))
    conditions = {
        "start": {"utc_unix_secs": 1_790_000_000.0, "monotonic_ns": 5_000_000_000_000},
        "end": {"utc_unix_secs": 1_790_000_300.25, "monotonic_ns": 5_300_000_000_000},
    }
    # The device is 2 s ahead of us, the meter 3 s: what the meter calls 100 is 97 here, 99 on the device.
    found = align_by_clock(trace, conditions, 2.0, 0.01, 3.0)
    assert found.device_ns(trace.time_secs)[0] / 1e9 == pytest.approx(5099.0, abs=1e-3)
    assert found.uncertainty_secs == pytest.approx(0.26)
    assert "0.250 s" in found.words


def test_times_that_are_no_times_of_day_need_the_marker() -> None:
    with pytest.raises(AlignmentFailed, match="times of day"):
        align_by_clock(MeterTrace(np.array([0.0, 1.0]), np.array([1.0, 1.0])), {}, 0.0, 0.0, 0.0)
