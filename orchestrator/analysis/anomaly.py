"""Anomaly detection: area under the ROC curve of the anomaly score, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from orchestrator.analysis.statistics import FloatArray, Interval, Undetermined


@dataclass(frozen=True)
class AucSummary:
    """``interval`` is Undetermined where the area is known and its spread is not: perfect separation, or one sample of a kind."""

    auc: float
    interval: Interval | Undetermined
    normal_count: int
    anomaly_count: int


def auc_delong(scores: FloatArray, anomalous: NDArray[np.bool_], confidence: float = 0.95) -> AucSummary | Undetermined:
    """Area under the ROC curve of ``scores`` (higher means more anomalous), both of shape (n,).

    Variance of DeLong, DeLong and Clarke-Pearson (Biometrics 1988) by the midranks of Sun and Xu (IEEE SPL 2014); the interval is
    made on the logit scale, which keeps it inside (0, 1). A score that is not finite counts as wrong: lowest for an anomaly,
    highest for a normal sample.
    """
    m, n = int(np.count_nonzero(anomalous)), int(np.count_nonzero(~anomalous))
    if m == 0 or n == 0:
        return Undetermined(f"{m} anomalous and {n} normal samples; a curve needs at least one of each")
    of_positive, of_negative = placements(scores, anomalous)
    auc = float(of_positive.mean())
    return AucSummary(auc, _interval(auc, of_positive, of_negative, confidence), n, m)


def auc_difference(
    reference: FloatArray, candidate: FloatArray, anomalous: NDArray[np.bool_], confidence: float = 0.95
) -> Interval | Undetermined:
    """Candidate's area less the reference's over the same samples (DeLong's paired test:

    both are ranked, so their errors are correlated).
    """
    m, n = int(np.count_nonzero(anomalous)), int(np.count_nonzero(~anomalous))
    if m < 2 or n < 2:
        return Undetermined(f"{m} anomalous and {n} normal samples; the spread needs at least two of each")
    base, other = placements(reference, anomalous), placements(candidate, anomalous)
    estimate = float(other[0].mean() - base[0].mean())
    variance = float(np.var(other[0] - base[0], ddof=1)) / m + float(np.var(other[1] - base[1], ddof=1)) / n
    if variance <= 0:
        return Undetermined("both rank every pair of samples alike, so the spread of their difference was not seen")
    half = float(ndtri(0.5 + confidence / 2)) * math.sqrt(variance)
    return Interval(estimate, max(-1.0, estimate - half), min(1.0, estimate + half), confidence, "paired DeLong")


def placements(scores: FloatArray, anomalous: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Share of normal samples that each anomaly is ranked above, and share of anomalies that each normal sample is ranked below;
    ties count half.

    The mean of either is the area under the curve. A score that is not finite counts as wrong.
    """
    scores = np.where(np.isfinite(scores), scores, np.where(anomalous, -np.inf, np.inf))
    positive, negative = scores[anomalous], scores[~anomalous]
    pooled = _midranks(np.concatenate([positive, negative]))
    of_positive: FloatArray = (pooled[: positive.size] - _midranks(positive)) / negative.size
    of_negative: FloatArray = 1 - (pooled[positive.size :] - _midranks(negative)) / positive.size
    return of_positive, of_negative


def _interval(auc: float, of_positive: FloatArray, of_negative: FloatArray, confidence: float) -> Interval | Undetermined:
    if of_positive.size < 2 or of_negative.size < 2:
        return Undetermined("one sample of a kind tells nothing of the spread; 2 are needed")
    variance = float(of_positive.var(ddof=1)) / of_positive.size + float(of_negative.var(ddof=1)) / of_negative.size
    if not 0 < auc < 1 or variance <= 0:
        return Undetermined("the scores separate the samples perfectly, so their spread across the boundary was not seen")
    logit = math.log(auc / (1 - auc))
    half = float(ndtri(0.5 + confidence / 2)) * math.sqrt(variance) / (auc * (1 - auc))
    return Interval(auc, _expit(logit - half), _expit(logit + half), confidence, "DeLong, logit scale")


def _expit(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, ties share the mean of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: FloatArray = (last - (count - 1) / 2)[group]
    return ranks
