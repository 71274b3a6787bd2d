"""Classification: how often the model is right, overall, by class and by slice, and whether its confidence may be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.analysis.metric_names import CALIBRATION_BINS
from orchestrator.analysis.samples import MOST_GROUPS, SampleAnswers
from orchestrator.analysis.statistics import Interval, Undetermined, wilson_interval


@dataclass(frozen=True)
class GroupAccuracy:
    """Top-1 accuracy of the samples that share something, with their number."""

    name: str
    accuracy: Interval
    count: int


@dataclass(frozen=True)
class ClassificationSummary:
    """Accuracy of one run.

    ``top`` maps k to the share of samples whose label is among the top k; ``by_slice`` maps a column to its groups.
    """

    count: int
    top: dict[int, Interval]
    by_class: tuple[GroupAccuracy, ...] | Undetermined
    by_slice: dict[str, tuple[GroupAccuracy, ...] | Undetermined]
    confidence_mean: float | Undetermined
    ece: float | Undetermined


def summarize_classification(
    answers: SampleAnswers, labels: NDArray[np.int64], slices: dict[str, NDArray[np.str_]], class_names: tuple[str, ...] = ()
) -> ClassificationSummary | Undetermined:
    """Summarize a run over ``labels`` and ``slices``, each of shape (sample_count,).

    Shares are over the answered samples; one with a NaN or infinite output counts as wrong. Intervals are Wilson's at 95 %.
    Undetermined when nothing was answered or the answers hold no classes.
    """
    count = answers.sample.size
    if count == 0:
        return Undetermined("no sample was answered")
    if answers.classes.shape[1] == 0:
        return Undetermined("the answers hold no classes")
    correct = answers.correct(labels)
    # Ranks beyond the classes that the model has are filled with -1: "among the top k" would be trivially true or misleading there.
    ranks = int((answers.classes[answers.finite] >= 0).any(axis=0).sum()) or 1
    own = labels[answers.sample]
    names = np.array([class_names[label] if 0 <= label < len(class_names) else str(label) for label in np.unique(own)])
    confidence = answers.confidence[answers.finite].astype(np.float64)
    return ClassificationSummary(
        count=count,
        top={k: wilson_interval(int(answers.correct(labels, k).sum()), count) for k in sorted({1, ranks})},
        by_class=_by_group(correct, np.unique(own, return_inverse=True)[1], names, "classes"),
        by_slice={column: _by_text(correct, values[answers.sample]) for column, values in slices.items()},
        confidence_mean=_confidence_mean(confidence),
        ece=expected_calibration_error(confidence, correct[answers.finite]),
    )


def expected_calibration_error(
    confidence: NDArray[np.floating[Any]], correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float | Undetermined:
    """Sum over ``bins`` equal bins (a, b] of the share of samples in it times |accuracy - mean confidence| (Guo et al., ICML 2017)."""
    problem = _not_probabilities(confidence)
    if problem is not None:
        return problem
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    gap = np.abs(np.bincount(index, weights=correct, minlength=bins) - np.bincount(index, weights=confidence, minlength=bins))
    return float(gap[count > 0].sum() / confidence.size)


def _confidence_mean(confidence: NDArray[np.float64]) -> float | Undetermined:
    return _not_probabilities(confidence) or float(confidence.mean())


def _not_probabilities(confidence: NDArray[np.floating[Any]]) -> Undetermined | None:
    if confidence.size == 0:
        return Undetermined("no sample has finite outputs")
    # A softmax in 32-bit floats may exceed 1 by a few ulps.
    if not bool(np.all((confidence >= 0) & (confidence <= 1 + 1e-5))):
        return Undetermined("the confidences are no probabilities: check `scores` of the task")
    return None


def _by_text(correct: NDArray[np.bool_], values: NDArray[np.str_]) -> tuple[GroupAccuracy, ...] | Undetermined:
    names, group = np.unique(values, return_inverse=True)
    return _by_group(correct, group, names, "values")


def _by_group(
    correct: NDArray[np.bool_], group: NDArray[np.intp], names: NDArray[np.str_], noun: str
) -> tuple[GroupAccuracy, ...] | Undetermined:
    if names.size > MOST_GROUPS:
        return Undetermined(f"{names.size} different {noun}; at most {MOST_GROUPS} are told apart")
    totals = np.bincount(group, minlength=names.size)
    hits = np.bincount(group, weights=correct, minlength=names.size)
    return tuple(
        GroupAccuracy(str(name), wilson_interval(int(hit), int(total)), int(total))
        for name, hit, total in zip(names, hits, totals, strict=True)
    )
