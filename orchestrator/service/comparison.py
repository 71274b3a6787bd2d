"""Comparing what a user selects: variants, places, experiments or single jobs, cell by cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.analysis.agreement import compare_latency
from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Emulation, Scenario
from orchestrator.report.inputs import PairComparison
from orchestrator.report.reading import WITHHELD
from orchestrator.service.context import Context
from orchestrator.service.evidence import Evidence
from orchestrator.service.pairwise import Cell, cells_of, compare_accuracy, measured_jobs
from orchestrator.service.selection import AXES, Selection, SelectionInvalid, axis_value, select

#: What a label tells beside AXES, where two experiments are compared.
EXPERIMENT = "experiment"
#: What latencies are compared by: the median of each job, end to end.
LATENCY_METRIC = "latency_ms.p50"


@dataclass(frozen=True)
class LatencyComparison:
    """Latency of B over that of A: geometric means of the jobs' medians over repeats. Undetermined comes with a ``cause``."""

    a_ms: float | None
    b_ms: float | None
    a_repeats: int
    b_repeats: int
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str
    cause: str | None


@dataclass(frozen=True)
class CellComparison:
    """One pair of cells; what neither side was measured for is None."""

    label_a: str
    label_b: str
    accuracy: PairComparison | None
    accuracy_verdict: str | None
    latency: LatencyComparison | None


@dataclass(frozen=True)
class Comparison:
    """``a`` is the base. ``unmatched`` names cells of either side that have no counterpart."""

    a: str
    b: str
    by: str | None
    pairs: tuple[CellComparison, ...]
    unmatched: tuple[str, ...]


def compare(context: Context, a: str, b: str | None = None, *, by: str | None = None) -> Comparison:
    """Compare selection ``b`` with selection ``a``, cell by cell; with ``by`` along one axis alone, then ``b`` may be None.

    Cells are paired that agree on every axis but those that a selection names, that ``by`` names, or on which each side has one value.
    Raises :class:`orchestrator.service.selection.SelectionInvalid` when a selection cannot be read or no two cells can be paired.
    """
    base = select(context, a)
    other = select(context, b) if b is not None else base
    if b is None and by is None:
        raise SelectionInvalid(
            "one selection alone can be compared with nothing", "name a second one, or an axis: --by variant|environment|device"
        )
    pairs, unmatched = pair_cells(base, other, by, within=b is None)
    if not pairs:
        axes = ", ".join(axis for axis in AXES if axis != by)
        raise SelectionInvalid(
            f"no cell of {a!r} has a counterpart in {b or a!r}",
            f"cells are paired by {axes}; pin an axis on one side (last:environment=NAME) to pair across it",
        )
    evidence = Evidence(context.engine, context.artifacts)
    jobs = [job for cell in (*itertools.chain.from_iterable(pairs), *unmatched) for job in cell]
    varying = [axis for axis in AXES if not _is_one_level(axis, jobs) and len({axis_value(job, axis) for job in jobs}) > 1]
    if len({job.experiment.id for job in jobs}) > 1:
        varying.insert(0, EXPERIMENT)
    found = [_compare_cells(cell_a, cell_b, varying, evidence) for cell_a, cell_b in pairs]
    if all(pair.accuracy is None and pair.latency is None for pair in found):
        raise SelectionInvalid(
            "the two sides were not asked for the same scenario", "compare accuracy jobs with accuracy jobs, latency with latency"
        )
    return Comparison(a, b or a, by, tuple(found), tuple(_label(cell, varying) for cell in unmatched))


# --- pairing -------------------------------------------------------------------------------------------------


