import math
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.analysis.statistics import (
    MINIMUM_COUNTS,
    Interval,
    Undetermined,
    coefficient_of_variation,
    mcnemar_exact,
    paired_bootstrap,
    ratio_interval,
    supported_percentiles,
    wilson_interval,
)


@given(st.integers(1, 5000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_wilson_interval_is_the_one_scipy_gives(pair: tuple[int, int]) -> None:
    successes, count = pair
    ours = wilson_interval(successes, count)
    theirs = scipy.stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_perfect_accuracy_has_an_interval_that_reaches_one_and_does_not_pass_it() -> None:
    interval = wilson_interval(300, 300)
    assert interval.high == 1.0
    assert 0.98 < interval.low < 1.0


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (5, 4), (-1, 4)])
def test_what_is_no_share_is_refused(successes: int, count: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson_interval(successes, count)


@pytest.mark.parametrize("percentile", MINIMUM_COUNTS)
def test_minimum_counts_follow_from_the_early_stopping_formula(percentile: float) -> None:
    beyond = 1 - percentile / 100
    count = 2
    while scipy.stats.binom.cdf(1, count, beyond) > 0.01:
        count += 1
    assert MINIMUM_COUNTS[percentile] == count


def test_a_percentile_appears_exactly_at_its_minimum_count() -> None:
    assert supported_percentiles(10) == ()
    assert supported_percentiles(11) == (50.0,)
    assert supported_percentiles(661) == (50.0, 90.0, 95.0)
    assert supported_percentiles(6636) == (50.0, 90.0, 95.0, 99.0, 99.9)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(lost: int, gained: int) -> None:
    expected = 1.0 if lost + gained == 0 else scipy.stats.binomtest(min(lost, gained), lost + gained, 0.5).pvalue
    assert mcnemar_exact(lost, gained) == pytest.approx(expected, rel=1e-9)


def _pairs(rng: np.random.Generator, count: int, lost: float, gained: float) -> tuple[np.ndarray, np.ndarray]:
    kind = rng.choice(4, size=count, p=[lost, gained, 0.8 - lost, 0.2 - gained])
    return np.isin(kind, [0, 2]), np.isin(kind, [1, 2])


def test_paired_bootstrap_agrees_with_resampling_the_pairs_one_by_one() -> None:
    reference, candidate = _pairs(np.random.default_rng(1), 800, 0.05, 0.02)
    ours = paired_bootstrap(reference, candidate, np.random.default_rng(2), resamples=20_000)
    difference = candidate.astype(float) - reference
    theirs = scipy.stats.bootstrap((difference,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3), batch=500)
    assert ours.estimate == pytest.approx(difference.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.002)


def test_paired_bootstrap_covers_the_true_difference_about_95_times_in_100() -> None:
    rng = np.random.default_rng(20)
    covered = 0
    for _ in range(1000):
        interval = paired_bootstrap(*_pairs(rng, 1000, 0.04, 0.02), rng, resamples=1000)
        covered += not interval.excludes(0.02 - 0.04)
    # Binomial(1000, .95) stays within these bounds but for 1 in 1000.
    assert 925 <= covered <= 975


def test_answers_that_never_differ_still_leave_a_bound_on_what_was_not_seen() -> None:
    same = np.ones(300, dtype=bool)
    interval = paired_bootstrap(same, same, np.random.default_rng(0))
    assert interval.estimate == 0.0
    # The rule of three, at 97.5 %: -ln(0.025) / 300.
    assert interval.high == pytest.approx(-math.log(0.025) / 300, rel=0.01)
    assert interval.low == -interval.high


def test_the_same_seed_gives_the_same_interval() -> None:
    reference, candidate = _pairs(np.random.default_rng(5), 500, 0.05, 0.05)
    assert paired_bootstrap(reference, candidate, np.random.default_rng(9)) == paired_bootstrap(
        reference, candidate, np.random.default_rng(9)
    )


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        paired_bootstrap(np.ones(3, dtype=bool), np.ones(4, dtype=bool), np.random.default_rng(0))


def test_ratio_interval_is_welchs_t_interval_on_logarithms() -> None:
    reference, candidate = [1.00, 1.05, 0.98], [1.31, 1.22, 1.27, 1.40]
    interval = ratio_interval(reference, candidate)
    theirs = scipy.stats.ttest_ind(np.log(candidate), np.log(reference), equal_var=False).confidence_interval(0.95)
    assert isinstance(interval, Interval)
    assert (interval.low, interval.high) == pytest.approx((math.exp(theirs.low), math.exp(theirs.high)))
    assert interval.estimate == pytest.approx(scipy.stats.gmean(candidate) / scipy.stats.gmean(reference))


def test_ratio_of_three_repeats_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(30)
    covered = 0
    for _ in range(2000):
        interval = ratio_interval(list(np.exp(rng.normal(0, 0.03, 3))), list(1.1 * np.exp(rng.normal(0, 0.03, 3))))
        assert isinstance(interval, Interval)
        covered += not interval.excludes(1.1)
    # Welch is a little conservative at three repeats; never should it cover less.
    assert 1870 <= covered <= 1990


@pytest.mark.parametrize(
    ("reference", "candidate", "why"),
    [
        ([1.0], [1.0, 1.1], "reference has 1 repeat;"),
        ([1.0, 1.1], [], "candidate has 0 repeats"),
        ([1.0, 0.0], [1.0, 1.1], "not a positive"),
        ([1.0, math.nan], [1.0, 1.1], "not a positive"),
        ([1.0, 1.0], [1.0, 1.0], "do not differ"),
    ],
)
def test_a_ratio_that_cannot_be_known_says_why(reference: list[float], candidate: list[float], why: str) -> None:
    answer = ratio_interval(reference, candidate)
    assert isinstance(answer, Undetermined)
    assert why in answer.cause


def test_coefficient_of_variation_is_a_share_of_the_mean() -> None:
    assert coefficient_of_variation(np.array([90, 100, 110], dtype=np.uint32)) == pytest.approx(0.1)
    assert coefficient_of_variation(np.array([5], dtype=np.uint32)) is None
    assert coefficient_of_variation(np.zeros(5, dtype=np.uint32)) is None


def test_ten_thousand_pairs_are_resampled_in_little_memory() -> None:
    """Drawing 10,000 x 10,000 indices would take 800 MB; three counts a resample take well below one."""
    reference, candidate = _pairs(np.random.default_rng(1), 10_000, 0.05, 0.02)
    tracemalloc.start()
    paired_bootstrap(reference, candidate, np.random.default_rng(2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000
