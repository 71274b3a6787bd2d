"""Load patterns say when queries may come; told the time, they need no waiting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from agent.errors import RequestInvalid
from agent.load_patterns import (
    STALE_NS,
    Arrivals,
    ControlTemperature,
    DutyCycle,
    FixedRate,
    Recorded,
    ThermalCycle,
    check_pattern,
    make_pattern,
)
from agent.protocol import CONTROL, LoadPattern

SECOND = 1_000_000_000
START = 7 * SECOND


@pytest.mark.parametrize("rate_hz", [0.1, 29.97, 30.0, 144.0, 1000.0, 123456.789])
def test_a_fixed_rate_never_drifts_and_finds_its_place_again_from_any_time(rate_hz: float) -> None:
    pattern = FixedRate(START, rate_hz)
    for number in (0, 1, 2, 7, 1000, 9_999_999):
        begin_ns = START + round(number * SECOND / rate_hz)
        pattern.resumed(begin_ns)
        assert pattern.turn(begin_ns).begin_ns == begin_ns
    assert pattern.held_up_count == 9_999_999


def test_arrivals_that_pass_while_a_query_runs_are_dropped_and_counted() -> None:
    pattern = FixedRate(START, 10.0)
    assert pattern.turn(START) == (START, START, 1)
    pattern.answered(START + SECOND // 100)  # well before the next
    assert (pattern.turn(START).begin_ns, pattern.dropped_count) == (START + SECOND // 10, 0)
    pattern.answered(START + 45 * SECOND // 100)  # frames at 0.2, 0.3 and 0.4 s passed
    assert (pattern.turn(START).begin_ns, pattern.dropped_count) == (START + SECOND // 2, 3)


def test_an_arrival_at_the_very_end_of_a_query_is_asked() -> None:
    pattern = FixedRate(START, 10.0)
    pattern.answered(START + SECOND // 10)
    assert (pattern.turn(START).begin_ns, pattern.dropped_count) == (START + SECOND // 10, 0)


def test_arrivals_that_pass_while_probes_are_asked_are_counted_apart() -> None:
    pattern = FixedRate(START, 10.0)
    pattern.answered(START + 1)
    pattern.resumed(START + SECOND)
    assert (pattern.held_up_count, pattern.dropped_count, pattern.turn(START).begin_ns) == (9, 0, START + SECOND)


def test_recorded_arrivals_begin_anew_after_each_cycle() -> None:
    pattern = Recorded(START, [0, SECOND, 3 * SECOND], 5 * SECOND)
    seen = []
    for _ in range(7):
        begin_ns = pattern.turn(START).begin_ns
        seen.append((begin_ns - START) // SECOND)
        pattern.answered(begin_ns + 1)
    assert seen == [0, 1, 3, 5, 6, 8, 10]
    pattern.answered(START + 16 * SECOND)  # the one at 11 s was asked; those at 13 and 15 s pass
    assert (pattern.turn(START).begin_ns, pattern.dropped_count) == (START + 16 * SECOND, 2)


@pytest.mark.parametrize("make", [lambda: FixedRate(START, 37.5), lambda: Recorded(START, [5, SECOND // 3, SECOND // 2], SECOND)])
def test_every_arrival_is_asked_or_dropped_or_held_up(make: Any) -> None:
    pattern: Arrivals = make()
    asked, now = 0, START
    for number in range(500):
        now = max(now, pattern.turn(now).begin_ns) + (number * 37) % 211 * SECOND // 1000
        asked += 1
        pattern.answered(now)
        if number % 10 == 0:
            now += SECOND // 5
            pattern.resumed(now)
    arrived = 0
    everything = make()
    while everything.turn(0).begin_ns < now:
        everything.answered(everything.turn(0).begin_ns + 1)
        arrived += 1
    assert asked + pattern.dropped_count + pattern.held_up_count == arrived


def test_a_duty_cycle_loads_and_rests_on_a_grid() -> None:
    pattern = DutyCycle(START, 2 * SECOND, 3 * SECOND)
    for cycle in (0, 1, 100):
        begin = START + cycle * 5 * SECOND
        assert pattern.turn(begin)[1:] == (begin + 2 * SECOND, 2**31)
        assert pattern.turn(begin + 2 * SECOND - 1).limit > 0
        assert pattern.turn(begin + 2 * SECOND) == (begin + 2 * SECOND, begin + 5 * SECOND, 0)


def test_a_thermal_cycle_loads_until_hot_and_rests_until_cool() -> None:
    readings = iter([40.0, 79.9, 80.0, 79.0, 50.1, 50.0, 60.0])
    pattern = ThermalCycle(50.0, 80.0, lambda now_ns: next(readings))
    assert [pattern.turn(START).limit > 0 for _ in range(7)] == [True, True, False, False, False, True, True]
    assert pattern.unknown_ns == 0


def test_an_unknown_temperature_counts_as_hot_and_the_time_of_it_is_told() -> None:
    readings = iter([60.0, None, None, 60.0, 49.0, 60.0])
    pattern = ThermalCycle(50.0, 80.0, lambda now_ns: next(readings))
    limits = [pattern.turn(START + number * SECOND).limit > 0 for number in range(6)]
    assert limits == [True, False, False, False, True, True]
    assert pattern.unknown_ns == 2 * SECOND


def test_the_control_temperature_is_what_the_supervisor_wrote_last_and_unknown_when_stale(tmp_path: Path) -> None:
    path = tmp_path / "control"
    control = ControlTemperature(path)
    now = 100 * SECOND
    assert control.read(now) is None  # no file yet
    path.write_bytes(CONTROL.pack(now, 61.5))
    now += SECOND
    assert control.read(now) == 61.5
    path.write_bytes(CONTROL.pack(now, 62.5))
    assert control.read(now + SECOND // 20) == 61.5  # not looked at again so soon
    assert control.read(now + SECOND) == 62.5
    assert control.read(now + STALE_NS) == 62.5
    assert control.read(now + STALE_NS + SECOND) is None
    path.write_bytes(CONTROL.pack(now + 10 * SECOND, math.nan))
    assert control.read(now + 10 * SECOND) is None
    path.write_bytes(b"torn")
    assert control.read(now + 11 * SECOND) is None
    control.close()
    control.close()


@pytest.mark.parametrize(
    "pattern",
    [
        LoadPattern("sideways"),
        LoadPattern("fixed_rate"),
        LoadPattern("fixed_rate", rate_hz=-1.0),
        LoadPattern("fixed_rate", rate_hz=math.inf),
        LoadPattern("fixed_rate", rate_hz=2e6),
        LoadPattern("duty_cycle", on_secs=1.0),
        LoadPattern("duty_cycle", on_secs=1.0, off_secs=0.0),
        LoadPattern("thermal_cycle", low_c=60.0, high_c=60.0),
        LoadPattern("recorded", cycle_secs=1.0),
        LoadPattern("recorded", cycle_secs=1.0, arrivals_secs=[0.5, 0.5]),
        LoadPattern("recorded", cycle_secs=1.0, arrivals_secs=[-0.1]),
        LoadPattern("recorded", cycle_secs=1.0, arrivals_secs=[0.0, 1.0]),
        LoadPattern("recorded", cycle_secs=1.0, arrivals_secs=[math.nan]),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused(pattern: LoadPattern) -> None:
    with pytest.raises(RequestInvalid):
        check_pattern(pattern)
    with pytest.raises(RequestInvalid):
        make_pattern(pattern, START, lambda now_ns: None)
