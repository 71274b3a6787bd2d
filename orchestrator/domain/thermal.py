"""What one soak tells: windows, throttling, fits, predictions, whether the numbers changed. ``analysis.thermal`` makes it, nothing else.

Times are seconds from the first steady query (negative before it) unless a name says otherwise. What could not be computed is None with a
cause beside it. Formulas: docs/thermal.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.domain.results import Metric


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Frozen):
    """A value with its 95 % interval, where one can be given."""

    value: float
    low: float | None = None
    high: float | None = None


class ThrottleCause(StrEnum):
    """What showed that the device slowed down, the surest first."""

    FIRMWARE_FLAG = "firmware flag"
    OVER_CURRENT = "over-current"
    COOLING_DEVICE = "cooling device"
    CLOCK = "clock"
    CPU_QUOTA = "CPU quota"
    LATENCY = "latency alone"


class LoadWindow(_Frozen):
    """One window of the steady part. ``completions`` are queries that ended in it; probes are left out. Means over the window."""

    start_secs: float
    end_secs: float
    completions: int
    rate_qps: float
    mean_invoke_ms: float | None
    median_invoke_ms: float | None
    max_invoke_ms: float | None
    temperature_c: float | None = None
    clock_ratio: float | None = None
    power_mw: float | None = None


class ThrottleSign(_Frozen):
    """The first time that one channel, or latency, showed throttling in the steady part."""

    cause: ThrottleCause
    at_secs: float
    channel: str
    words: str


class Onset(_Frozen):
    """Time to throttle: the earliest direct sign (latency where there is none), first of ``signs``, and the control temperature then."""

    at_secs: float
    cause: ThrottleCause
    words: str
    temperature_c: float | None
    signs: tuple[ThrottleSign, ...]


class ThermalFit(_Frozen):
    """A first-order model of one or two thermal bodies, fitted to a heating segment before any throttling or to the cool-down.

    Only ``offered`` fits may be shown as results; of a refused one ``cause`` says why. ``tau_secs`` are the time constants, fastest first.
    T(t) = steady_c − Σ amplitude_i · e^(−t/τ_i), t from ``start_secs``. ``covariance`` is that of (ln τ_i, amplitude_i, steady_c), in this
    order, autocorrelation of the residuals allowed for; empty unless offered. A segment that could not be fitted at all has no bodies.
    """

    segment: Literal["heating", "cooling"]
    channel: str
    start_secs: float
    end_secs: float
    bodies: Literal[1, 2] | None
    tau_secs: tuple[Estimate, ...]
    amplitude_c: tuple[float, ...]
    steady_c: Estimate | None
    rmse_c: float | None
    r_squared: float | None
    offered: bool
    cause: str | None = None
    covariance: tuple[tuple[float, ...], ...] = ()


class LimitPrediction(_Frozen):
    """When the control temperature reaches ``limit_c`` at an ambient, from a fit: ``reaches`` False when it never does."""

    ambient_c: float
    limit_c: float
    steady_c: float
    reaches: bool
    at_secs: Estimate | None
    words: str


class ProbeChange(_Frozen):
    """A probe sample whose outputs were no longer those of the cold device: first when, how often, and what they say now."""

    sample: int
    first_at_secs: float
    temperature_c: float | None
    rounds: int
    class_before: int | None = None
    class_after: int | None = None


class ProbeRecord(_Frozen):
    """Did the numbers change with heat? ``undetermined`` when they were not even stable cold, or too few rounds were answered."""

    verdict: Literal["stable", "changed", "undetermined", "not asked"]
    samples: int = 0
    cold_rounds: int = 0
    hot_rounds: int = 0
    changes: tuple[ProbeChange, ...] = ()
    words: str = ""


class Gap(_Frozen):
    """A stretch in which nothing was recorded although something should have been."""

    start_secs: float
    end_secs: float | None
    words: str


class SensorFault(_Frozen):
    """A channel that fell silent, stood still, or gave placeholders."""

    channel: str
    words: str
    stood_still: bool = False


class StoryEvent(_Frozen):
    """Something to mark on the time axis."""

    at_secs: float
    name: str
    words: str


class ThermalStory(_Frozen):
    """Everything one attempt of one soak job tells.

    ``complete`` is False for an attempt that was cut short by a failure; ``stopped`` names the rule by which a soak ended itself early.
    ``throttled`` None: nothing on this device could have shown it. ``energy_words`` tell where power came from and how it was integrated.
    ``scalars`` are the metrics of ``metric_names`` for soaks.
    """

    job_id: str
    attempt: int
    complete: bool
    stopped: str | None
    planned_secs: float
    co_load_workers: int
    steady_secs: float
    window_secs: float
    control_channel: str | None
    ambient_c: float | None
    ambient_source: str
    start_c: float | None
    peak_c: float | None
    limit_c: float | None
    throttled: bool | None
    throttle_words: str
    onset: Onset | None
    windows: tuple[LoadWindow, ...]
    scalars: tuple[Metric, ...]
    fits: tuple[ThermalFit, ...]
    predictions: tuple[LimitPrediction, ...]
    probe: ProbeRecord
    gaps: tuple[Gap, ...]
    sensor_faults: tuple[SensorFault, ...]
    events: tuple[StoryEvent, ...]
    energy_words: str = ""

    def scalar(self, name: str) -> Metric | None:
        """Return the metric of that name, or None."""
        return next((item for item in self.scalars if item.name == name), None)
