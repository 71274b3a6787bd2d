"""The experiment spec, format 1: what a person writes in YAML. docs/spec.md explains it; ``spec_text.parse_spec`` reads it.

These models hold what was written. ``ExperimentSpec.task_of`` and its neighbours resolve the defaults that stand at the top level.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from orchestrator.domain.device_query import QueryInvalid, parse_query
from orchestrator.domain.mistakes import Source
from orchestrator.domain.plan import Limits as PlannedLimits
from orchestrator.domain.plan import ScenarioSettings
from orchestrator.domain.scalars import Flag, Name, NotNegative, OneOrMany, Positive, PositiveWhole, Sha256, Text, Whole, Word, distinct
from orchestrator.domain.soak import PlannedSoak, SoakScenario, StartGate
from orchestrator.domain.states import Scenario, TaskKind
from orchestrator.domain.steps import Step

SPEC_FORMAT = 1
MAX_STEPS = 32

#: Declared precision of a variant, in the field's words: w8a8 is 8-bit weights and activations, w8 8-bit weights alone, dynamic quantizes
#: the activations at run time.
Precision = Literal["fp32", "fp16", "bf16", "int8", "uint8", "w8a8", "w8a16", "w16a16", "w8", "w4", "w4a16", "dynamic", "mixed"]
Runtime = Literal["onnx", "tflite"]
GraphOptimization = Literal["none", "basic", "extended", "all"]

#: Providers (ONNX Runtime's word) and delegates (TFLite's) that are known to belong to one runtime; any other word is left to the device.
RUNTIME_PROVIDERS: dict[str, tuple[str, ...]] = {
    "onnx": ("default", "cpu", "cuda", "tensorrt"),
    "tflite": ("default", "xnnpack", "builtin"),
}


def _expression(text: str) -> str:
    try:
        parse_query(text)
    except QueryInvalid as error:
        raise ValueError(f"{error.message} | {error.remedy}") from error
    return text


_Query = Annotated[Word, AfterValidator(_expression)]
_Names = Annotated[tuple[Name, ...], Field(min_length=1, max_length=1_000), AfterValidator(distinct), OneOrMany()]
_Threads = Annotated[tuple[PositiveWhole, ...], Field(min_length=1, max_length=100), AfterValidator(distinct), OneOrMany()]
_Optimizations = Annotated[tuple[GraphOptimization, ...], Field(min_length=1), AfterValidator(distinct), OneOrMany()]
_Steps = Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)]
_Scenarios = Annotated[tuple[Scenario, ...], Field(min_length=1), AfterValidator(distinct), OneOrMany()]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(_Frozen):
    """What the outputs mean. ``scores`` says whether a classifier gives logits or probabilities."""

    kind: TaskKind
    scores: Literal["logits", "probabilities"] = "logits"
    top_k: Annotated[PositiveWhole, Field(le=100)] = 5


class Dataset(_Frozen):
    """One ``.npz`` file and the names of its arrays; ``slices`` are per-sample columns by which accuracy is shown apart."""

    file: Word
    inputs: Word
    labels: Word | None = None
    slices: Annotated[tuple[Word, ...], AfterValidator(distinct)] = ()
    limit: PositiveWhole | None = None
    class_names: Annotated[tuple[Word, ...], Field(max_length=100_000), AfterValidator(distinct)] = ()


class Variant(_Frozen):
    """One file of a model. ``sha256``, when given, must be the file's; ``steps`` replace those of the model."""

    name: Name
    file: Word
    runtime: Runtime
    precision: Precision
    quantization: Text = "none"
    sha256: Sha256 | None = None
    steps: _Steps | None = None


class Model(_Frozen):
    """A family: variants that came from one trained network, and which of them is the reference.

    An ``optional`` one is left out, and that is said, where a file of it is missing: for files that may not be shipped with the spec.
    """

    name: Name
    task: Task | None = None
    dataset: Dataset | None = None
    steps: _Steps | None = None
    reference: Name
    optional: Flag = False
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]


