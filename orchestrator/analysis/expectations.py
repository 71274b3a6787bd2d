"""What a soak lets others expect of its repeats: its quantities, and how far another run may lie from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.analysis.soak_metric_names import SOAK_DEFINITIONS
from orchestrator.domain.recipe import Expectation
from orchestrator.domain.thermal import ThermalStory

#: Windows that tell how far one lies from another.
_FEWEST_WINDOWS = 3
THROTTLE_TIME = "time_to_throttle_secs"
CHANGED = "probe_changed_samples"

#: What is expected of a repeat: how far it may lie from the first run, relative and absolute (the wider of both counts).
TOLERANCES: Mapping[str, tuple[float | None, float | None]] = {
    THROTTLE_TIME: (0.10, 1.0),
    "sustained_burst": (0.05, None),
    "degradation_percent": (0.15, 5.0),
    "throttled_fraction": (None, 0.10),
    "burst_qps": (0.15, None),
    "clock_ratio": (0.05, None),
    "granted_cpu_cores": (0.10, None),
    "peak_c": (None, 3.0),
    "sustained_c": (None, 3.0),
    "energy_gross_mj": (0.15, None),
    "heating_tau_secs": (0.15, None),
    "cooling_tau_secs": (0.15, None),
    CHANGED: (None, 0.0),
}

UNITS = {definition.name: definition.unit for definition in SOAK_DEFINITIONS}


def expectations(story: ThermalStory) -> tuple[Expectation, ...]:
    """Return the quantities that a soak showed, with the tolerances a repeat is judged by.

    A time to throttle without a value says that it did not throttle; other quantities that the soak could not tell are left out. What is
    read off the last window may lie as far away as the first run's own windows did from one another while it throttled.
    """
    found = []
    for name, (relative, absolute) in TOLERANCES.items():
        value = value_of(story, name)
        if value is not None or (name == THROTTLE_TIME and story.throttled is False):
            swing = _swing(story, name)
            widened = absolute if swing is None else max(swing, absolute or 0.0)
            found.append(Expectation(name=name, value=value, unit=UNITS[name], relative=relative, absolute=widened))
    return tuple(found)


def value_of(story: ThermalStory, name: str) -> float | None:
    """Return a quantity of a story, None where it could not be told."""
    metric = story.scalar(name)
    return metric.value if metric is not None else None


def _swing(story: ThermalStory, name: str) -> float | None:
    """Twice the standard deviation from window to window in the later half of the throttled windows (or of all), in the quantity's unit.

    A governor that goes to and fro leaves the last window at any point of its cycle. The way down to that is no scatter: it would widen
    the tolerance until another outcome passes.
    """
    if name not in ("sustained_burst", "degradation_percent") or not story.windows:
        return None
    since = story.onset.at_secs if story.onset is not None else story.steady_secs / 2
    late = [window for window in story.windows if window.start_secs >= since]
    late = late[-max(_FEWEST_WINDOWS, len(late) // 2) :]
    first = story.windows[0]
    if len(late) < _FEWEST_WINDOWS or first.rate_qps <= 0 or not first.mean_invoke_ms:
        return None
    if name == "sustained_burst":
        swing = 2 * float(np.std([window.rate_qps for window in late], ddof=1)) / first.rate_qps
    else:
        means = [window.mean_invoke_ms for window in late if window.mean_invoke_ms is not None]
        swing = 200 * float(np.std(means, ddof=1)) / first.mean_invoke_ms if len(means) >= _FEWEST_WINDOWS else 0.0
    return float(f"{swing:.3g}")
