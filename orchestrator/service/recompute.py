"""Metrics anew from the traces that were kept, with this version's analysis; the traces themselves never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.analysis.measure import ANALYSIS_VERSION
from orchestrator.dispatch.measuring import remeasure
from orchestrator.domain.plan import Plan
from orchestrator.domain.results import Metric, ResultEnvelope
from orchestrator.service.context import Context
from orchestrator.store.database import read_session
from orchestrator.store.results import load_envelopes
from orchestrator.store.tables import Experiment


@dataclass(frozen=True)
class MetricChange:
    """A metric that another analysis computes differently; None is absent."""

    job_id: str
    metric: str
    old: float | None
    new: float | None


@dataclass(frozen=True)
class Recomputed:
    experiment_id: str
    job_count: int
    analysis_version: int
    changes: tuple[MetricChange, ...]


def recompute(context: Context, experiment_id: str) -> Recomputed:
    """Rebuild the metrics of an experiment's completed jobs from their traces and replace the old ones, job by job.

    Raises the store's errors for a trace that is gone or damaged; jobs before it then have new metrics, the others their old ones.
    """
    with read_session(context.engine) as opened:
        plan = Plan.model_validate(opened.get_one(Experiment, experiment_id).plan)
    before = _measured(context, experiment_id)
    for envelope in before:
        remeasure(context.engine, context.artifacts, plan, envelope.job.id)
    now = {envelope.job.id: envelope.metrics for envelope in _measured(context, experiment_id)}
    changes = [change for envelope in before for change in _changes(envelope.job.id, envelope.metrics, now[envelope.job.id])]
    return Recomputed(experiment_id, len(before), ANALYSIS_VERSION, tuple(changes))


def _measured(context: Context, experiment_id: str) -> list[ResultEnvelope]:
    with read_session(context.engine) as opened:
        return [item for item in load_envelopes(opened, experiment_id=experiment_id) if item.analysis_version is not None]


def _changes(job_id: str, old: Sequence[Metric], new: Sequence[Metric]) -> list[MetricChange]:
    before = {metric.name: metric.value for metric in old}
    now = {metric.name: metric.value for metric in new}
    names = sorted({*before, *now})
    return [MetricChange(job_id, name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]
