"""The thermal plant of a device as a lab's file describes it (docs/lab.md)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from orchestrator.domain.scalars import NotNegative, Number, Positive, PositiveWhole, Whole

_Celsius = Annotated[Number, Field(ge=-60, le=150)]
#: The kernel takes no quota below a millisecond.
_LEAST_QUOTA_MS = 1.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TripPoint(_Frozen):
    """From ``at_c`` on the clock is at most ``clock_ratio`` of its maximum, until the die is ``hysteresis_c`` below it again."""

    at_c: _Celsius
    hysteresis_c: Positive = 3.0
    clock_ratio: Annotated[Number, Field(ge=0.05, lt=1)]


class FanPoint(_Frozen):
    """From ``at_c`` on the fan turns at ``rpm``, and the board gets rid of its heat through ``board_c_per_watt``."""

    at_c: _Celsius
    hysteresis_c: Positive = 5.0
    board_c_per_watt: Positive
    rpm: PositiveWhole


class PlantDefinition(_Frozen):
    """Two bodies, a governor and perhaps a fan. ``core`` holds the device on one core of this machine; without it, the lab chooses.

    ``die_tau_secs`` is the die's heat capacity times the resistance to the board, ``board_tau_secs`` the board's times that to the air.
    """

    board: Literal["linux", "raspberry-pi", "jetson"] = "linux"
    ambient_c: _Celsius = 25.0
    idle_watts: NotNegative = 2.0
    core_watts: Positive = 3.0
    die_tau_secs: Positive = 2.0
    board_tau_secs: Positive = 60.0
    die_c_per_watt: Positive = 2.0
    board_c_per_watt: Positive = 12.0
    trips: tuple[TripPoint, ...] = ()
    fan: tuple[FanPoint, ...] = ()
    max_khz: PositiveWhole = 1_800_000
    resolution_c: Positive = 0.1
    quota_period_ms: Annotated[Number, Field(ge=2, le=1000)] = 10.0
    core: Annotated[Whole, Field(ge=0)] | None = None

    @field_validator("trips", "fan")
    @classmethod
    def _ascend(cls, points: Sequence[TripPoint | FanPoint]) -> Sequence[TripPoint | FanPoint]:
        for lower, upper in pairwise(points):
            if upper.at_c - upper.hysteresis_c < lower.at_c - lower.hysteresis_c or upper.at_c <= lower.at_c:
                raise ValueError(f"the step at {upper.at_c:g} °C begins or ends below that at {lower.at_c:g} °C | let both ascend")
        return points

    @model_validator(mode="after")
    def _can_be_held(self) -> PlantDefinition:
        for trip in self.trips:
            if trip.clock_ratio * self.quota_period_ms < _LEAST_QUOTA_MS:
                share = f"{trip.clock_ratio:g} of {self.quota_period_ms:g} ms"
                raise ValueError(
                    f"the kernel grants no less than {_LEAST_QUOTA_MS:g} ms, and this is {share} | make quota_period_ms longer"
                )
        return self
