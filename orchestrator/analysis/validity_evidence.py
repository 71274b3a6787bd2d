"""What the checks of validity look at, and what they may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.protocol import RunnerReport, SensorInfo
from orchestrator.analysis.telemetry import Channel
from orchestrator.domain.states import Emulation, Scenario, Validity
from orchestrator.domain.thermal import ThermalStory


@dataclass(frozen=True)
class Evidence:
    """What the checks look at. ``channels`` and ``telemetry_ns`` are cut to the measured part, ``window_ns`` (from the runner's
    origin, both ends).

    ``start_c`` maps a thermal zone to its first reading of the run; ``clock_max_khz`` a clock policy to its maximum;
    ``start_gate_c`` is the range in which the hottest zone had to be, None when the request had no gate; ``clock_offset_secs`` is
    device minus orchestrator. ``story`` is a soak's.
    """

    scenario: Scenario
    emulated: Emulation
    runner: RunnerReport
    sensors: Sequence[SensorInfo] = ()
    channels: Mapping[str, Channel] = field(default_factory=dict)
    telemetry_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    telemetry_hz: float = 0.0
    window_ns: tuple[int, int] | None = None
    start_c: Mapping[str, float] = field(default_factory=dict)
    start_gate_c: tuple[float, float] | None = None
    clock_max_khz: Mapping[str, float] = field(default_factory=dict)
    clock_offset_secs: float | None = None
    query_count: int = 0
    cv_percent: float | None = None
    sample_count: int = 0
    missing_count: int = 0
    non_finite_samples: Sequence[int] = ()
    story: ThermalStory | None = None


@dataclass(frozen=True)
class Finding:
    """A threshold that was crossed: the value found, and the sentence that tells it."""

    value: float
    message: str


@dataclass(frozen=True)
class Unknown:
    """What this machine cannot tell, in words."""

    text: str


#: A check gets the evidence and its threshold; None means that all is well.
Check: TypeAlias = Callable[[Evidence, float], Finding | Unknown | None]


@dataclass(frozen=True)
class Rule:
    """One reason: its threshold in ``unit``, its level, the scenarios it concerns, and why it has that level."""

    code: str
    level: Validity
    threshold: float
    unit: str
    scenarios: tuple[Scenario, ...]
    check: Check
    why: str
