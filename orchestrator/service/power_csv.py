"""The CSV file of a power meter, read with a column mapping: times in seconds and power in milliwatts."""

from __future__ import annotations

import csv
import itertools
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.errors import ConfigurationError

MAX_ROWS = 50_000_000
_MAX_LINE_CHARACTERS = 100_000
TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
ISO8601 = "iso8601"
POWER_UNITS = {"W": 1000.0, "mW": 1.0}
VOLTAGE_UNITS = {"V": 1.0, "mV": 1e-3}
CURRENT_UNITS = {"A": 1000.0, "mA": 1.0}


class PowerTraceInvalid(ConfigurationError):
    code = "power_trace_invalid"


@dataclass(frozen=True)
class Mapping:
    """Which columns hold what: by name, or by number counted from 1. Either ``power``, or ``voltage`` and ``current``."""

    time: str
    power: str | None = None
    voltage: str | None = None
    current: str | None = None
    time_unit: str = "s"
    power_unit: str = "W"
    voltage_unit: str = "V"
    current_unit: str = "A"
    delimiter: str = ","
    decimal: str = "."

    def words(self) -> str:
        """Name the columns as a reader of the result must know them."""
        if self.power is not None:
            return f"column {self.power} [{self.power_unit}]"
        return f"columns {self.voltage} [{self.voltage_unit}] × {self.current} [{self.current_unit}]"


@dataclass(frozen=True)
class MeterTrace:
    """``time_secs`` never goes back; it counts from the Unix epoch or from wherever the meter began. Both float64, of one length."""

    time_secs: npt.NDArray[np.float64]
    power_mw: npt.NDArray[np.float64]

    @property
    def is_wall_clock(self) -> bool:
        """Whether the times can be dates at all: after the year 2001."""
        return bool(self.time_secs[0] > 1e9)


def read_power_csv(path: Path, mapping: Mapping) -> MeterTrace:
    """Read the whole file. Raises :class:`PowerTraceInvalid`, which names the line, for anything that is not as the mapping says."""
    columns = _columns(mapping)
    scale, numbers = _scale(mapping), len(columns)
    times, values = array("d"), array("d")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(_bounded(file, path), delimiter=mapping.delimiter)
            rows = ((lines.line_num, row) for row in lines if row and not row[0].lstrip().startswith("#"))
            places, rest = _places(rows, columns, path)
            for line, row in rest:
                if len(row) <= max(places):
                    raise _wrong(path, line, f"it has {len(row)} columns, not the {max(places) + 1} that are needed", "mend or remove it")
                time = _time(row[places[0]], mapping, path, line)
                found = [_number(row[place], mapping, path, line) for place in places[1:]]
                if times and time < times[-1]:
                    raise _wrong(path, line, "its time is before that of the line above", "sort the file by its time column")
                times.append(time)
                values.append(found[0] * scale if numbers == 2 else found[0] * found[1] * scale)
                if len(times) > MAX_ROWS:
                    raise PowerTraceInvalid(f"{path} has more than {MAX_ROWS} rows", "export fewer samples per second")
    except OSError as error:
        raise PowerTraceInvalid(f"{path} cannot be read: {error.strerror}", "name a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PowerTraceInvalid(f"{path} is not a CSV file in UTF-8: {error}", "export it as plain CSV") from error
    if len(times) < 2:
        raise PowerTraceInvalid(f"{path} holds {len(times)} samples", "was it exported completely?")
    return MeterTrace(np.frombuffer(times, np.float64), np.frombuffer(values, np.float64))


def _columns(mapping: Mapping) -> list[str]:
    if mapping.power is not None and mapping.voltage is None and mapping.current is None:
        return [mapping.time, mapping.power]
    if mapping.power is None and mapping.voltage is not None and mapping.current is not None:
        return [mapping.time, mapping.voltage, mapping.current]
    raise PowerTraceInvalid("which columns hold the power?", "name --power COLUMN, or --voltage COLUMN and --current COLUMN")


def _scale(mapping: Mapping) -> float:
    """What turns a value, or a product of two, into milliwatts."""
    if mapping.power is not None:
        return POWER_UNITS[mapping.power_unit]
    return VOLTAGE_UNITS[mapping.voltage_unit] * CURRENT_UNITS[mapping.current_unit]


def _bounded(lines: Any, path: Path) -> Iterator[str]:
    for line in iter(lambda: lines.readline(_MAX_LINE_CHARACTERS), ""):
        if len(line) >= _MAX_LINE_CHARACTERS:
            raise PowerTraceInvalid(f"{path} has a line of more than {_MAX_LINE_CHARACTERS} characters", "is it a CSV file?")
        yield line


_Rows = Iterator[tuple[int, list[str]]]


def _places(rows: _Rows, columns: Sequence[str], path: Path) -> tuple[list[int], _Rows]:
    """Where the columns stand, and the rows below the header (which a file without names need not have)."""
    line, first = next(rows, (1, []))
    header = [cell.strip() for cell in first]
    places = []
    for name in columns:
        if name in header:
            places.append(header.index(name))
        elif name.isdecimal() and 1 <= int(name) <= len(header):
            places.append(int(name) - 1)
        else:
            raise _wrong(path, line, f"there is no column {name!r}", f"it has {', '.join(header[:20]) or 'nothing'}")
    is_data = all(name.isdecimal() and name not in header for name in columns) and _is_data(header[places[-1]])
    return places, itertools.chain([(line, first)], rows) if is_data else rows


def _is_data(cell: str) -> bool:
    return any(character.isdigit() for character in cell) and not any(character.isalpha() and character not in "eE" for character in cell)


def _time(text: str, mapping: Mapping, path: Path, line: int) -> float:
    if mapping.time_unit != ISO8601:
        return _number(text, mapping, path, line) * TIME_UNITS[mapping.time_unit]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise _wrong(path, line, f"{text[:40]!r} is not an ISO 8601 time", "name its unit with --time-unit") from None
    if moment.tzinfo is None:
        raise _wrong(path, line, f"{text[:40]!r} names no time zone", "export times with Z or an offset such as +01:00")
    return moment.timestamp()


def _number(text: str, mapping: Mapping, path: Path, line: int) -> float:
    plain = text.strip() if mapping.decimal == "." else text.strip().replace(mapping.decimal, ".")
    try:
        value = float(plain)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(path, line, f"{text[:40]!r} is not a number", "mend or remove it; --decimal and --delimiter say how it is written")
    return value


def _wrong(path: Path, line: int, what: str, remedy: str) -> PowerTraceInvalid:
    return PowerTraceInvalid(f"{path}:{line}: {what}", remedy)