class DeviceDemand(_Frozen):
    """``each``: one job for every matching device; ``any``: ``count`` of them, whichever is free."""

    each: _Query | None = None
    any: _Query | None = None
    count: PositiveWhole = 1

    @model_validator(mode="after")
    def _one_of_them(self) -> DeviceDemand:
        if (self.each is None) == (self.any is None):
            raise ValueError("a demand is either `each` or `any` | for example {each: all} or {any: all, count: 2}")
        if self.each is not None and "count" in self.model_fields_set:
            raise ValueError("`count` goes with `any` | `each` already means every matching device")
        return self


class SettingsAxes(_Frozen):
    """The settings axes; every combination is a cell. ``graph_optimization`` exists in ONNX Runtime alone."""

    num_threads: _Threads = (1,)
    provider: _Names = ("default",)
    graph_optimization: _Optimizations = ("all",)


class AccuracyScenario(_Frozen):
    """Every sample once; ``full_outputs`` keeps all output values beside the top classes."""

    repeats: PositiveWhole = 1
    full_outputs: Flag = False

    def settings(self) -> ScenarioSettings:
        return ScenarioSettings(**self.model_dump())


class LatencyScenario(_Frozen):
    """Warm-up until both minima are met; then measured until minimum duration and minimum count are met, or the maximum duration."""

    repeats: PositiveWhole = 1
    warmup_min_secs: NotNegative = 1.0
    warmup_runs: Annotated[Whole, Field(ge=0, lt=2**31)] = 10
    min_duration_secs: NotNegative = 10.0
    min_query_count: PositiveWhole = 1024
    max_duration_secs: Positive = 60.0
    start_gate: StartGate | None = None

    @model_validator(mode="after")
    def _ordered(self) -> LatencyScenario:
        if self.min_duration_secs > self.max_duration_secs:
            least, most = self.min_duration_secs, self.max_duration_secs
            raise ValueError(f"min_duration_secs ({least:g}) is above max_duration_secs ({most:g}) | lower one or raise the other")
        return self

    def settings(self) -> ScenarioSettings:
        return ScenarioSettings(**self.model_dump())


