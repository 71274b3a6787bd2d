"""The result of one job as every reader sees it: compare, report, export, the CLI's ``--json``.

``ResultEnvelope`` is the published format; its JSON Schema is exported by ``edgematrix export --schema``. Results are immutable. What could
not be computed is None with a ``cause``; nothing is imputed.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.domain.states import Emulation, JobOutcome, JobState, Scenario, TaskKind, Validity

#: Format history: 1 first release.
RESULT_FORMAT: Final = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(_Frozen):
    """One number with its unit; ``low``/``high`` is a 95 % interval where one can be given, ``count`` the observations behind it."""

    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    count: int | None = None
    cause: str | None = None


class Reason(_Frozen):
    """Why a measurement is not fully valid; ``value`` against ``threshold`` in the unit the text names."""

    code: str
    level: Validity
    message: str
    value: float | None = None
    threshold: float | None = None


class ValidityRecord(_Frozen):
    """``unknown`` lists what no sensor of this machine can tell; it does not lower the level."""

    level: Validity
    reasons: tuple[Reason, ...] = ()
    unknown: tuple[str, ...] = ()


class ErrorInfo(_Frozen):
    error_class: str
    code: str
    message: str
    remedy: str = ""


class VariantInfo(_Frozen):
    """What was deployed: declared precision and quantization beside what the file itself holds (``weights``: values per data type)."""

    model: str
    name: str
    reference: bool
    runtime: Literal["tflite", "onnx"]
    precision: str
    quantization: str
    file: str
    sha256: str
    size_bytes: int
    weights: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class SettingsInfo(_Frozen):
    num_threads: int
    provider: str
    graph_optimization: str | None


class DatasetInfo(_Frozen):
    file: str
    sha256: str
    sample_count: int
    class_count: int | None = None
    class_names: tuple[str, ...] = ()


class DeviceInfo(_Frozen):
    name: str
    profile: str
    emulated: Emulation = Emulation.NONE


class JobInfo(_Frozen):
    """The cell of the matrix and where the job stands."""

    id: str
    key: str
    scenario: Scenario
    task: TaskKind
    environment: str
    settings: SettingsInfo
    repeat: int
    state: JobState
    outcome: JobOutcome | None
    attempts: int
    error: ErrorInfo | None = None


class SensorRecord(_Frozen):
    """One channel of the ``telemetry`` trace, whose ``sensor`` column counts these from 0; ``error`` when it could not be read.

    ``readings`` counts how often it was asked, ``missing`` how often it did not answer; ``quantity`` is one of
    ``agent.protocol.QUANTITIES``; ``caution`` what a reader must know of its readings.
    """

    name: str
    unit: str
    source: str
    error: str | None = None
    readings: int = 0
    missing: int = 0
    quantity: str = "other"
    caution: str | None = None


class AttemptInfo(_Frozen):
    """One execution. ``clock_offset_secs`` is the device's UTC less the orchestrator's at the start, known to within its uncertainty.

    ``sampling`` is what reading the sensors cost (``agent.protocol.SamplingCost``); ``stopped`` names the rule by which a soak ended early.
    """

    number: int
    fence: int
    agent_sha256: str
    started_utc: str
    ended_utc: str
    duration_secs: float
    conditions: dict[str, Any] = Field(default_factory=dict)
    conditions_key: str = ""
    clock_offset_secs: float | None = None
    clock_offset_uncertainty_secs: float | None = None
    runner: dict[str, Any] = Field(default_factory=dict)
    sensors: tuple[SensorRecord, ...] = ()
    sampling: dict[str, Any] | None = None
    stopped: str | None = None


class TraceInfo(_Frozen):
    """A time series as Parquet, by content: ``queries``, ``samples``, ``outputs``, ``probes``, ``telemetry``, ``events``."""

    sha256: str
    size_bytes: int
    rows: int


class ExperimentInfo(_Frozen):
    id: str
    name: str
    spec_sha256: str
    submitted_utc: str
    edgematrix_version: str


class ResultEnvelope(_Frozen):
    """Everything that is known of one job: the request, the device, the conditions, the metrics and how far to trust them."""

    format: Literal[1] = RESULT_FORMAT
    experiment: ExperimentInfo
    job: JobInfo
    variant: VariantInfo
    dataset: DatasetInfo
    device: DeviceInfo | None
    attempt: AttemptInfo | None
    validity: ValidityRecord | None
    metrics: tuple[Metric, ...] = ()
    traces: dict[str, TraceInfo] = Field(default_factory=dict)
    analysis_version: int | None = None

    def metric(self, name: str) -> Metric | None:
        """Return the metric of that name, or None when this job has none such."""
        return next((item for item in self.metrics if item.name == name), None)
