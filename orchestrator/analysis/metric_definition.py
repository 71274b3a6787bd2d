"""What there is to know of a metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.domain.states import Scenario, TaskKind

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class MetricDefinition:
    """What a metric is; ``tasks`` is empty when it belongs to every task."""

    name: str
    unit: str
    better: Better
    scenario: Scenario | None
    meaning: str
    tasks: tuple[TaskKind, ...] = ()