class Scenarios(_Frozen):
    accuracy: AccuracyScenario | None = None
    latency: LatencyScenario | None = None
    soak: SoakScenario | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_key_means_defaults(cls, value: Any) -> Any:
        return {key: {} if item is None else item for key, item in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _at_least_one(self) -> Scenarios:
        if self.accuracy is None and self.latency is None and self.soak is None:
            raise ValueError("no scenario is given | write `accuracy:`, `latency:` or `soak:` below it")
        return self

    def settings(self) -> dict[Scenario, ScenarioSettings]:
        """Return the scenarios asked for, in the order in which they run."""
        asked = {Scenario.ACCURACY: self.accuracy, Scenario.LATENCY: self.latency}
        settings = {scenario: item.settings() for scenario, item in asked.items() if item is not None}
        if self.soak is not None:
            settings[Scenario.SOAK] = ScenarioSettings(
                repeats=self.soak.repeats,
                warmup_min_secs=self.soak.warmup_min_secs,
                warmup_runs=0 if self.soak.pattern == "cold_start" else self.soak.warmup_runs,
                soak=PlannedSoak(**self.soak.model_dump()),
            )
        return settings


class Limits(_Frozen):
    """``timeout_secs`` and ``max_attempts`` for each job; a run that nobody has read for ``orphan_after_secs`` ends itself; never more than
    ``max_devices`` are held by this experiment at once."""

    timeout_secs: Positive = 600.0
    max_attempts: Annotated[PositiveWhole, Field(le=100)] = 3
    orphan_after_secs: Positive = 900.0
    max_devices: PositiveWhole | None = None

    def planned(self) -> PlannedLimits:
        return PlannedLimits(**self.model_dump(exclude={"max_devices"}))


class Exclude(_Frozen):
    """Cells that match every key given here go; a key takes one value or a list of them."""

    model: _Names | None = None
    variant: _Names | None = None
    environment: _Names | None = None
    num_threads: _Threads | None = None
    provider: _Names | None = None
    graph_optimization: _Optimizations | None = None
    scenario: _Scenarios | None = None
    device: _Names | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Exclude:
        if not self.model_fields_set:
            raise ValueError("an empty entry would exclude everything | name at least one key")
        return self


class Include(_Frozen):
    """One further cell; what is not given takes the first value of its axis, and without ``device`` it runs on the devices of the spec."""

    variant: Name
    model: Name | None = None
    environment: Name | None = None
    num_threads: PositiveWhole | None = None
    provider: Name | None = None
    graph_optimization: GraphOptimization | None = None
    scenario: Scenario | None = None
    device: Name | None = None


class ExperimentSpec(_Frozen):
    """A whole spec. Lists that are left out have the defaults shown here; paths are relative to the spec's folder."""

    format: Literal[1]
    name: Name
    priority: Annotated[Whole, Field(ge=-1_000, le=1_000)] = 0
    task: Task | None = None
    dataset: Dataset | None = None
    steps: _Steps = ()
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    devices: Annotated[tuple[DeviceDemand, ...], Field(min_length=1)] = (DeviceDemand(each="all"),)
    environments: _Names = ("default",)
    settings: SettingsAxes = SettingsAxes()
    scenarios: Scenarios = Scenarios(accuracy=AccuracyScenario(), latency=LatencyScenario())
    limits: Limits = Limits()
    telemetry_hz: Annotated[NotNegative, Field(le=1_000)] = 10.0
    exclude: tuple[Exclude, ...] = ()
    include: tuple[Include, ...] = ()

    _source: Source = PrivateAttr(default_factory=lambda: Source("<spec>", ""))
    _left_out: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def source(self) -> Source:
        """The text this spec was read from, with the place of every value."""
        return self._source

    def with_source(self, source: Source) -> ExperimentSpec:
        """Return the same spec, remembering the text it was read from."""
        copy = self.model_copy()
        copy._source = source
        return copy

    def without_models(self, names: Iterable[str]) -> ExperimentSpec:
        """Return the same spec, from which these models are left out; the places of the others stay what they are in its text."""
        copy = self.model_copy()
        copy._source, copy._left_out = self._source, frozenset(names)
        return copy

    def present_models(self) -> tuple[tuple[int, Model], ...]:
        """Return the models that are not left out, each with its place in the spec."""
        return tuple((place, model) for place, model in enumerate(self.models) if model.name not in self._left_out)

    def scenario_settings(self) -> dict[Scenario, ScenarioSettings]:
        """Return the settings of every scenario that some cell runs; one that only ``include`` names has its defaults."""
        named: dict[str, dict[str, Any]] = {entry.scenario: {} for entry in self.include if entry.scenario is not None}
        return {**Scenarios.model_validate(named).settings(), **self.scenarios.settings()} if named else self.scenarios.settings()

    def task_of(self, model: Model) -> Task:
        """Return the model's task, else the spec's; ``parse_spec`` has made sure that there is one."""
        task = model.task or self.task
        assert task is not None
        return task

    def dataset_of(self, model: Model) -> Dataset:
        """Return the model's dataset, else the spec's; ``parse_spec`` has made sure that there is one."""
        dataset = model.dataset or self.dataset
        assert dataset is not None
        return dataset

    def steps_of(self, model: Model, variant: Variant) -> tuple[Step, ...]:
        """Return the input steps of a variant: its own, else the model's, else the spec's."""
        for steps in (variant.steps, model.steps):
            if steps is not None:
                return steps
        return self.steps


def spec_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a spec, for editors and for ``edgematrix spec schema``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ExperimentSpec.model_json_schema()}
