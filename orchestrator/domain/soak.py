"""The soak scenario as a person writes it: sustained load, from a known start, watched until it has cooled down (docs/thermal.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from orchestrator.domain.scalars import IS_MAPPING, IS_WORD, Flag, NotNegative, Number, Positive, PositiveWhole, Whole, Word

_Celsius = Annotated[Number, Field(ge=-60, le=200)]
_Workers = Annotated[Whole, Field(ge=0, le=256)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StartGate(_Frozen):
    """A run begins when the control temperature was within ``tolerance_c`` of ``temperature_c`` and changed by no more than
    ``slope_c_per_min``, both for ``hold_secs``. The scheduler waits up to ``max_wait_secs``; then the job ends with an error that says why.

    ``sensor`` names a channel; without it, the hottest thermal zone decides.
    """

    temperature_c: _Celsius
    tolerance_c: Positive = 2.0
    slope_c_per_min: Positive = 1.0
    hold_secs: Annotated[NotNegative, Field(le=3600)] = 20.0
    max_wait_secs: Annotated[Positive, Field(le=7 * 86_400)] = 3600.0
    sensor: Word | None = None

    @model_validator(mode="after")
    def _can_be_met(self) -> StartGate:
        if self.hold_secs >= self.max_wait_secs:
            held, waited = self.hold_secs, self.max_wait_secs
            raise ValueError(f"it is to hold for {held:g} s and is waited for {waited:g} s at most | raise max_wait_secs")
        return self


class Ambient(_Frozen):
    """The air around the device: as somebody says, or as a channel of the device's telemetry measures."""

    stated_c: _Celsius | None = None
    sensor: Word | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Ambient:
        if (self.stated_c is None) == (self.sensor is None):
            raise ValueError("the ambient temperature is either stated or measured | write {stated_c: 23} or {sensor: CHANNEL}")
        return self


class Surroundings(_Frozen):
    """What the commands registered for the device set before a run (``edgematrix device surroundings``): a chamber's °C, a fan's state.

    The state is one word of a command: it may be any text, but no option.
    """

    chamber_c: _Celsius | None = None
    fan: Annotated[Word, Field(pattern=r"^[^-]")] | None = None


class FixedRate(_Frozen):
    """Queries at a fixed rate, as an application asks them; what passes while a query runs is dropped and counted."""

    rate_hz: Annotated[Positive, Field(le=1_000_000)]


class DutyCycle(_Frozen):
    on_secs: Positive
    off_secs: Positive


class ThermalCycle(_Frozen):
    """Load until ``high_c``, rest until ``low_c``, and again."""

    low_c: _Celsius
    high_c: _Celsius

    @model_validator(mode="after")
    def _ordered(self) -> ThermalCycle:
        if self.low_c >= self.high_c:
            raise ValueError(f"low_c ({self.low_c:g}) is not below high_c ({self.high_c:g}) | raise one or lower the other")
        return self


class Recorded(_Frozen):
    """A CSV file with one column, ``arrival_secs``: when the queries of an application came; it begins anew after ``cycle_secs``."""

    file: Word
    cycle_secs: Positive


class Pattern(_Frozen):
    """Exactly one load pattern; ``cold_start`` is flat out without any warm-up."""

    fixed_rate: FixedRate | None = None
    duty_cycle: DutyCycle | None = None
    thermal_cycle: ThermalCycle | None = None
    recorded: Recorded | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Pattern:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"one load pattern is needed, {len(given)} are given | for example {{fixed_rate: {{rate_hz: 30}}}}")
        return self


def _form(value: Any) -> str:
    return IS_WORD if isinstance(value, str) else IS_MAPPING


class Precondition(_Frozen):
    """Load before the measured part, until a temperature or for a time, whichever is first."""

    secs: Positive
    until_c: _Celsius | None = None


class Probe(_Frozen):
    """The first ``samples`` are answered every ``every_secs`` and their outputs digested; ``cold_rounds`` times before any load."""

    samples: Annotated[PositiveWhole, Field(le=4096)] = 16
    every_secs: Positive = 5.0
    cold_rounds: Annotated[PositiveWhole, Field(le=1000, ge=2)] = 5


class CoLoad(_Frozen):
    """Work beside the model: processes that count, and processes that copy memory."""

    cpu_workers: _Workers = 0
    memory_workers: _Workers = 0


class Stop(_Frozen):
    """When a soak ends for safety: the control temperature is above, or the battery below."""

    above_c: _Celsius | None = None
    below_battery_percent: Annotated[Number, Field(ge=0, le=100)] | None = None


class Cooldown(_Frozen):
    """How long the device is watched after the load: ``secs`` at most, less when it reaches ``until_c``."""

    secs: NotNegative = 60.0
    until_c: _Celsius | None = None


class Onset(_Frozen):
    """Throttling by latency alone: windowed mean above (1 + ``rise_percent``/100) × the first windows' for ``windows`` windows running."""

    rise_percent: Positive = 5.0
    windows: PositiveWhole = 3


class SoakScenario(_Frozen):
    """One soak: see docs/thermal.md for what happens when."""

    repeats: PositiveWhole = 1
    duration_secs: Annotated[Positive, Field(le=7 * 86_400)] = 300.0
    pattern: Annotated[
        Annotated[Literal["flat_out", "cold_start"], Tag(IS_WORD)] | Annotated[Pattern, Tag(IS_MAPPING)], Discriminator(_form)
    ] = "flat_out"
    warmup_min_secs: NotNegative = 0.0
    warmup_runs: Annotated[Whole, Field(ge=0, lt=2**31)] = 10
    idle_secs: NotNegative = 10.0
    start_gate: StartGate | None = None
    ambient: Ambient | None = None
    surroundings: Surroundings | None = None
    precondition: Precondition | None = None
    co_load: CoLoad = CoLoad()
    probe: Probe | None = Probe()
    stop: Stop = Stop()
    cooldown: Cooldown = Cooldown()
    marker: Flag = False
    control_sensor: Word | None = None
    telemetry_hz: Annotated[Positive, Field(ge=1, le=50)] | None = None
    window_secs: Positive = 10.0
    onset: Onset = Onset()


class PlannedSoak(SoakScenario):
    """A soak as planned: a recorded pattern's times, read from its file, stand beside it."""

    arrivals_secs: tuple[float, ...] = ()

    @property
    def gate(self) -> StartGate | None:
        """The start gate; one that names no sensor of its own goes by ``control_sensor``."""
        gate = self.start_gate
        if gate is None or gate.sensor is not None or self.control_sensor is None:
            return gate
        return gate.model_copy(update={"sensor": self.control_sensor})
