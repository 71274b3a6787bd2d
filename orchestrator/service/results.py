"""An experiment's results as rows: one for each variant in each place, with everything a table says of it.

The rows are those of the report (``report.reading``), turned into plain records; the command line and ``--json`` read nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.results import Metric, Reason, ResultEnvelope
from orchestrator.domain.states import Emulation, JobOutcome, JobState, Scenario
from orchestrator.domain.thermal import ThrottleCause
from orchestrator.report.findings import Finding, findings
from orchestrator.report.inputs import PairComparison, ReportExtras, ReportInput
from orchestrator.report.node_placement import worst_placement
from orchestrator.report.reading import Matrix, Row, Spread, is_measured, outcome_counts, read_matrix
from orchestrator.service.context import Context
from orchestrator.service.evidence import Evidence
from orchestrator.service.pairwise import compare_across_places, compare_with_references
from orchestrator.store.database import read_session
from orchestrator.store.results import load_envelopes

#: The family of metrics that tell when each sign of throttling was first there; the rest of a name is the sign.
THROTTLE_SIGNS = "throttle_sign_secs."


@dataclass(frozen=True)
class Problem:
    """Why some jobs of a row were not measured; equal problems of several jobs are one."""

    outcome: str
    scenario: str
    code: str
    message: str
    remedy: str
    job_ids: tuple[str, ...]


@dataclass(frozen=True)
class SoakColumns:
    """What a row's soaks came to, over their repeats. ``throttled`` counts repeats that did, ``told`` those of which it is known;
    ``throttle_signs`` are what showed it, the deciding one of each repeat. ``changed_samples`` are probe samples whose outputs changed.
    """

    sustained_burst: Spread
    degradation_percent: Spread
    time_to_throttle_secs: Spread
    throttled: int
    told: int
    throttle_signs: tuple[str, ...]
    changed_samples: Spread
    job_ids: tuple[str, ...]


@dataclass(frozen=True)
class ResultRow:
    """One variant in one place.

    ``accuracy`` is the task's main ``metric`` of the first repeat; ``deterministic`` tells whether all repeats gave the same output
    digests (None below two repeats). ``against_reference`` compares it with the reference variant, in ``reference_place`` when that is
    another place. ``p50_ms`` and ``p90_ms`` are medians over the repeats of each job's end-to-end percentile, with the range of the
    repeats; None with a cause on an emulated CPU. ``validity`` is the worst of its jobs. ``fallback`` says which nodes run elsewhere than
    on the provider asked for, None when none does.
    """

    model: str
    variant: str
    reference: bool
    runtime: str
    precision: str
    quantization: str
    device: str | None
    environment: str
    num_threads: int
    provider: str
    graph_optimization: str | None
    place: str
    emulated: str
    metric: str
    unit: str
    factor: float
    decimals: int
    sample_count: int
    accuracy: Metric | None
    deterministic: bool | None
    against_reference: PairComparison | None
    reference_place: str | None
    p50_ms: Spread
    p90_ms: Spread
    soak: SoakColumns | None
    validity: str | None
    reasons: tuple[Reason, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]
    fallback: str | None
    problems: tuple[Problem, ...]
    job_ids: tuple[str, ...]
    scenarios: tuple[str, ...]
    measured_count: int


@dataclass(frozen=True)
class ElsewhereRow:
    """One variant in two places, held against each other sample by sample."""

    model: str
    variant: str
    place: str
    base_place: str
    comparison: PairComparison


@dataclass(frozen=True)
class ExperimentTable:
    """``counts`` maps outcomes (and ``still STATE``) to numbers of jobs; ``unmeasured_count`` counts error, timeout and canceled.

    ``findings`` are those that open the report, worst first.
    """

    experiment_id: str
    name: str
    submitted_utc: str
    edgematrix_version: str
    job_count: int
    counts: dict[str, int]
    unmeasured_count: int
    emulated_devices: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    elsewhere: tuple[ElsewhereRow, ...]
    findings: tuple[Finding, ...]


def experiment_table(context: Context, experiment_id: str) -> ExperimentTable:
    """Return the table of an experiment, also of one that still runs."""
    with read_session(context.engine) as opened:
        envelopes = load_envelopes(opened, experiment_id=experiment_id)
    evidence = Evidence(context.engine, context.artifacts)
    comparisons = (*compare_with_references(envelopes, evidence), *compare_across_places(envelopes, evidence))
    return tabulate(envelopes, comparisons)


def find_job(context: Context, job_id: str) -> ResultEnvelope | None:
    """Return what is known of one job; None when no job has that id."""
    with read_session(context.engine) as opened:
        return next(iter(load_envelopes(opened, job_ids=[job_id])), None)


def tabulate(envelopes: Sequence[ResultEnvelope], comparisons: Sequence[PairComparison]) -> ExperimentTable:
    """Arrange the envelopes of one experiment (at least one) and what was compared beforehand as a table."""
    matrix = read_matrix(ReportInput(results=envelopes, extras=ReportExtras(comparisons=tuple(comparisons))))
    experiment = envelopes[0].experiment
    unmeasured = (JobOutcome.ERROR, JobOutcome.TIMEOUT, JobOutcome.CANCELED)
    emulated = {item.device.name for item in envelopes if item.device and item.device.emulated is not Emulation.NONE}
    return ExperimentTable(
        experiment_id=experiment.id,
        name=experiment.name,
        submitted_utc=experiment.submitted_utc,
        edgematrix_version=experiment.edgematrix_version,
        job_count=len(envelopes),
        counts=outcome_counts(envelopes),
        unmeasured_count=sum(item.job.outcome in unmeasured for item in envelopes),
        emulated_devices=tuple(sorted(emulated)),
        rows=tuple(_row(row, matrix) for row in matrix.rows),
        elsewhere=tuple(
            ElsewhereRow(row.model, row.name, row.place.label, base.place.label, comparison) for row, base, comparison in matrix.elsewhere
        ),
        findings=tuple(findings(matrix)),
    )


def _row(row: Row, matrix: Matrix) -> ResultRow:
    variant, quality = row.variant, row.quality
    placed = worst_placement(filter(is_measured, row.jobs))
    reference = matrix.row_of(row.comparison.reference_job_id) if row.comparison else None
    return ResultRow(
        model=row.model,
        variant=row.name,
        reference=variant.reference,
        runtime=variant.runtime,
        precision=variant.precision,
        quantization=variant.quantization,
        device=row.jobs[0].device.name if row.jobs[0].device else None,
        environment=row.place.environment,
        num_threads=row.place.num_threads,
        provider=row.place.provider,
        graph_optimization=row.place.graph_optimization,
        place=row.place.label,
        emulated=row.place.device.emulated.value,
        metric=quality.metric,
        unit=quality.unit,
        factor=quality.factor,
        decimals=quality.decimals,
        sample_count=row.jobs[0].dataset.sample_count,
        accuracy=row.accuracy,
        deterministic=_deterministic(row),
        against_reference=row.comparison,
        reference_place=reference.place.label if reference is not None and not reference.place.matches(row.place) else None,
        p50_ms=row.latency("latency_ms.p50"),
        p90_ms=row.latency("latency_ms.p90"),
        soak=_soak(row),
        validity=row.level.value if row.level else None,
        reasons=row.reasons,
        unknown=tuple(dict.fromkeys(text for job in row.jobs if job.validity for text in job.validity.unknown)),
        notes=variant.notes,
        fallback=placed.fallback_text or None if placed else None,
        problems=_problems(row.jobs),
        job_ids=tuple(job.job.id for job in row.jobs),
        scenarios=tuple(sorted({job.job.scenario.value for job in row.jobs})),
        measured_count=sum(map(is_measured, row.jobs)),
    )


def _soak(row: Row) -> SoakColumns | None:
    jobs = row.measured(Scenario.SOAK)
    if not jobs:
        return None
    fractions = [metric.value for job in jobs if (metric := job.metric("throttled_fraction")) is not None and metric.value is not None]
    return SoakColumns(
        sustained_burst=row.soak("sustained_burst"),
        degradation_percent=row.soak("degradation_percent"),
        time_to_throttle_secs=row.soak("time_to_throttle_secs"),
        throttled=sum(_value(job, "time_to_throttle_secs") is not None for job in jobs),
        told=max(len(fractions), sum(_value(job, "time_to_throttle_secs") is not None for job in jobs)),
        throttle_signs=tuple(dict.fromkeys(sign for job in jobs if (sign := _deciding_sign(job)))),
        changed_samples=row.soak("probe_changed_samples"),
        job_ids=tuple(job.job.id for job in jobs),
    )


def _value(job: ResultEnvelope, name: str) -> float | None:
    metric = job.metric(name)
    return metric.value if metric else None


def _deciding_sign(job: ResultEnvelope) -> str | None:
    """The surest of the signs of throttling that came when the onset is told."""
    onset = _value(job, "time_to_throttle_secs")
    if onset is None:
        return None
    return next((cause.value for cause in ThrottleCause if _value(job, THROTTLE_SIGNS + cause.value) == onset), None)


def _deterministic(row: Row) -> bool | None:
    """Equal samples give equal traces and so equal names: the digests need not be read."""
    traces = [job.traces["samples"].sha256 for job in row.measured(Scenario.ACCURACY) if "samples" in job.traces]
    return len(set(traces)) == 1 if len(traces) > 1 else None


def _problems(jobs: Sequence[ResultEnvelope]) -> tuple[Problem, ...]:
    found: dict[tuple[str, str, str, str, str], list[str]] = {}
    for item in jobs:
        if item.job.state is not JobState.FINISHED or item.job.outcome is None or is_measured(item):
            continue
        error = item.job.error
        key = (
            item.job.outcome.value,
            item.job.scenario.value,
            error.code if error else "",
            error.message if error else "",
            error.remedy if error else "",
        )
        found.setdefault(key, []).append(item.job.id)
    return tuple(Problem(*key, tuple(ids)) for key, ids in found.items())
