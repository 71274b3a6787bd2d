import numpy as np
import pytest
import scipy.stats

from orchestrator.analysis.anomaly import AucSummary, auc_delong, auc_difference
from orchestrator.analysis.statistics import Interval, Undetermined


def _scores(rng: np.random.Generator, normal: int, anomalous: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([rng.normal(0, 1, normal), rng.normal(shift, 1, anomalous)]), np.arange(normal + anomalous) >= normal


def test_area_is_the_mann_whitney_statistic_with_ties_counting_half() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 6, 300).astype(float)
    anomalous = rng.random(300) < 0.3
    summary = auc_delong(scores, anomalous)
    assert isinstance(summary, AucSummary)
    statistic = scipy.stats.mannwhitneyu(scores[anomalous], scores[~anomalous]).statistic
    assert summary.auc == pytest.approx(statistic / (anomalous.sum() * (~anomalous).sum()))


def test_interval_covers_the_true_area_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    truth = scipy.stats.norm.cdf(1.0 / np.sqrt(2))
    covered = 0
    for _ in range(1000):
        summary = auc_delong(*_scores(rng, 80, 60, 1.0))
        assert isinstance(summary, AucSummary)
        assert isinstance(summary.interval, Interval)
        covered += not summary.interval.excludes(truth)
    assert 925 <= covered <= 975


def test_difference_of_two_models_on_the_same_samples_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(3)
    truth = scipy.stats.norm.cdf(1.0 / np.sqrt(3)) - scipy.stats.norm.cdf(1.0 / np.sqrt(2.5))
    covered = 0
    for _ in range(1000):
        base, anomalous = _scores(rng, 80, 80, 1.0)
        worse, better = base + rng.normal(0, np.sqrt(0.5), 160), base + rng.normal(0, 0.5, 160)
        interval = auc_difference(better, worse, anomalous)
        assert isinstance(interval, Interval)
        covered += not interval.excludes(truth)
    assert 925 <= covered <= 975


def test_a_score_that_is_not_finite_counts_as_wrong_whichever_kind_it_belongs_to() -> None:
    scores, anomalous = _scores(np.random.default_rng(4), 40, 40, 2.0)
    sound = auc_delong(scores, anomalous)
    assert isinstance(sound, AucSummary)
    for index in (3, 60):
        broken = scores.copy()
        broken[index] = np.nan
        summary = auc_delong(broken, anomalous)
        assert isinstance(summary, AucSummary)
        assert summary.auc < sound.auc


def test_perfect_separation_has_an_area_of_one_and_no_interval() -> None:
    summary = auc_delong(np.arange(10.0), np.arange(10) >= 5)
    assert isinstance(summary, AucSummary)
    assert summary.auc == 1.0
    assert isinstance(summary.interval, Undetermined)


def test_samples_of_one_kind_have_no_area() -> None:
    answer = auc_delong(np.arange(5.0), np.zeros(5, dtype=bool))
    assert isinstance(answer, Undetermined)
    assert "0 anomalous and 5 normal" in answer.cause
