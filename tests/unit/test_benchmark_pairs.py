"""What the performance summary calls pass, fail and undetermined."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from benchmarks.pairs import FAIL, PASS, UNDETERMINED, Bar, Measurement, Round, interleave, judge_ratio, judge_value, median_interval


def clock(generator: random.Random, typical: float, noise: float) -> Callable[[], Measurement]:
    return lambda: {"secs": typical * generator.lognormvariate(0.0, noise)}


def rounds_of(candidate: float, noise: float, count: int = 30) -> list[Round]:
    generator = random.Random(5)
    return interleave(clock(generator, 1.0, noise), clock(generator, candidate, noise), count, seed=1)


@pytest.mark.parametrize(("candidate", "verdict"), [(1.0, PASS), (1.04, PASS), (1.06, FAIL), (1.5, FAIL)])
def test_a_quiet_machine_tells_on_which_side_of_the_bar_a_ratio_lies(candidate: float, verdict: str) -> None:
    assert judge_ratio(rounds_of(candidate, noise=0.005), "secs", Bar(1.05)).verdict == verdict


def test_a_bar_that_the_baseline_alone_reaches_is_undetermined_even_when_the_candidate_looks_good() -> None:
    noisy = judge_ratio(rounds_of(0.5, noise=0.3), "secs", Bar(1.01))
    assert noisy.same is not None
    assert noisy.same.holds(1.01)
    assert noisy.estimate.high < 1.01
    assert noisy.verdict == UNDETERMINED


@pytest.mark.parametrize(("candidate", "verdict"), [(0.9, FAIL), (1.0, PASS), (1.1, FAIL)])
def test_a_bar_with_two_sides_refuses_a_deviation_either_way(candidate: float, verdict: str) -> None:
    assert judge_ratio(rounds_of(candidate, noise=0.005), "secs", Bar(1.05, 0.95)).verdict == verdict


def test_fewer_than_thirty_pairs_decide_nothing() -> None:
    assert judge_ratio(rounds_of(1.0, noise=0.005, count=29), "secs", Bar(1.05)).verdict == UNDETERMINED


def test_an_absolute_value_passes_only_with_its_whole_interval_under_the_bar() -> None:
    assert judge_value([1.0, 1.1, 1.2, 1.1, 1.0], Bar(1.5)).verdict == PASS
    assert judge_value([1.0, 1.1, 1.6, 1.1, 1.0], Bar(1.5)).verdict == UNDETERMINED
    assert judge_value([1.6, 1.7], Bar(1.5)).verdict == FAIL


def test_each_round_measures_the_baseline_twice_and_in_changing_order() -> None:
    turns: list[str] = []

    def turn(name: str) -> Measurement:
        turns.append(name)
        return {"secs": 1.0}

    interleave(lambda: turn("A"), lambda: turn("B"), 20, seed=3)
    orders = {"".join(turns[start : start + 3]) for start in range(0, 60, 3)}
    assert orders == {"AAB", "ABA", "BAA"}


@pytest.mark.parametrize("count", [6, 7, 30, 31, 100])
def test_the_interval_of_a_median_holds_the_true_one_in_at_least_95_percent_of_cases(count: int) -> None:
    generator = random.Random(count)
    trials = 2000
    held = sum(median_interval([generator.expovariate(1.0) for _ in range(count)]).holds(0.6931471805599453) for _ in range(trials))
    assert held / trials > 0.94


def test_thirty_values_give_the_interval_of_the_textbook() -> None:
    interval = median_interval(list(range(1, 31)))
    assert (interval.low, interval.median, interval.high) == (10, 15.5, 21)
