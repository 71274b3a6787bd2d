"""Load patterns of a soak: each says, turn by turn, when queries may come. What they steer is the loop in ``agent.soak``.

A pattern never asks a query and never sleeps; it is told the time, so all of it can be tried without waiting.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional

from agent.errors import RequestInvalid
from agent.protocol import CONTROL, MAX_ARRIVALS, PATTERNS, LoadPattern

_SECOND_NS = 1_000_000_000

#: Later than any run lasts.
FAR_NS = 2**62

#: How often the control temperature is read at most, and for how long a reading counts.
LOOK_NS = 100_000_000
STALE_NS = 5 * _SECOND_NS

_REMEDY = "correct the load pattern in the spec"


class Turn(NamedTuple):
    """Up to ``limit`` queries from ``begin_ns`` on, not past ``until_ns``; with ``limit`` 0 none before ``until_ns``."""

    begin_ns: int
    until_ns: int
    limit: int


#: As many as fit.
_MANY = 2**31


class Pattern:
    """Flat out: one query after the other. The base of all patterns.

    ``dropped_count`` are arrivals that passed while a query ran, ``held_up_count`` those that passed while the harness asked queries of its
    own; ``unknown_ns`` is how long the pattern rested for want of a temperature.
    """

    def __init__(self) -> None:
        self.dropped_count = 0
        self.held_up_count = 0
        self.unknown_ns = 0

    def turn(self, now_ns: int) -> Turn:
        """Say what comes next."""
        return Turn(now_ns, FAR_NS, _MANY)

    def answered(self, ended_ns: int) -> None:
        """Take note that the turn's queries were asked and the last one ended."""

    def resumed(self, now_ns: int) -> None:
        """Take note that queries of the harness were asked until now."""


class Rest(Pattern):
    """No queries at all."""

    def turn(self, now_ns: int) -> Turn:
        return Turn(now_ns, FAR_NS, 0)


class DutyCycle(Pattern):
    """Flat out for ``on_ns``, nothing for ``off_ns``, and again."""

    def __init__(self, started_ns: int, on_ns: int, off_ns: int) -> None:
        super().__init__()
        self._started_ns, self._on_ns, self._cycle_ns = started_ns, on_ns, on_ns + off_ns

    def turn(self, now_ns: int) -> Turn:
        begin_ns = now_ns - (now_ns - self._started_ns) % self._cycle_ns
        if now_ns < begin_ns + self._on_ns:
            return Turn(now_ns, begin_ns + self._on_ns, _MANY)
        return Turn(now_ns, begin_ns + self._cycle_ns, 0)


class ThermalCycle(Pattern):
    """Flat out until the control temperature reaches ``high_c``, nothing until it is down at ``low_c``, and again.

    ``read`` gives the temperature, None while it is unknown: then the device may be hot, so it rests until it is known to be at ``low_c``.
    """

    def __init__(self, low_c: float, high_c: float, read: Callable[[int], Optional[float]]) -> None:
        super().__init__()
        self._low_c, self._high_c, self._read = low_c, high_c, read
        self._is_loading = True
        self._unknown_since_ns: Optional[int] = None

    def turn(self, now_ns: int) -> Turn:
        if self._unknown_since_ns is not None:
            self.unknown_ns += now_ns - self._unknown_since_ns
            self._unknown_since_ns = None
        temperature_c = self._read(now_ns)
        if temperature_c is None:
            self._is_loading, self._unknown_since_ns = False, now_ns
        elif self._is_loading:
            self._is_loading = temperature_c < self._high_c
        else:
            self._is_loading = temperature_c <= self._low_c
        return Turn(now_ns, now_ns + LOOK_NS, _MANY if self._is_loading else 0)


class Arrivals(Pattern):
    """One query at each arrival, counted from 0. An arrival that passes while a query runs is dropped, as a camera drops a frame; one that
    falls due just then, or while the harness writes, is asked late, at the time its stamp tells.
    """

    def __init__(self, started_ns: int) -> None:
        super().__init__()
        self._started_ns = started_ns
        self._next = 0

    def turn(self, now_ns: int) -> Turn:
        begin_ns = self._started_ns + self._offset_ns(self._next)
        return Turn(begin_ns, begin_ns, 1)

    def answered(self, ended_ns: int) -> None:
        following = max(self._next + 1, self._first_from(ended_ns - self._started_ns))
        self.dropped_count += following - self._next - 1
        self._next = following

    def resumed(self, now_ns: int) -> None:
        following = max(self._next, self._first_from(now_ns - self._started_ns))
        self.held_up_count += following - self._next
        self._next = following

    def _offset_ns(self, number: int) -> int:
        """When an arrival comes, from the start."""
        raise NotImplementedError

    def _first_from(self, offset_ns: int) -> int:
        """The first arrival that is not before ``offset_ns``."""
        raise NotImplementedError


class FixedRate(Arrivals):
    """``rate_hz`` arrivals a second; the grid does not drift."""

    def __init__(self, started_ns: int, rate_hz: float) -> None:
        super().__init__(started_ns)
        self._rate_hz = rate_hz

    def _offset_ns(self, number: int) -> int:
        return round(number * _SECOND_NS / self._rate_hz)

    def _first_from(self, offset_ns: int) -> int:
        number = max(0, math.ceil(offset_ns * self._rate_hz / _SECOND_NS) - 1)
        while self._offset_ns(number) < offset_ns:
            number += 1
        return number


