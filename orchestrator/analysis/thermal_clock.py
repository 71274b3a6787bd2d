"""The clock that the load ran at: of several domains the fastest one, for the others idle; what the firmware says before what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.analysis.thermal_run import Series, SoakRun

#: The Raspberry Pi's firmware knows its clock; the kernel there shows what it asked for.
_FIRMWARE = "clock.arm_khz"


@dataclass(frozen=True)
class LoadClock:
    """``ratio`` is clock over ``maximum_khz``; ``early`` the highest ratio in the first second (or five readings) of the steady part."""

    channel: str
    maximum_khz: float
    ratio: Series
    early: float


def fastest_clock(run: SoakRun) -> LoadClock | None:
    """Return the CPU clock domain that ran fastest, against its own maximum, in the beginning of the load; None without one.

    The maximum is the policy's (conditions), else the highest reading of the run.
    """
    maxima = clock_maxima(run.outcome.conditions)
    found = []
    for name, series in run.channels.items():
        if not name.startswith("clock.policy") and name != _FIRMWARE:
            continue
        steady = series.between(0.0, run.steady_secs)
        if not steady.value.size:
            continue
        policy = name.removeprefix("clock.").removesuffix("_khz")
        highest = float(series.value.max())
        known = max(maxima.values(), default=0.0) if name == _FIRMWARE else maxima.get(policy, 0.0)
        maximum = known if known > 0 else highest
        if maximum <= 0:
            continue
        early = max(float(steady.between(0.0, steady.secs[0] + 1.0).value.max()), float(steady.value[:5].max()))
        found.append(LoadClock(name, maximum, Series(series.secs, series.value / maximum), early / maximum))
    firmware = next((clock for clock in found if clock.channel == _FIRMWARE), None)
    return firmware or max(found, key=lambda clock: clock.early, default=None)


def mean_ratio(clock: LoadClock, start: float, end: float) -> float | None:
    """Return ∫f dt/(f_max·T) over a part of the run by the trapezoid rule on the readings' own times; None below two readings."""
    part = clock.ratio.between(start, end)
    if part.secs.size < 2:
        return None
    return float(np.trapezoid(part.value, part.secs) / (part.secs[-1] - part.secs[0]))


def clock_maxima(conditions: Mapping[str, Any]) -> dict[str, float]:
    """Read the maximum of each clock policy, kHz; conditions come from the device, so anything else there is passed over."""
    frequency = conditions.get("frequency")
    if not isinstance(frequency, Mapping):
        return {}
    maxima = {str(policy): facts.get("max_khz") for policy, facts in frequency.items() if isinstance(facts, Mapping)}
    return {policy: float(value) for policy, value in maxima.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
