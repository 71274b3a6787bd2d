"""The one table of evaluators: how the answers of an accuracy run become metrics, by task. A new task is one function and one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from orchestrator.analysis.accuracy import GroupAccuracy, summarize_classification
from orchestrator.analysis.anomaly import AucSummary, auc_delong
from orchestrator.analysis.metric_names import PRIMARY_METRIC, definition_of
from orchestrator.analysis.samples import MOST_GROUPS, Columns, SampleAnswers, labels_of, slices_of
from orchestrator.analysis.statistics import Interval, Undetermined
from orchestrator.analysis.tensors import compare_outputs
from orchestrator.domain.results import Metric
from orchestrator.domain.states import TaskKind

#: The cause of a tensor task's missing metrics until the reference variant has been measured.
REFERENCE_ABSENT = "the reference variant's outputs are not there"


@dataclass(frozen=True)
class EvaluationInput:
    """What an evaluator may look at; ``answers`` holds ``label`` and one column per slice, one row per sample of the data set."""

    samples: SampleAnswers
    answers: Columns | None = None
    class_names: tuple[str, ...] = ()
    outputs: Mapping[str, Any] | None = None
    reference_outputs: Mapping[str, Any] | None = None


Evaluator: TypeAlias = Callable[[EvaluationInput], tuple[Metric, ...]]

_NO_LABELS = "the data set has no labels"


def evaluate_classification(given: EvaluationInput) -> tuple[Metric, ...]:
    """Top-1 and top-k accuracy with intervals, by class and by slice, mean confidence and calibration error."""
    labels = labels_of(given.answers, given.samples.sample_count)
    if labels is None:
        return _absent(TaskKind.CLASSIFICATION, _NO_LABELS)
    summary = summarize_classification(given.samples, labels, slices_of(given.answers), given.class_names)
    if isinstance(summary, Undetermined):
        return _absent(TaskKind.CLASSIFICATION, summary.cause)
    metrics = [_interval_metric(f"accuracy.top{k}", interval, summary.count) for k, interval in summary.top.items()]
    metrics += [
        _metric("confidence.mean", summary.confidence_mean, summary.count),
        _metric("ece", summary.ece, summary.count),
        *_group_metrics("accuracy.class.", summary.by_class),
    ]
    for column, groups in summary.by_slice.items():
        metrics += _group_metrics(f"accuracy.slice.{column}=", groups)
    return tuple(metrics)


def evaluate_anomaly(given: EvaluationInput) -> tuple[Metric, ...]:
    """Area under the ROC curve, overall and by slice; label 0 is normal, any other an anomaly."""
    labels = labels_of(given.answers, given.samples.sample_count)
    if labels is None:
        return _absent(TaskKind.ANOMALY, _NO_LABELS)
    anomalous = labels[given.samples.sample] != 0
    scores = np.where(given.samples.finite, given.samples.confidence, np.nan).astype(np.float64)
    metrics = [_auc_metric("auc", auc_delong(scores, anomalous), scores.size)]
    for column, values in slices_of(given.answers).items():
        own = values[given.samples.sample]
        names = np.unique(own)
        if names.size > MOST_GROUPS:
            metrics.append(
                _metric(
                    f"auc.slice.{column}=*", Undetermined(f"{names.size} different values; at most {MOST_GROUPS} are told apart"), own.size
                )
            )
            continue
        for name in names:
            chosen = own == name
            metrics.append(_auc_metric(f"auc.slice.{column}={name}", auc_delong(scores[chosen], anomalous[chosen]), int(chosen.sum())))
    return tuple(metrics)


def evaluate_tensor(given: EvaluationInput) -> tuple[Metric, ...]:
    """Error of the full outputs against the reference variant's."""
    if given.outputs is None:
        return _absent(TaskKind.TENSOR, "the run recorded no full outputs")
    if given.reference_outputs is None:
        return _absent(TaskKind.TENSOR, REFERENCE_ABSENT)
    error = compare_outputs(given.reference_outputs, given.outputs)
    if isinstance(error, Undetermined):
        return _absent(TaskKind.TENSOR, error.cause)
    return (
        _metric("sqnr_db", error.sqnr_db, error.count),
        _metric("rmse", error.rmse, error.count),
        _metric("max_abs_error", error.max_abs, error.count),
        _metric("cosine", error.cosine, error.count),
    )


EVALUATORS: dict[TaskKind, Evaluator] = {
    TaskKind.CLASSIFICATION: evaluate_classification,
    TaskKind.ANOMALY: evaluate_anomaly,
    TaskKind.TENSOR: evaluate_tensor,
}


def _absent(task: TaskKind, cause: str) -> tuple[Metric, ...]:
    return (_metric(PRIMARY_METRIC[task], Undetermined(cause), None),)


def _metric(name: str, value: float | Undetermined, count: int | None) -> Metric:
    unit = definition_of(name).unit
    if isinstance(value, Undetermined):
        return Metric(name=name, value=None, unit=unit, count=count, cause=value.cause)
    return Metric(name=name, value=value, unit=unit, count=count)


def _interval_metric(name: str, interval: Interval, count: int) -> Metric:
    return Metric(name=name, value=interval.estimate, unit=definition_of(name).unit, low=interval.low, high=interval.high, count=count)


def _group_metrics(prefix: str, groups: tuple[GroupAccuracy, ...] | Undetermined) -> list[Metric]:
    if isinstance(groups, Undetermined):
        return [_metric(f"{prefix}*", groups, None)]
    return [_interval_metric(f"{prefix}{group.name}", group.accuracy, group.count) for group in groups]


def _auc_metric(name: str, summary: AucSummary | Undetermined, count: int) -> Metric:
    if isinstance(summary, Undetermined):
        return _metric(name, summary, count)
    if isinstance(summary.interval, Undetermined):
        # The area is known; the cause says why it has no interval.
        return Metric(name=name, value=summary.auc, unit=definition_of(name).unit, count=count, cause=summary.interval.cause)
    return _interval_metric(name, summary.interval, count)