class Recorded(Arrivals):
    """Arrivals at recorded times (``offsets_ns``, ascending, within ``cycle_ns``), which begin anew after each cycle."""

    def __init__(self, started_ns: int, offsets_ns: List[int], cycle_ns: int) -> None:
        super().__init__(started_ns)
        self._offsets_ns, self._cycle_ns = offsets_ns, cycle_ns

    def _offset_ns(self, number: int) -> int:
        cycle, place = divmod(number, len(self._offsets_ns))
        return cycle * self._cycle_ns + self._offsets_ns[place]

    def _first_from(self, offset_ns: int) -> int:
        cycle, within_ns = divmod(max(0, offset_ns), self._cycle_ns)
        return cycle * len(self._offsets_ns) + bisect_left(self._offsets_ns, within_ns)


def make_pattern(asked: LoadPattern, started_ns: int, read_control: Callable[[int], Optional[float]]) -> Pattern:
    """Return the pattern that was asked for, begun at ``started_ns``. Raises :class:`RequestInvalid`."""
    check_pattern(asked)
    if asked.kind == "fixed_rate":
        return FixedRate(started_ns, asked.rate_hz or 0.0)
    if asked.kind == "duty_cycle":
        return DutyCycle(started_ns, _nanoseconds(asked.on_secs or 0.0), _nanoseconds(asked.off_secs or 0.0))
    if asked.kind == "thermal_cycle":
        return ThermalCycle(asked.low_c or 0.0, asked.high_c or 0.0, read_control)
    if asked.kind == "recorded":
        offsets_ns = [_nanoseconds(arrival) for arrival in asked.arrivals_secs]
        return Recorded(started_ns, offsets_ns, _nanoseconds(asked.cycle_secs or 0.0))
    return Pattern()


def check_pattern(asked: LoadPattern) -> None:
    """Raise :class:`RequestInvalid` for a pattern that is unknown, lacks one of its fields or has it out of range."""
    needed = {
        "fixed_rate": {"rate_hz": asked.rate_hz},
        "duty_cycle": {"on_secs": asked.on_secs, "off_secs": asked.off_secs},
        "thermal_cycle": {"low_c": asked.low_c, "high_c": asked.high_c},
        "recorded": {"cycle_secs": asked.cycle_secs},
    }.get(asked.kind, {})
    if asked.kind not in PATTERNS:
        raise RequestInvalid(f"the load pattern {asked.kind!r:.80} is unknown", f"use one of {', '.join(PATTERNS)}")
    for name, value in needed.items():
        if value is None or not math.isfinite(value) or (value <= 0 and not name.endswith("_c")):
            raise RequestInvalid(f"the load pattern {asked.kind} has {name} {value}", _REMEDY)
    if asked.rate_hz is not None and not 1e-6 <= asked.rate_hz <= 1e6:
        raise RequestInvalid(f"a rate of {asked.rate_hz:g} queries a second is out of range", _REMEDY)
    if asked.kind == "thermal_cycle" and not (asked.low_c or 0.0) < (asked.high_c or 0.0):
        raise RequestInvalid(f"a thermal cycle from {asked.low_c} up to {asked.high_c} °C", _REMEDY)
    if asked.kind == "recorded":
        _check_arrivals(asked.arrivals_secs, asked.cycle_secs or 0.0)


def _check_arrivals(arrivals_secs: List[float], cycle_secs: float) -> None:
    if not 0 < len(arrivals_secs) <= MAX_ARRIVALS:
        raise RequestInvalid(f"a recorded pattern of {len(arrivals_secs)} arrivals; 1 to {MAX_ARRIVALS} are possible", _REMEDY)
    previous = -1.0
    for arrival in arrivals_secs:
        if not (previous < arrival < cycle_secs and arrival >= 0):
            message = f"the recorded arrivals must ascend from 0 to below {cycle_secs:g} s; {arrival:g} follows {previous:g}"
            raise RequestInvalid(message, _REMEDY)
        previous = arrival


def _nanoseconds(seconds: float) -> int:
    return max(1, round(seconds * _SECOND_NS)) if seconds else 0


class ControlTemperature:
    """The control temperature as the supervisor last wrote it, read at most every 0.1 s; None while unknown or older than 5 s."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._look_due_ns = 0
        self._read_ns, self._celsius = 0, math.nan

    def read(self, now_ns: int) -> Optional[float]:
        """Return the temperature in °C. ``now_ns`` is raw CLOCK_MONOTONIC, as the file's."""
        if now_ns >= self._look_due_ns:
            self._look_due_ns = now_ns + LOOK_NS
            self._look()
        if math.isnan(self._celsius) or now_ns - self._read_ns > STALE_NS:
            return None
        return self._celsius

    def close(self) -> None:
        """Close the file; harmless when it was never there."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _look(self) -> None:
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            data = os.pread(self._descriptor, CONTROL.size, 0)
        except OSError:
            return
        if len(data) == CONTROL.size:
            self._read_ns, self._celsius = CONTROL.unpack(data)
