"""How results are read: job envelopes become the rows of the matrix, one for each variant in each place.

The one rule that must hold everywhere is applied here: what an emulated CPU took in time is never handed on.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from orchestrator.analysis.metric_names import METRICS, PRIMARY_METRIC
from orchestrator.domain.results import DeviceInfo, Metric, Reason, ResultEnvelope, VariantInfo
from orchestrator.domain.states import Emulation, JobOutcome, JobState, Scenario, TaskKind, Validity
from orchestrator.report.inputs import LatencyDistribution, PairComparison, ReportInput, TelemetrySeries
from orchestrator.report.words import clean, fixed, number, signed

WITHHELD = "withheld: the CPU is emulated, so its times say nothing about the device"

_LEVELS = (Validity.VALID, Validity.SEMIVALID, Validity.INVALID)
_NOT_PLACED = DeviceInfo(name="no device", profile="")


@dataclass(frozen=True)
class Place:
    """One column of the matrix: a device with an environment and settings. ``label`` says only what tells it from the others."""

    device: DeviceInfo
    environment: str
    num_threads: int
    provider: str
    graph_optimization: str | None
    label: str = ""

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        return (self.device.name, self.environment, self.num_threads, self.provider, self.graph_optimization or "")

    @property
    def times_withheld(self) -> bool:
        return self.device.emulated is Emulation.CPU

    def matches(self, other: Place) -> bool:
        levels = {self.graph_optimization, other.graph_optimization}
        return self.key[:-1] == other.key[:-1] and (len(levels) == 1 or None in levels)


@dataclass(frozen=True)
class Spread:
    """One metric over the repeats of a cell: the median of the jobs' values and their range. ``value`` is None with a ``cause``."""

    value: float | None
    low: float | None
    high: float | None
    repeats: int
    cause: str | None = None


@dataclass(frozen=True)
class Quality:
    """How the task's main metric is written: ``factor`` turns the stored value into what is printed, in ``unit``."""

    metric: str
    title: str
    unit: str
    difference_unit: str
    factor: float
    decimals: int

    def text(self, value: float | None) -> str:
        return fixed(None if value is None else value * self.factor, self.decimals)

    def difference(self, comparison: PairComparison) -> tuple[float | None, float | None, float | None]:
        """Return difference, low and high in the printed unit."""
        factor = self.factor / 100.0 if comparison.unit == "points" else self.factor
        scaled = [None if value is None else value * factor for value in (comparison.difference, comparison.low, comparison.high)]
        return scaled[0], scaled[1], scaled[2]

    def signed(self, value: float | None) -> str:
        return signed(value, self.decimals)


QUALITIES = {
    TaskKind.CLASSIFICATION: Quality(PRIMARY_METRIC[TaskKind.CLASSIFICATION], "Accuracy", "%", "points", 100.0, 1),
    TaskKind.ANOMALY: Quality(PRIMARY_METRIC[TaskKind.ANOMALY], "AUC", "", "", 1.0, 3),
    TaskKind.TENSOR: Quality(PRIMARY_METRIC[TaskKind.TENSOR], "SQNR", "dB", "dB", 1.0, 1),
}


