"""A recipe: one soak with everything needed to do it again, and what it showed the first time (docs/thermal.md).

``edgematrix thermal recipe JOB`` writes one, ``edgematrix thermal reproduce`` follows it.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.domain.soak import SoakScenario
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import Estimate, LimitPrediction, ThermalFit

RECIPE_FORMAT: Final = 1

Verdict = Literal["reproduced", "not reproduced", "undetermined"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecipeFile(_Frozen):
    """A file by its content; ``file`` is where it lay, relative to the spec's folder then."""

    file: str
    sha256: str


class RecipeConditions(_Frozen):
    """What may make another outcome of the same protocol. None: unknown then; a reason is named only where both sides are known."""

    device: str
    profile: str
    emulated: Emulation = Emulation.NONE
    ambient_c: float | None = None
    start_c: float | None = None
    fan: str | None = None
    power_mode: str | None = None
    governor: str | None = None
    supply_under_voltage: bool | None = None
    firmware: str | None = None
    kernel: str | None = None
    runtime: str | None = None
    environment_digest: str | None = None
    agent_sha256: str | None = None


class Expectation(_Frozen):
    """One quantity the first run showed, and how far another may lie from it: ``relative`` of the value or ``absolute`` in its unit.

    The wider of both counts. A time to throttle without a value: it did not throttle.
    """

    name: str
    value: float | None
    unit: str
    relative: float | None = None
    absolute: float | None = None


class Recipe(_Frozen):
    """``spec`` is a whole experiment spec with one variant, one setting and one soak; files are named by digest beside it.

    ``heating`` is the first run's heating fit, where it was offered, and ``limit_c`` where it throttled: what other ambients are predicted
    from.
    """

    format: Literal[1] = RECIPE_FORMAT
    from_job: str
    made_utc: str
    edgematrix_version: str
    spec: str
    files: tuple[RecipeFile, ...]
    soak: SoakScenario
    conditions: RecipeConditions
    throttled: bool | None
    onset_cause: str | None = None
    expectations: tuple[Expectation, ...]
    predictions: tuple[LimitPrediction, ...] = ()
    heating: ThermalFit | None = None
    limit_c: float | None = None


class RepeatOutcome(_Frozen):
    """One repeat: its job, what it gave for each quantity, and the conditions that differed from the recipe's, in words."""

    job_id: str
    verdict: Verdict
    values: dict[str, float | None]
    differences: tuple[str, ...] = ()
    words: str = ""


class QuantityVerdict(_Frozen):
    """One quantity over all repeats: compared between jobs, with the interval of the repeats' mean."""

    name: str
    unit: str
    expected: float | None
    tolerance_low: float | None
    tolerance_high: float | None
    observed: Estimate | None
    repeats: int
    verdict: Verdict
    words: str


class PredictionCheck(_Frozen):
    """At another ambient: what the recipe's fit predicted for it, against what was measured."""

    quantity: str
    predicted: float | None
    observed: float | None
    error_percent: float | None
    words: str


class UnitSpread(_Frozen):
    """How much one quantity differs between units of one profile, against how much one unit differs from itself."""

    name: str
    unit: str
    units: dict[str, float]
    between_percent: float | None
    within_percent: float | None
    words: str


class Reproduction(_Frozen):
    """The answer: a verdict, each quantity's, each repeat's, and the reasons (ambient, fan, power mode, supply, firmware …)."""

    verdict: Verdict
    reasons: tuple[str, ...]
    quantities: tuple[QuantityVerdict, ...]
    repeats: tuple[RepeatOutcome, ...]
    predictions: tuple[PredictionCheck, ...] = ()
    spreads: tuple[UnitSpread, ...] = Field(default=())
