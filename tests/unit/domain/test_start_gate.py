"""When a device is at the temperature from which a run may begin, and how often it is asked until then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.domain.soak import StartGate
from orchestrator.domain.start_gate import Reading, kept_readings, view_gate

GATE = StartGate(temperature_c=40.0, tolerance_c=2.0, slope_c_per_min=1.0, hold_secs=10.0)


def readings(temperature: Callable[[float], float], until: float, every: float = 2.0) -> list[Reading]:
    times = [every * step for step in range(int(until / every) + 1)]
    return [(1000.0 + at, temperature(at)) for at in times]


def test_a_device_that_rests_inside_the_tolerance_may_begin_after_the_hold_time() -> None:
    assert not view_gate(GATE, readings(lambda _: 40.5, 8.0)).met
    assert view_gate(GATE, readings(lambda _: 40.5, 10.0)).met


def test_one_reading_outside_the_tolerance_begins_the_hold_time_anew() -> None:
    assert not view_gate(GATE, readings(lambda at: 42.5 if at == 10.0 else 41.9, 18.0)).met
    assert view_gate(GATE, readings(lambda at: 42.5 if at == 10.0 else 41.9, 22.0)).met


def test_a_device_that_falls_through_the_gate_is_not_at_rest() -> None:
    view = view_gate(GATE, readings(lambda at: 42.0 - 3.0 * at / 60.0, 20.0))
    assert not view.met
    assert view.slope_c_per_min == pytest.approx(-3.0)


def test_a_sensor_of_whole_degrees_that_falls_is_not_taken_for_one_at_rest() -> None:
    falling = [round(41.6 - 4.0 * at / 60.0) for at in range(0, 21, 2)]
    assert falling[-1] < falling[0]
    assert not view_gate(GATE, [(float(2 * index), float(value)) for index, value in enumerate(falling)]).met


def test_a_gate_without_a_hold_time_is_met_by_one_reading() -> None:
    gate = StartGate(temperature_c=40.0, hold_secs=0.0)
    assert view_gate(gate, [(0.0, 41.0)]).met
    assert not view_gate(gate, [(0.0, 43.0)]).met


def test_a_device_far_from_its_gate_is_asked_rarely_and_a_near_one_often() -> None:
    far = view_gate(GATE, readings(lambda at: 70.0 - 3.0 * at / 60.0, 20.0))
    near = view_gate(GATE, readings(lambda at: 42.5 - 3.0 * at / 60.0, 4.0))
    assert far.look_again_secs == 15.0
    assert near.look_again_secs <= 15.0
    assert view_gate(GATE, [(0.0, 43.0)]).look_again_secs == 2.0
    assert view_gate(GATE, [(0.0, 40.0)]).look_again_secs == 2.0
    assert view_gate(GATE, readings(lambda _: 40.0, 20.0)).look_again_secs == 0.0


def test_the_wait_is_told_in_words_with_what_it_may_still_take() -> None:
    view = view_gate(GATE, readings(lambda at: 52.8 - 3.2 * at / 60.0, 14.0))
    assert view.words(GATE) == "52.1 °C, falling 3.2 °C/min; gate 40 ± 2 °C (about 4 min)"
    cold = view_gate(GATE, readings(lambda _: 25.0, 14.0))
    assert cold.words(GATE) == "25.0 °C, steady; gate 40 ± 2 °C"
    assert view_gate(GATE, [(0.0, 52.0)]).words(GATE) == "52.0 °C; gate 40 ± 2 °C"


@pytest.mark.parametrize("hold_secs", [0.0, 10.0, 600.0])
def test_what_is_kept_of_the_readings_decides_as_all_of_them_do_and_stays_small(hold_secs: float) -> None:
    gate = StartGate(temperature_c=40.0, hold_secs=hold_secs, max_wait_secs=86_400.0)
    every = 2.0 if hold_secs < 60 else 15.0
    whole: list[Reading] = []
    kept: list[Reading] = []
    for step in range(600):
        at = (step * every, 70.0 if step < 300 else 40.0)
        whole.append(at)
        kept = kept_readings(gate, [*kept, at])
        assert view_gate(gate, kept) == view_gate(gate, whole)
        assert len(kept) <= 64
    assert view_gate(gate, kept).met


def test_a_gate_is_not_met_by_readings_with_an_hour_between_them() -> None:
    assert not view_gate(GATE, [(0.0, 40.5), (3600.0, 40.0)]).met
    assert view_gate(GATE, [(at, 40.0) for at in (3600.0, 3604.0, 3608.0, 3612.0)]).met
