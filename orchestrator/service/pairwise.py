"""Two accuracy jobs side by side, sample by sample: what tables and reports show beside every result, and what ``compare`` is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from agent import protocol
from orchestrator.analysis.agreement import (
    AnomalyAgreement,
    ClassificationAgreement,
    TensorAgreement,
    compare_anomaly,
    compare_classification,
    compare_tensors,
)
from orchestrator.analysis.samples import SampleAnswers, check_samples, labels_of
from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import JobOutcome, Scenario, TaskKind
from orchestrator.report.inputs import PairComparison
from orchestrator.service.evidence import Evidence
from orchestrator.service.selection import AXES, axis_value

#: All jobs of one variant in one place.
Cell = tuple[ResultEnvelope, ...]


def cells_of(envelopes: Iterable[ResultEnvelope]) -> list[Cell]:
    """Group jobs by experiment and by every axis, in the order of first appearance."""
    found: dict[tuple[str, ...], list[ResultEnvelope]] = {}
    for item in envelopes:
        found.setdefault((item.experiment.id, *(axis_value(item, axis) for axis in AXES)), []).append(item)
    return [tuple(cell) for cell in found.values()]


def measured_jobs(cell: Iterable[ResultEnvelope], scenario: Scenario) -> list[ResultEnvelope]:
    """Return the completed jobs of a scenario, first repeat first."""
    jobs = [item for item in cell if item.job.scenario is scenario and item.job.outcome is JobOutcome.COMPLETED]
    return sorted(jobs, key=lambda item: item.job.repeat)


def compare_with_references(envelopes: Sequence[ResultEnvelope], evidence: Evidence) -> Iterator[PairComparison]:
    """Compare the first accuracy repeat of every cell with that of its model's reference variant, in the nearest place there is."""
    chosen = [jobs[0] for cell in cells_of(envelopes) if (jobs := measured_jobs(cell, Scenario.ACCURACY))]
    references = [job for job in chosen if job.variant.reference]
    for job in chosen:
        candidates = [item for item in references if item.variant.model == job.variant.model]
        if not job.variant.reference and candidates:
            yield compare_accuracy(min(candidates, key=lambda item: _distance(item, job)), job, evidence)[0]


def compare_across_places(envelopes: Sequence[ResultEnvelope], evidence: Evidence) -> Iterator[PairComparison]:
    """Compare every variant with itself elsewhere: the first place (device, environment, settings) that measured it with each other one."""
    first: dict[tuple[str, str], ResultEnvelope] = {}
    for cell in cells_of(envelopes):
        measured = measured_jobs(cell, Scenario.ACCURACY)
        if not measured:
            continue
        base = first.setdefault((measured[0].variant.model, measured[0].variant.name), measured[0])
        if base is not measured[0]:
            yield compare_accuracy(base, measured[0], evidence)[0]


def compare_accuracy(reference: ResultEnvelope, job: ResultEnvelope, evidence: Evidence) -> tuple[PairComparison, str]:
    """Compare two accuracy jobs sample by sample; the second value is the verdict: better, worse, same or undetermined.

    Deterministic: the bootstrap is seeded by what is compared. A rate's difference is in percentage points.
    """
    nothing = PairComparison(job.job.id, reference.job.id, 0)
    for side, name in ((reference, "the base"), (job, "this job")):
        if protocol.SAMPLES not in side.traces:
            return replace(nothing, cause=f"{name} ({side.job.id}) was not measured"), "undetermined"
    if reference.job.task is not job.job.task:
        return replace(nothing, cause="the tasks differ"), "undetermined"
    agreement = _agreement(reference, job, evidence)
    if isinstance(agreement, TensorAgreement):
        cause = agreement.cause if agreement.error is None else None
        found = replace(nothing, sample_count=agreement.count, unit="dB", bit_exact_share=agreement.bit_exact_share, cause=cause)
        return found, agreement.verdict
    # That an interval holds zero is the verdict's cause; here a cause is why a number is missing or stands on fewer samples.
    cause = agreement.cause if agreement.difference is None or agreement.count < job.dataset.sample_count else None
    factor, unit = (100.0, "points") if isinstance(agreement, ClassificationAgreement) else (1.0, "")
    difference = agreement.difference
    pair = replace(
        nothing,
        sample_count=agreement.count,
        difference=None if difference is None else factor * difference.estimate,
        low=None if difference is None else factor * difference.low,
        high=None if difference is None else factor * difference.high,
        unit=unit,
        mcnemar_p=getattr(agreement, "mcnemar_p", None),
        flips_to_wrong=getattr(agreement, "flips_to_wrong", None),
        flips_to_right=getattr(agreement, "flips_to_right", None),
        agreement=getattr(agreement, "top1_agreement", None),
        bit_exact_share=agreement.bit_exact_share,
        cause=cause,
    )
    return pair, agreement.verdict


def _agreement(
    reference: ResultEnvelope, job: ResultEnvelope, evidence: Evidence
) -> ClassificationAgreement | AnomalyAgreement | TensorAgreement:
    a, b = _answers(reference, evidence), _answers(job, evidence)
    datasets = (evidence.dataset_identity(reference), evidence.dataset_identity(job))
    if job.job.task is TaskKind.TENSOR:
        outputs = [evidence.trace(item, protocol.OUTPUTS) for item in (reference, job)]
        return compare_tensors(a, b, *outputs, datasets=datasets)
    labels = labels_of(evidence.answers(job), job.dataset.sample_count)
    if job.job.task is TaskKind.ANOMALY:
        return compare_anomaly(a, b, labels, datasets=datasets)
    seed = hashlib.sha256(f"{reference.traces[protocol.SAMPLES].sha256} {job.traces[protocol.SAMPLES].sha256}".encode()).digest()
    return compare_classification(a, b, labels, np.random.default_rng(int.from_bytes(seed[:8], "little")), datasets=datasets)


def _answers(job: ResultEnvelope, evidence: Evidence) -> SampleAnswers:
    samples = evidence.trace(job, protocol.SAMPLES)
    assert samples is not None  # the caller has looked
    return check_samples(samples, job.dataset.sample_count)


def _distance(reference: ResultEnvelope, job: ResultEnvelope) -> tuple[bool, ...]:
    """How far a reference's place is from a job's: the device counts most, a graph optimization level least (TFLite has none)."""
    axes = ("device", "environment", "provider", "num_threads", "graph_optimization")
    return tuple(axis_value(reference, axis) != axis_value(job, axis) for axis in axes)