@dataclass(frozen=True)
class Row:
    """One variant in one place, with all its jobs."""

    model: str
    task: TaskKind
    variant: VariantInfo
    place: Place
    jobs: tuple[ResultEnvelope, ...]
    comparison: PairComparison | None
    distributions: tuple[LatencyDistribution, ...]

    @property
    def name(self) -> str:
        return clean(self.variant.name, 120)

    @property
    def quality(self) -> Quality:
        return QUALITIES[self.task]

    def measured(self, scenario: Scenario) -> list[ResultEnvelope]:
        return [job for job in self.jobs if job.job.scenario is scenario and job.job.outcome is JobOutcome.COMPLETED]

    def metric_names(self, prefix: str) -> list[str]:
        return sorted({metric.name for job in self.jobs for metric in job.metrics if metric.name.startswith(prefix)})

    @cached_property
    def accuracy(self) -> Metric | None:
        """The task's main metric of the first measured accuracy job; later repeats are shown in the list of jobs."""
        jobs = sorted(self.measured(Scenario.ACCURACY), key=lambda job: job.job.repeat)
        return jobs[0].metric(self.quality.metric) if jobs else None

    def slice_metric(self, name: str) -> Metric | None:
        return next((metric for job in self.measured(Scenario.ACCURACY) if (metric := job.metric(name)) is not None), None)

    def latency(self, name: str) -> Spread:
        """Return a metric of the latency jobs over their repeats; withheld for an emulated CPU, whatever the envelopes hold."""
        return self._spread(name, Scenario.LATENCY)

    def soak(self, name: str) -> Spread:
        """Return a metric of the soaks over their repeats; withheld for an emulated CPU as latency is."""
        return self._spread(name, Scenario.SOAK)

    def _spread(self, name: str, scenario: Scenario) -> Spread:
        if self.place.times_withheld:
            return Spread(None, None, None, 0, WITHHELD)
        jobs = self.measured(scenario)
        if not jobs:
            return Spread(None, None, None, 0, f"no {scenario} job of this cell was measured")
        metrics = [metric for job in jobs if (metric := job.metric(name)) is not None]
        values = [metric.value for metric in metrics if metric.value is not None]
        if not values:
            causes = [metric.cause for metric in metrics if metric.cause]
            return Spread(None, None, None, len(jobs), clean(causes[0]) if causes else f"{name} was not recorded")
        return Spread(statistics.median(values), min(values), max(values), len(values))

    @cached_property
    def level(self) -> Validity | None:
        """The worst validity among the measured jobs; None when nothing was measured."""
        found = [job.validity.level for job in self.jobs if job.validity is not None]
        return max(found, key=_LEVELS.index) if found else None

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        seen: dict[str, Reason] = {}
        for job in self.jobs:
            for reason in job.validity.reasons if job.validity else ():
                seen.setdefault(reason.code, reason)
        return tuple(seen.values())


@dataclass(frozen=True)
class Matrix:
    """All rows, in the order of the spec: models, then places, then variants with the reference first."""

    rows: tuple[Row, ...]
    places: tuple[Place, ...]
    results: tuple[ResultEnvelope, ...]
    elsewhere: tuple[tuple[Row, Row, PairComparison], ...]
    telemetry: tuple[TelemetrySeries, ...]

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(row.model for row in self.rows))

    def of(self, model: str, place: Place | None = None) -> list[Row]:
        return [row for row in self.rows if row.model == model and (place is None or row.place.key == place.key)]

    def reference_of(self, row: Row) -> Row | None:
        """Return the reference variant's row in the same place, but for a graph optimisation level that only one of both runtimes has."""
        return next(
            (other for other in self.rows if other.variant.reference and other.model == row.model and other.place.matches(row.place)), None
        )

    def row_of(self, job_id: str) -> Row | None:
        return self._rows_by_job.get(job_id)

    @cached_property
    def _rows_by_job(self) -> dict[str, Row]:
        return {job.job.id: row for row in self.rows for job in row.jobs}


