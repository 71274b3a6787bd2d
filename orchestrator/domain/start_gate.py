"""Whether a device is at the temperature from which a run may begin: pure, from readings with their times."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.soak import StartGate
from orchestrator.domain.times import format_duration

#: The slope is that of a straight line through the readings of at least so long, where there are so many: a sensor that shows whole degrees
#: tells nothing of a slope in a few seconds.
_SLOPE_SECS = 20.0
#: How often to look: so often near the gate, so rarely far from it. Each look starts a process on the device, which warms it.
_LOOK_SECS = 2.0
_LOOK_RARELY_SECS = 15.0
_FAR_C = 5.0
#: Two readings further apart than this say nothing of the time between them: the link was cut.
_MOST_APART_SECS = 60.0

#: When, in Unix seconds, and how many °C.
Reading = tuple[float, float]


@dataclass(frozen=True)
class GateView:
    """One look at the gate. ``slope_c_per_min`` is None before there are two readings; ``about_secs`` is how long it may still take."""

    met: bool
    temperature_c: float
    slope_c_per_min: float | None
    about_secs: float | None
    look_again_secs: float

    def words(self, gate: StartGate) -> str:
        """``52.1 °C, falling 3.2 °C/min; gate 40 ± 2 °C (about 4 min)``."""
        slope = self.slope_c_per_min
        moves = "" if slope is None else f", {'falling' if slope < 0 else 'rising'} {abs(slope):.1f} °C/min"
        if slope is not None and abs(slope) < 0.05:
            moves = ", steady"
        about = "" if self.about_secs is None else f" (about {format_duration(self.about_secs)})"
        return f"{self.temperature_c:.1f} °C{moves}; gate {gate.temperature_c:g} ± {gate.tolerance_c:g} °C{about}"


def view_gate(gate: StartGate, readings: Sequence[Reading]) -> GateView:
    """Judge the gate by its readings, oldest first, at least one.

    It is met when every reading of the last ``hold_secs`` lies within the tolerance, they reach back so far without a gap, and the slope
    (least squares over the last ``hold_secs``, or 20 s where that is longer) is no steeper than asked.
    """
    now, temperature = readings[-1]
    held = _last(readings, gate.hold_secs)
    slope = _slope(_last(readings, max(gate.hold_secs, _SLOPE_SECS)))
    inside = [abs(value - gate.temperature_c) <= gate.tolerance_c for _, value in held]
    calm = slope is not None and abs(slope) <= gate.slope_c_per_min
    watched = all(later - earlier <= _MOST_APART_SECS for (earlier, _), (later, _) in itertools.pairwise(held))
    met = watched and all(inside) and now - held[0][0] >= gate.hold_secs and (calm or gate.hold_secs == 0)
    distance = gate.temperature_c - temperature
    about = None
    if not inside[-1] and slope is not None and slope * distance > 0 and abs(slope) >= 0.05:
        about = distance / slope * 60.0
    return GateView(met, temperature, slope, about, 0.0 if met else _pause(gate, inside[-1], abs(distance), about))


def kept_readings(gate: StartGate, readings: Sequence[Reading]) -> list[Reading]:
    """Leave out what no later look needs, so that a wait of hours does not grow the job's row."""
    return list(_last(readings, max(gate.hold_secs, _SLOPE_SECS)))


def _last(readings: Sequence[Reading], secs: float) -> Sequence[Reading]:
    """The readings of the last ``secs``, and the one before them: together they reach back at least so far, when there are so many."""
    now = readings[-1][0]
    first = next((index for index, (at, _) in enumerate(readings) if now - at <= secs), len(readings) - 1)
    whole = now - readings[first][0] >= secs
    return readings[first if whole else max(0, first - 1) :]


def _slope(readings: Sequence[Reading]) -> float | None:
    """°C per minute of the straight line through the readings."""
    mean_at = sum(at for at, _ in readings) / len(readings)
    mean_c = sum(value for _, value in readings) / len(readings)
    spread = sum((at - mean_at) ** 2 for at, _ in readings)
    if spread == 0:
        return None
    return 60.0 * sum((at - mean_at) * (value - mean_c) for at, value in readings) / spread


def _pause(gate: StartGate, inside: bool, distance_c: float, about_secs: float | None) -> float:
    if inside:
        # Often enough for a line through the readings, and never so often that an hour of them fills the job's row.
        return min(max(gate.hold_secs / 5, 0.25), max(gate.hold_secs / 30, _LOOK_SECS), _LOOK_RARELY_SECS)
    if about_secs is not None:
        return min(max(about_secs / 4, _LOOK_SECS), _LOOK_RARELY_SECS)
    return _LOOK_RARELY_SECS if distance_c > _FAR_C else _LOOK_SECS
