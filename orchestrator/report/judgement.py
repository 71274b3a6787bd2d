"""How each variant changed against its reference, and why that is unknown where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from orchestrator.domain.states import Scenario, TaskKind
from orchestrator.report.reading import Matrix, Row
from orchestrator.report.words import clean

#: A variant whose whole interval lies below this many points has collapsed.
COLLAPSE_POINTS = -5.0


class Change(StrEnum):
    """A variant's accuracy against the reference, judged by the 95 % interval of the difference."""

    COLLAPSED = "collapsed"
    WORSE = "worse"
    WITHIN = "within"
    BETTER = "better"
    UNDETERMINED = "undetermined"
    REFERENCE = "reference"


def change_of(row: Row) -> Change:
    """Judge one row; without an interval the answer is undetermined."""
    if row.variant.reference:
        return Change.REFERENCE
    comparison = row.comparison
    if comparison is None or comparison.difference is None or comparison.low is None or comparison.high is None:
        return Change.UNDETERMINED
    # Rates are compared in points (of a hundred) or as fractions; what has another unit (dB) knows no such floor.
    floor = {"points": COLLAPSE_POINTS, "": COLLAPSE_POINTS / 100}.get(comparison.unit)
    if floor is not None and comparison.high < floor:
        return Change.COLLAPSED
    if comparison.high < 0:
        return Change.WORSE
    return Change.BETTER if comparison.low > 0 else Change.WITHIN


def changes_by(rows: Iterable[Row]) -> Counter[Change]:
    return Counter(change_of(row) for row in rows)


def why_undetermined(matrix: Matrix, row: Row) -> str:
    """Say why a row has no difference to the reference."""
    if row.task is TaskKind.TENSOR:
        return "the value beside it is itself measured against the reference; no error is good or bad by itself"
    if row.comparison is not None and row.comparison.cause:
        return clean(row.comparison.cause)
    if not row.measured(Scenario.ACCURACY):
        return "the accuracy of this variant was not measured here"
    reference = matrix.reference_of(row)
    if reference is None or not reference.measured(Scenario.ACCURACY):
        return "the reference variant was not measured in the same place"
    return "the two jobs were not compared sample by sample"


def compared_row(matrix: Matrix, row: Row) -> Row | None:
    """Return the reference row that this row was compared with; it may lie in another place when the reference was not measured here."""
    return matrix.row_of(row.comparison.reference_job_id) if row.comparison is not None else None
