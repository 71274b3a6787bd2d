"""What a table of the report is: cells with what is printed, what it sorts by and the cause behind a dash."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.report.reading import Row, Spread
from orchestrator.report.words import ABSENT, counted, number

#: Characters up to which the name of a place stays on one line.
_SHORT = 22


@dataclass(frozen=True)
class Cell:
    """``kind`` is its look: empty, ``bad``, ``warn``, ``absent``, ``name``, ``short`` (not broken) or ``code``.

    ``small`` stands beneath or beside ``text``; ``sort`` is absent where there is no value, and such rows stay at the end.
    """

    text: str
    sort: float | str | None = None
    title: str = ""
    kind: str = ""
    small: str = ""


@dataclass(frozen=True)
class Column:
    title: str
    hint: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class TableRow:
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    key: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]


def absent(cause: str) -> Cell:
    """A dash that says why there is no number."""
    return Cell(ABSENT, None, cause, "absent")


def latency_cell(spread: Spread, digits: int = 3) -> Cell:
    """A metric over the repeats; the range of the jobs' values stands in the title."""
    if spread.value is None:
        return absent(spread.cause or "not recorded")
    title = f"{counted(spread.repeats, 'repeat')}"
    if spread.repeats > 1:
        title = f"median of {title}, from {number(spread.low, digits)} to {number(spread.high, digits)}"
    return Cell(number(spread.value, digits), spread.value, title)


def name_cell(row: Row) -> Cell:
    """The variant of a row."""
    return Cell(row.name, row.name, "", "name", "reference" if row.variant.reference else "")


def place_cell(row: Row) -> Cell:
    """The place of a row."""
    return Cell(row.place.label, row.place.label, "", "short" if len(row.place.label) <= _SHORT else "")
