"""Reads the recorded load pattern of a soak: a CSV file with one column, ``arrival_secs``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

from agent.protocol import MAX_ARRIVALS
from orchestrator.domain.mistakes import did_you_mean

COLUMN = "arrival_secs"
#: So many mistakes of one file are told; a file of another kind would have one on every line.
_MOST_TOLD = 20


@dataclass(frozen=True)
class ArrivalsMistake:
    """What is wrong with one line of the file; lines count from 1."""

    line: int
    message: str
    remedy: str


def read_arrivals(data: bytes, cycle_secs: float) -> tuple[tuple[float, ...], list[ArrivalsMistake]]:
    """Return the arrival times of one cycle, seconds, ascending, or what is wrong with the file (the first mistakes of it).

    Every time is finite, not negative, and before ``cycle_secs``; there are at most MAX_ARRIVALS.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return (), [ArrivalsMistake(data.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text", "save it as UTF-8")]
    reader = csv.reader(io.StringIO(text))
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if header != [COLUMN]:
            remedy = did_you_mean(header[0], [COLUMN]) if len(header) == 1 else f"keep only the column {COLUMN}"
            return (), [ArrivalsMistake(1, f"the first line names {_shown(header)}, not {COLUMN}", remedy)]
        times: list[float] = []
        mistakes: list[ArrivalsMistake] = []
        for mistake in _rows(reader, cycle_secs, times):
            mistakes.append(mistake)
            if len(mistakes) == _MOST_TOLD:
                break
    except csv.Error as error:
        return (), [ArrivalsMistake(reader.line_num, f"it cannot be read as CSV: {error}", "write one number on each line")]
    if not mistakes and not times:
        mistakes.append(ArrivalsMistake(1, "it has no arrivals", "write one number on each line below the header"))
    return (() if mistakes else tuple(times)), mistakes


def _rows(reader: Iterator[list[str]], cycle_secs: float, times: list[float]) -> Iterator[ArrivalsMistake]:
    """Yield the mistakes; what is right goes to ``times``."""
    for row in reader:
        line: int = reader.line_num  # type: ignore[attr-defined]
        if not row:
            continue
        found = _number(row)
        if found is None:
            yield ArrivalsMistake(line, f"{_shown(row)} is not one number of seconds", "write it as 12.5")
        elif not 0 <= found < cycle_secs:
            yield ArrivalsMistake(line, f"{found:g} s is not within the cycle of {cycle_secs:g} s", "raise cycle_secs, or leave it out")
        elif times and found < times[-1]:
            yield ArrivalsMistake(line, f"{found:g} s is before the {times[-1]:g} s above it", "sort the file by time")
        elif len(times) == MAX_ARRIVALS:
            yield ArrivalsMistake(line, f"there are more than {MAX_ARRIVALS} arrivals", "record a shorter cycle; it is repeated")
            return
        else:
            times.append(found)


def _number(row: list[str]) -> float | None:
    try:
        value = float(row[0]) if len(row) == 1 else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _shown(row: list[str]) -> str:
    return repr(", ".join(row)[:60]) if row else "nothing"
