"""Telemetry channels in the protocol: what each measures, what reading them cost. Pure data; ``agent.protocol`` offers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional

#: What a telemetry channel measures. ``flag`` is 0 or 1; ``state`` a level of a few; ``counter`` only grows; ``share`` is in percent.
QUANTITIES = (
    *("temperature", "clock", "power", "voltage", "current", "energy", "flag", "state", "counter", "share", "memory", "fan_speed"),
    "other",
)


@dataclass(frozen=True)
class SensorInfo:
    """One telemetry channel: a stable name, what it measures in which unit, and where it comes from.

    ``error`` says why it could not be read even once; ``caution`` what a reader must know of readings that did come (a cached value, a
    sign that differs between vendors, a placeholder that was left out). ``readings`` counts how often it was asked, ``missing`` how often
    it did not answer.
    """

    name: str
    unit: str
    source: str
    error: Optional[str] = None
    readings: int = 0
    missing: int = 0
    quantity: str = "other"
    caution: Optional[str] = None


@dataclass(frozen=True)
class SamplingCost:
    """What sampling cost: CPU seconds of the supervisor in so many seconds of the run, where it ran, and how often it came late.

    ``cpus`` are the CPUs it was held on, empty when it could not choose; ``shares_core`` says that the runner's threads may use them, too.
    """

    cpu_secs: float
    wall_secs: float
    hertz: float
    cpus: List[int] = field(default_factory=list)
    shares_core: Optional[bool] = None
    rounds: int = 0
    late_rounds: int = 0
    longest_late_secs: float = 0.0