def read_matrix(report: ReportInput) -> Matrix:
    """Arrange the envelopes as rows and attach to each row what was compared and reduced beforehand."""
    results = tuple(report.results)
    levels = {result.job.settings.graph_optimization for result in results} - {None}
    place_of = partial(_place_of, one_level=len(levels) == 1)
    places = _places([place_of(result) for result in results])
    by_id = {result.job.id: result for result in results}
    comparisons = {item.job_id: item for item in report.extras.comparisons if _is_against_reference(item, by_id)}
    distributions = {item.job_id: item for item in report.extras.latencies}
    groups: dict[tuple[str, str, tuple[str, str, int, str, str]], list[ResultEnvelope]] = {}
    for result in results:
        groups.setdefault((result.variant.model, result.variant.name, place_of(result).key), []).append(result)
    rows = []
    for (model, _, key), jobs in groups.items():
        place = places[key]
        chosen = next((comparisons[job.job.id] for job in sorted(jobs, key=lambda job: job.job.repeat) if job.job.id in comparisons), None)
        shapes = () if place.times_withheld else tuple(distributions[job.job.id] for job in jobs if job.job.id in distributions)
        rows.append(Row(clean(model, 120), jobs[0].job.task, jobs[0].variant, place, tuple(jobs), chosen, shapes))
    order = list(places)
    models = list(dict.fromkeys(row.model for row in rows))
    rows.sort(key=lambda row: (models.index(row.model), order.index(row.place.key), not row.variant.reference))
    matrix = Matrix(tuple(rows), tuple(places.values()), results, (), report.extras.telemetry)
    elsewhere = []
    for item in report.extras.comparisons:
        row, other = matrix.row_of(item.job_id), matrix.row_of(item.reference_job_id)
        if row is not None and other is not None and row.variant.name == other.variant.name and row.place.key != other.place.key:
            elsewhere.append((row, other, item))
    return replace(matrix, elsewhere=tuple(elsewhere))


def outcome_counts(results: Iterable[ResultEnvelope]) -> dict[str, int]:
    """Count the jobs by outcome; a job that has none yet counts under its state."""
    counts: dict[str, int] = {}
    for result in results:
        word = (
            str(result.job.outcome)
            if result.job.outcome is not None and result.job.state is JobState.FINISHED
            else f"still {result.job.state}"
        )
        counts[word] = counts.get(word, 0) + 1
    return counts


def is_measured(result: ResultEnvelope) -> bool:
    return result.job.outcome is JobOutcome.COMPLETED


def spread_text(spread: Spread) -> str:
    """Return the median over the repeats; the range of the repeats stands in the title of the cell."""
    return number(spread.value)


def metric_title(name: str) -> str:
    definition = METRICS.get(name)
    return definition.meaning if definition else name


def _is_against_reference(item: PairComparison, by_id: Mapping[str, ResultEnvelope]) -> bool:
    job, reference = by_id.get(item.job_id), by_id.get(item.reference_job_id)
    if job is None or reference is None:
        return False
    return reference.variant.reference and not job.variant.reference and job.variant.model == reference.variant.model


def _place_of(result: ResultEnvelope, one_level: bool) -> Place:
    """With ``one_level`` for the whole experiment, graph optimisation tells no place from another (TFLite has none at all)."""
    settings = result.job.settings
    level = None if one_level else settings.graph_optimization
    return Place(result.device or _NOT_PLACED, result.job.environment, settings.num_threads, settings.provider, level)


def _places(candidates: Sequence[Place]) -> dict[tuple[str, str, int, str, str], Place]:
    """Name each place by its device and by whatever else varies over the experiment."""
    found: dict[tuple[str, str, int, str, str], Place] = {}
    for place in candidates:
        found.setdefault(place.key, place)
    parts: list[tuple[Callable[[Place], object], Callable[[Place], str]]] = [
        (lambda place: place.environment, lambda place: clean(place.environment, 60)),
        (lambda place: place.num_threads, lambda place: f"{place.num_threads} threads" if place.num_threads != 1 else "1 thread"),
        (lambda place: place.provider, lambda place: clean(place.provider, 60)),
    ]
    varying = [text for value, text in parts if len({value(place) for place in found.values()}) > 1]
    if len({place.graph_optimization for place in found.values()} - {None}) > 1:
        varying.append(lambda place: f"optimization {clean(place.graph_optimization, 30)}" if place.graph_optimization else "")
    labelled = {}
    for key, place in found.items():
        words = [clean(place.device.name, 80), *(text(place) for text in varying)]
        label = " · ".join(word for word in words if word)
        if place.device.emulated is not Emulation.NONE:
            label += f" (emulated: {place.device.emulated})"
        labelled[key] = replace(place, label=label)
    return labelled
