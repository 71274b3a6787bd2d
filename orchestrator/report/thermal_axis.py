"""The axis of time of a soak, which may last a minute or a week, and the lines that are drawn along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.report.figure import Axis, Line, linear_axis
from orchestrator.report.inputs import SeriesLine

_UNITS = ((7_200.0, 3_600.0, "hours"), (600.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def time_axis(low_s: float, high_s: float) -> Axis:
    """An axis whose positions are seconds and whose ticks are round in the unit that the length asks for."""
    _, factor, unit = next(entry for entry in _UNITS if high_s - low_s >= entry[0])
    axis = linear_axis(f"{unit} from the first steady query", low_s / factor, high_s / factor, 8)
    return replace(axis, low=axis.low * factor, high=axis.high * factor, ticks=tuple((at * factor, text) for at, text in axis.ticks))


def value_axis(values: Sequence[float], from_zero: bool = False, about: int = 4) -> Axis:
    """An axis with a little room around the values."""
    low, high = min(values), max(values)
    if from_zero:
        low = min(0.0, low)
    room = (high - low) * 0.08 or abs(high) * 0.08 or 1.0
    return linear_axis("", low if from_zero and low == 0 else low - room, high + room, about)


def pieces(time_s: Sequence[float], values: Sequence[float | None]) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Cut a line where a value is None: a gap is not bridged."""
    found: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    times: list[float] = []
    known: list[float] = []
    for at, value in zip((*time_s, 0.0), (*values, None), strict=True):
        if value is not None:
            times.append(at)
            known.append(value)
        elif times:
            found.append((tuple(times), tuple(known)))
            times, known = [], []
    return found


def drawn_line(line: SeriesLine, look: Line, factor: float = 1.0) -> list[Line]:
    """A channel as lines that look alike, one for each stretch between gaps; ``factor`` brings its values to the axis' unit."""
    return [replace(look, x=times, y=tuple(value * factor for value in values)) for times, values in pieces(line.time_s, line.values)]


def known_values(*series: Sequence[float | None]) -> list[float]:
    return [value for values in series for value in values if value is not None]


def channel_words(name: str) -> str:
    """Name a channel as a legend does: ``thermal.cpu-thermal_c`` is cpu-thermal."""
    family, _, rest = name.partition(".")
    rest = rest or family
    for ending in ("_c", "_khz", "_mw"):
        rest = rest.removesuffix(ending)
    return f"{rest} (ambient)" if family == "ambient" and rest != family else rest
