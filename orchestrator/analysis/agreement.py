"""Two runs side by side, sample by sample or repeat by repeat: what differs, by how much, and whether that can be known.

The first run is always the reference, the second the candidate; a difference is candidate less reference. Results are frozen
dataclasses of plain values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.analysis.anomaly import auc_difference, placements
from orchestrator.analysis.samples import SampleAnswers
from orchestrator.analysis.statistics import Interval, Undetermined, mcnemar_exact, paired_bootstrap, ratio_interval
from orchestrator.analysis.tensors import TensorError, compare_outputs

#: ``same`` means that every answer is the same, not that a difference is small.
Verdict = Literal["better", "worse", "same", "undetermined"]
LatencyVerdict = Literal["faster", "slower", "undetermined"]


@dataclass(frozen=True)
class ClassificationAgreement:
    """Over the ``count`` samples that both runs answered. ``cause`` says why the verdict is undetermined, or why a number is None.

    ``flips_to_wrong`` were right in the reference and are wrong in the candidate, ``flips_to_right`` the reverse.
    ``top1_agreement`` is the share with the same top class (one with a NaN or infinite output agrees with nothing),
    ``bit_exact_share`` the share whose output bytes are the same.
    """

    verdict: Verdict
    cause: str | None
    count: int
    top1_agreement: float | None = None
    bit_exact_share: float | None = None
    reference_accuracy: float | None = None
    candidate_accuracy: float | None = None
    difference: Interval | None = None
    mcnemar_p: float | None = None
    flips_to_wrong: int | None = None
    flips_to_right: int | None = None


@dataclass(frozen=True)
class AnomalyAgreement:
    """Difference of the areas under the ROC curve over the samples that both runs answered."""

    verdict: Verdict
    cause: str | None
    count: int
    bit_exact_share: float | None = None
    reference_auc: float | None = None
    candidate_auc: float | None = None
    difference: Interval | None = None


@dataclass(frozen=True)
class TensorAgreement:
    """Error of the candidate's outputs against the reference's; ``verdict`` is ``same`` or ``undetermined``, for no error is good
    or bad by itself.
    """

    verdict: Verdict
    cause: str | None
    count: int
    bit_exact_share: float | None = None
    error: TensorError | None = None


@dataclass(frozen=True)
class LatencyAgreement:
    """``ratio`` = candidate / reference of geometric means over repeats; None when a side has no value.

    ``interval`` needs two repeats a side.
    """

    verdict: LatencyVerdict
    cause: str | None
    reference_repeats: int
    candidate_repeats: int
    reference: float | None = None
    candidate: float | None = None
    ratio: float | None = None
    interval: Interval | None = None


def compare_classification(
    reference: SampleAnswers,
    candidate: SampleAnswers,
    labels: NDArray[np.int64] | None,
    rng: np.random.Generator,
    *,
    datasets: tuple[str, str] | None = None,
) -> ClassificationAgreement:
    """Compare two accuracy runs; ``labels`` has shape (sample_count,), ``datasets`` are the digests of both data sets where they are known.

    The difference has a paired bootstrap interval and an exact McNemar p-value. ``better`` and ``worse`` need an interval that
    excludes zero.
    """
    obstacle = _obstacle(reference, candidate, datasets)
    if obstacle is not None:
        return ClassificationAgreement("undetermined", obstacle, 0)
    a, b = _rows_in_common(reference, candidate)
    count = a.size
    if count == 0 or min(reference.classes.shape[1], candidate.classes.shape[1]) == 0:
        return ClassificationAgreement("undetermined", "no sample was classified by both", int(count))
    same_class = (reference.classes[a, 0] == candidate.classes[b, 0]) & reference.finite[a] & candidate.finite[b]
    agreement, exact = float(same_class.mean()), _bit_exact_share(reference, candidate, a, b)
    if labels is None:
        return ClassificationAgreement("undetermined", "the data set has no labels", int(count), agreement, exact)
    right_a, right_b = reference.correct(labels)[a], candidate.correct(labels)[b]
    to_wrong, to_right = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    difference = paired_bootstrap(right_a, right_b, rng)
    verdict, cause = _verdict(difference, bool(same_class.all()), _incomplete(reference, candidate, int(count)))
    return ClassificationAgreement(
        verdict=verdict,
        cause=cause,
        count=int(count),
        top1_agreement=agreement,
        bit_exact_share=exact,
        reference_accuracy=float(right_a.mean()),
        candidate_accuracy=float(right_b.mean()),
        difference=difference,
        mcnemar_p=mcnemar_exact(to_wrong, to_right),
        flips_to_wrong=to_wrong,
        flips_to_right=to_right,
    )


def compare_anomaly(
    reference: SampleAnswers, candidate: SampleAnswers, labels: NDArray[np.int64] | None, *, datasets: tuple[str, str] | None = None
) -> AnomalyAgreement:
    """Compare two anomaly runs by the difference of their areas under the ROC curve (paired DeLong); label 0 is normal."""
    obstacle = _obstacle(reference, candidate, datasets)
    if obstacle is not None:
        return AnomalyAgreement("undetermined", obstacle, 0)
    a, b = _rows_in_common(reference, candidate)
    if a.size == 0:
        return AnomalyAgreement("undetermined", "no sample was answered by both", 0)
    exact = _bit_exact_share(reference, candidate, a, b)
    if labels is None:
        return AnomalyAgreement("undetermined", "the data set has no labels", int(a.size), exact)
    anomalous = labels[reference.sample[a]] != 0
    if anomalous.all() or not anomalous.any():
        return AnomalyAgreement("undetermined", "the samples are all of one kind", int(a.size), exact)
    scores_a, scores_b = _scores(reference, a), _scores(candidate, b)
    difference = auc_difference(scores_a, scores_b, anomalous)
    known = None if isinstance(difference, Undetermined) else difference
    verdict: Verdict = "undetermined"
    cause: str | None = difference.cause if isinstance(difference, Undetermined) else None
    if known is not None or exact == 1:
        verdict, cause = _verdict(known, exact == 1, _incomplete(reference, candidate, int(a.size)))
    return AnomalyAgreement(
        verdict=verdict,
        cause=cause,
        count=int(a.size),
        bit_exact_share=exact,
        reference_auc=float(placements(scores_a, anomalous)[0].mean()),
        candidate_auc=float(placements(scores_b, anomalous)[0].mean()),
        difference=known,
    )


def compare_tensors(
    reference: SampleAnswers,
    candidate: SampleAnswers,
    reference_outputs: Mapping[str, Any] | None,
    candidate_outputs: Mapping[str, Any] | None,
    *,
    datasets: tuple[str, str] | None = None,
) -> TensorAgreement:
    """Compare the full outputs of two runs, and their digests where outputs were not recorded."""
    obstacle = _obstacle(reference, candidate, datasets)
    if obstacle is not None:
        return TensorAgreement("undetermined", obstacle, 0)
    a, b = _rows_in_common(reference, candidate)
    if a.size == 0:
        return TensorAgreement("undetermined", "no sample was answered by both", 0)
    exact = _bit_exact_share(reference, candidate, a, b)
    error: TensorError | Undetermined = Undetermined("full outputs were not recorded in both runs")
    if reference_outputs is not None and candidate_outputs is not None:
        error = compare_outputs(reference_outputs, candidate_outputs)
    cause = _incomplete(reference, candidate, int(a.size))
    if cause is None and exact < 1:
        cause = error.cause if isinstance(error, Undetermined) else "the outputs differ; no limit says how much is too much"
    return TensorAgreement(
        verdict="same" if cause is None else "undetermined",
        cause=cause,
        count=int(a.size),
        bit_exact_share=exact,
        error=None if isinstance(error, Undetermined) else error,
    )


def compare_latency(reference: Sequence[float], candidate: Sequence[float]) -> LatencyAgreement:
    """Compare per-job latencies (one value per repeat, any one unit). The verdict needs a 95 % interval of the ratio that excludes 1."""
    interval = ratio_interval(reference, candidate)
    means = [_geometric_mean(values) for values in (reference, candidate)]
    known = None if isinstance(interval, Undetermined) else interval
    verdict: LatencyVerdict = "undetermined"
    cause: str | None = None
    if isinstance(interval, Undetermined):
        cause = interval.cause
    elif not interval.excludes(1):
        cause = f"the 95 % interval of the ratio, {interval.low:.3f} to {interval.high:.3f}, holds 1"
    else:
        verdict = "faster" if interval.high < 1 else "slower"
    return LatencyAgreement(
        verdict=verdict,
        cause=cause,
        reference_repeats=len(reference),
        candidate_repeats=len(candidate),
        reference=means[0],
        candidate=means[1],
        ratio=means[1] / means[0] if means[0] is not None and means[1] is not None else None,
        interval=known,
    )


def _obstacle(reference: SampleAnswers, candidate: SampleAnswers, datasets: tuple[str, str] | None) -> str | None:
    if datasets is not None and datasets[0] != datasets[1]:
        return "the runs used different data sets"
    if reference.sample_count != candidate.sample_count:
        return f"the data sets differ in size: {reference.sample_count} and {candidate.sample_count} samples"
    return None


def _rows_in_common(reference: SampleAnswers, candidate: SampleAnswers) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    _, a, b = np.intersect1d(reference.sample, candidate.sample, assume_unique=True, return_indices=True)
    return a, b


def _bit_exact_share(reference: SampleAnswers, candidate: SampleAnswers, a: NDArray[np.intp], b: NDArray[np.intp]) -> float:
    return float((reference.digest[a] == candidate.digest[b]).mean())


def _incomplete(reference: SampleAnswers, candidate: SampleAnswers, count: int) -> str | None:
    missing = reference.sample_count - count
    return f"{missing} of {candidate.sample_count} samples were not answered by both" if missing else None


def _verdict(difference: Interval | None, all_same: bool, incomplete: str | None) -> tuple[Verdict, str | None]:
    if incomplete is not None:
        return "undetermined", incomplete
    if all_same:
        return "same", None
    if difference is None or not difference.excludes(0):
        return "undetermined", "the 95 % interval of the difference holds zero"
    return ("better" if difference.low > 0 else "worse"), None


def _scores(answers: SampleAnswers, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.where(answers.finite[rows], answers.confidence[rows], np.nan).astype(np.float64)


def _geometric_mean(values: Sequence[float]) -> float | None:
    if not values or not all(math.isfinite(value) and value > 0 for value in values):
        return None
    return math.exp(sum(math.log(value) for value in values) / len(values))
