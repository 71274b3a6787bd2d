"""The resolved request of an experiment: what the spec asked for, with every file named by its content.

A plan is made once, at submission, and kept in SQL; nothing that happens to the spec or its files later changes it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.domain.results import DatasetInfo, VariantInfo
from orchestrator.domain.soak import PlannedSoak, StartGate
from orchestrator.domain.states import Scenario, TaskKind


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedInputs(_Frozen):
    """The ``.npy`` artifact that goes to the device: samples on the first axis."""

    sha256: str
    size_bytes: int
    sample_count: int
    sample_shape: tuple[int, ...]
    dtype: str


class PlannedDataset(_Frozen):
    """``inputs`` goes to the devices; ``answers`` (a Parquet artifact: ``label`` and one column per slice) stays with the orchestrator."""

    info: DatasetInfo
    inputs: PlannedInputs
    answers_sha256: str | None
    answers_size_bytes: int | None = None
    slices: tuple[str, ...] = ()


class PlannedTask(_Frozen):
    kind: TaskKind
    scores: str = "logits"
    top_k: int = 5


class PlannedVariant(_Frozen):
    """One file to run; ``steps`` are its input steps, resolved. ``info.sha256`` names the artifact."""

    info: VariantInfo
    steps: tuple[dict[str, Any], ...] = ()


class PlannedModel(_Frozen):
    name: str
    reference: str
    task: PlannedTask
    dataset: PlannedDataset
    variants: dict[str, PlannedVariant]


class ScenarioSettings(_Frozen):
    """How one scenario is run; the load settings and ``start_gate`` matter to ``latency`` alone, ``soak`` is there for soaks."""

    repeats: int = 1
    full_outputs: bool = False
    warmup_min_secs: float = 1.0
    warmup_runs: int = 10
    min_duration_secs: float = 10.0
    min_query_count: int = 1024
    max_duration_secs: float = 60.0
    start_gate: StartGate | None = None
    soak: PlannedSoak | None = None

    @property
    def gate(self) -> StartGate | None:
        """The temperature from which a run begins, wherever the spec says it."""
        return self.soak.gate if self.soak is not None else self.start_gate


class Limits(_Frozen):
    timeout_secs: float = 600.0
    max_attempts: int = 3
    orphan_after_secs: float = 900.0


class Plan(_Frozen):
    models: dict[str, PlannedModel]
    scenarios: dict[Scenario, ScenarioSettings]
    limits: Limits = Field(default_factory=Limits)
    telemetry_hz: float = 10.0
