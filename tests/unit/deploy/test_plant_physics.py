"""The plant's physics: two bodies, solved exactly; and steps with hysteresis."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.lab.plant.governor import Steps
from deploy.lab.plant.physics import Bodies
from deploy.lab.plant.settings import Trip

BOARD = Bodies(die_joules_per_c=1.0, board_joules_per_c=5.0, die_c_per_watt=2.0)


def in_small_steps(
    bodies: Bodies, die: float, board: float, secs: float, watts: float, ambient: float, to_air: float
) -> tuple[float, float]:
    """The two differential equations as they are written in textbooks, by Euler's method."""
    count = 200_000
    for _ in range(count):
        across = (die - board) / bodies.die_c_per_watt
        die += (watts - across) / bodies.die_joules_per_c * secs / count
        board += (across - (board - ambient) / to_air) / bodies.board_joules_per_c * secs / count
    return die, board


@pytest.mark.parametrize("secs", [0.05, 1.0, 30.0])
def test_a_step_gives_what_the_equations_of_heat_give(secs: float) -> None:
    exact = BOARD.after(30.0, 28.0, secs, 5.0, 25.0, 12.0)
    assert exact == pytest.approx(in_small_steps(BOARD, 30.0, 28.0, secs, 5.0, 25.0, 12.0), abs=2e-3)


@given(st.lists(st.floats(0.001, 5.0), min_size=1, max_size=30), st.floats(0.0, 10.0), st.floats(-20.0, 60.0))
def test_late_and_early_steps_lead_to_the_same_temperature(steps: list[float], watts: float, ambient: float) -> None:
    die, board = 40.0, 35.0
    for secs in steps:
        die, board = BOARD.after(die, board, secs, watts, ambient, 12.0)
    assert BOARD.after(40.0, 35.0, sum(steps), watts, ambient, 12.0) == pytest.approx((die, board), abs=1e-6)


def test_idle_for_long_it_stands_at_the_power_times_the_resistances_above_the_air() -> None:
    assert BOARD.steady(2.0, 25.0, 12.0) == (25.0 + 2.0 * 14.0, 25.0 + 2.0 * 12.0)
    assert BOARD.after(90.0, 20.0, 10_000.0, 2.0, 25.0, 12.0) == pytest.approx((53.0, 49.0))


def test_the_slow_time_constant_is_the_one_with_which_the_rest_of_a_disturbance_fades() -> None:
    fast, slow = BOARD.time_constants(12.0)
    end = BOARD.steady(5.0, 25.0, 12.0)[0]
    early = end - BOARD.after(25.0, 25.0, 20 * fast, 5.0, 25.0, 12.0)[0]
    late = end - BOARD.after(25.0, 25.0, 20 * fast + slow, 5.0, 25.0, 12.0)[0]
    assert late / early == pytest.approx(math.exp(-1), rel=1e-6)
    assert fast < slow / 10


def test_a_governor_holds_its_state_until_the_die_is_below_the_trip_by_the_hysteresis() -> None:
    steps = Steps([Trip(80.0, 5.0, 0.7), Trip(90.0, 5.0, 0.5)])
    assert [steps.follow(celsius) for celsius in (79.9, 80.0, 76.0, 75.0, 74.9)] == [0, 1, 1, 1, 0]
    assert [steps.follow(celsius) for celsius in (95.0, 85.0, 84.9, 60.0)] == [2, 2, 1, 0]