def pair_cells(base: Selection, other: Selection, by: str | None, *, within: bool) -> tuple[list[tuple[Cell, Cell]], list[Cell]]:
    """Pair the cells of two selections; ``within`` pairs the first cell (for variants: the reference) of each group with its others."""
    cells_a, cells_b = cells_of(base.envelopes), cells_of(other.envelopes)
    keyed = [
        axis
        for axis in AXES
        if axis != by and (within or not _is_free(axis, base, other)) and not _is_one_level(axis, (*base.envelopes, *other.envelopes))
    ]
    groups_a, groups_b = _grouped(cells_a, keyed), _grouped(cells_b, keyed)
    pairs: list[tuple[Cell, Cell]] = []
    unmatched: list[Cell] = []
    for key in dict.fromkeys((*groups_a, *groups_b)):
        left, right = groups_a.get(key, []), groups_b.get(key, [])
        if within:
            first = next((cell for cell in left if by == "variant" and cell[0].variant.reference), left[0])
            pairs += [(first, cell) for cell in left if cell is not first]
        else:
            matched = [(cell_a, cell_b) for cell_a, cell_b in itertools.product(left, right) if cell_a[0].job.id != cell_b[0].job.id]
            pairs += matched
            unmatched += [] if left and right else [*left, *right]
    return pairs, unmatched


def _grouped(cells: Iterable[Cell], axes: Sequence[str]) -> dict[tuple[str, ...], list[Cell]]:
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(axis_value(cell[0], axis) for axis in axes), []).append(cell)
    return groups


def _is_free(axis: str, base: Selection, other: Selection) -> bool:
    if axis in base.pinned or axis in other.pinned:
        return True
    return all(len({axis_value(item, axis) for item in side.envelopes}) == 1 for side in (base, other))


def _is_one_level(axis: str, jobs: Iterable[ResultEnvelope]) -> bool:
    """TFLite has no graph optimisation level: where ONNX runs at one level only, the axis tells no cell from another."""
    return axis == "graph_optimization" and len({axis_value(item, axis) for item in jobs} - {"none"}) <= 1


def _label(cell: Cell, varying: Sequence[str]) -> str:
    first = cell[0]
    words = [first.experiment.id] if EXPERIMENT in varying else []
    words += [axis_value(first, axis) for axis in varying if axis in ("model", "variant", "device", "environment", "provider")]
    words += [f"{axis}={axis_value(first, axis)}" for axis in varying if axis in ("num_threads", "graph_optimization")]
    words = words or [first.variant.name, *(item.job.id for item in cell if len(cell) == 1)]
    emulated = first.device.emulated if first.device else Emulation.NONE
    return " · ".join(words) + (f" (EMULATED {emulated.value})" if emulated is not Emulation.NONE else "")


def _compare_cells(base: Cell, other: Cell, varying: Sequence[str], evidence: Evidence) -> CellComparison:
    accuracy, verdict = None, None
    sides = [[item for item in cell if item.job.scenario is Scenario.ACCURACY] for cell in (base, other)]
    if all(sides):
        chosen = [(measured_jobs(side, Scenario.ACCURACY) or side)[0] for side in sides]
        accuracy, verdict = compare_accuracy(chosen[0], chosen[1], evidence)
    return CellComparison(_label(base, varying), _label(other, varying), accuracy, verdict, _compare_latencies(base, other))


def _compare_latencies(base: Cell, other: Cell) -> LatencyComparison | None:
    """Compare the repeats' medians; None when one side was not asked for latency at all."""
    if not all(any(item.job.scenario is Scenario.LATENCY for item in cell) for cell in (base, other)):
        return None
    if any(item.device is not None and item.device.emulated is Emulation.CPU for cell in (base, other) for item in cell):
        return LatencyComparison(None, None, 0, 0, None, None, None, "undetermined", WITHHELD)
    values = [
        [metric.value for item in measured_jobs(cell, Scenario.LATENCY) if (metric := item.metric(LATENCY_METRIC))]
        for cell in (base, other)
    ]
    a, b = ([value for value in side if value is not None] for side in values)
    found = compare_latency(a, b)
    return LatencyComparison(
        a_ms=found.reference,
        b_ms=found.candidate,
        a_repeats=found.reference_repeats,
        b_repeats=found.candidate_repeats,
        ratio=found.ratio,
        low=found.interval.low if found.interval else None,
        high=found.interval.high if found.interval else None,
        verdict=found.verdict,
        cause=found.cause,
    )
