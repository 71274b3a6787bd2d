"""Read every file that a spec names, once, and keep each by its content: from here on nothing that happens to the files matters.

:func:`snapshot` keeps them and returns the plan; :func:`check` does all the same but keeps nothing.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from orchestrator.analysis.model_census import ModelUnreadable, census, contradictions
from orchestrator.dispatch.arrivals import read_arrivals
from orchestrator.dispatch.dataset_snapshot import DatasetReading
from orchestrator.domain import mistakes as told
from orchestrator.domain.cells import variant_of
from orchestrator.domain.mistakes import Mistake, SpecError, SpecWarning, did_you_mean
from orchestrator.domain.plan import Plan, PlannedDataset, PlannedModel, PlannedTask, PlannedVariant, ScenarioSettings
from orchestrator.domain.results import VariantInfo
from orchestrator.domain.spec import Dataset, ExperimentSpec, Model, Task, Variant
from orchestrator.domain.states import Scenario, TaskKind
from orchestrator.store.artifacts import ArtifactRef

MAX_FILE_BYTES = 4 * 1024**3


class Keeper(Protocol):
    """Where the files go: an ``ArtifactStore``, or :class:`HashOnly`."""

    def put_bytes(self, data: bytes, kind: str) -> ArtifactRef: ...


class HashOnly:
    """Names content by its digest and keeps none of it."""

    def put_bytes(self, data: bytes, kind: str) -> ArtifactRef:
        return ArtifactRef(hashlib.sha256(data).hexdigest(), len(data), kind)


def snapshot(spec: ExperimentSpec, base_folder: Path, artifacts: Keeper) -> tuple[Plan, tuple[SpecWarning, ...]]:
    """Return the plan, with every file kept in ``artifacts``, and what a person should know about the files.

    ``base_folder`` is the folder of the spec. Raises :class:`SpecError` with all mistakes at once (missing, unreadable or changed files,
    datasets that contradict themselves); what ``artifacts`` raises passes through.
    """
    reading = _Reading(spec, base_folder, artifacts)
    models = {model.name: reading.model(index, model) for index, model in spec.present_models()}
    scenarios = reading.scenarios()
    if reading.mistakes:
        raise SpecError(reading.mistakes)
    planned = {name: model for name, model in models.items() if model is not None}
    plan = Plan(models=planned, scenarios=scenarios, limits=spec.limits.planned(), telemetry_hz=spec.telemetry_hz)
    return plan, tuple(reading.warnings)


def leave_out_missing(spec: ExperimentSpec, base_folder: Path) -> tuple[ExperimentSpec, tuple[SpecWarning, ...]]:
    """Leave out the optional models of which a file is not there, with a warning for each.

    Raises :class:`SpecError` when nothing is left, or what is left out is named in ``include``.
    """
    warnings = []
    mistakes = []
    left_out: set[str] = set()
    for place, model in enumerate(spec.models):
        names = dict.fromkeys([spec.dataset_of(model).file, *(variant.file for variant in model.variants)])
        missing = [name for name in names if not (base_folder / name).exists()] if model.optional else []
        if missing:
            left_out.add(model.name)
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            warnings.append(
                spec.source.warning(("models", place), f"{model.name} is optional and left out: {missing[0]}{more} is not there")
            )
    for place, entry in enumerate(spec.include):
        if variant_of(spec, entry)[0].name in left_out:
            mistakes.append(spec.source.mistake(("include", place), f"{entry.variant} is of a model that is left out", "fetch its files"))
    if len(left_out) == len(spec.models):
        mistakes.append(spec.source.mistake(("models",), "every model is optional, and of each a file is missing", "fetch one's files"))
    if mistakes:
        raise SpecError(mistakes)
    return spec.without_models(left_out), tuple(warnings)


def check(spec: ExperimentSpec, base_folder: Path) -> tuple[Plan, tuple[SpecWarning, ...]]:
    """Read and check every file as :func:`snapshot` does, and keep nothing."""
    return snapshot(spec, base_folder, HashOnly())


@dataclass
class _Reading:
    spec: ExperimentSpec
    folder: Path
    artifacts: Keeper
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[SpecWarning] = field(default_factory=list)
    datasets: dict[tuple[Dataset, TaskKind], PlannedDataset | None] = field(default_factory=dict)

    def model(self, index: int, model: Model) -> PlannedModel | None:
        at: told.Path = ("models", index)
        task = self.spec.task_of(model)
        dataset = self._dataset((*at, "dataset") if model.dataset else ("dataset",), self.spec.dataset_of(model), task)
        variants = {item.name: self._variant((*at, "variants", place), model, item) for place, item in enumerate(model.variants)}
        if dataset is None:
            return None
        class_count = dataset.info.class_count
        top_k = min(task.top_k, class_count) if class_count else task.top_k
        return PlannedModel(
            name=model.name,
            reference=model.reference,
            task=PlannedTask(kind=task.kind, scores=task.scores, top_k=top_k),
            dataset=dataset,
            variants={name: variant for name, variant in variants.items() if variant is not None},
        )

    def scenarios(self) -> dict[Scenario, ScenarioSettings]:
        """The settings of every scenario; the arrivals of a recorded load pattern are read into them."""
        settings = self.spec.scenario_settings()
        soak = settings[Scenario.SOAK].soak if Scenario.SOAK in settings else None
        if soak is None or isinstance(soak.pattern, str) or soak.pattern.recorded is None:
            return settings
        at: told.Path = ("scenarios", "soak", "pattern", "recorded", "file")
        recorded = soak.pattern.recorded
        data = self._file(at, recorded.file)
        if data is None:
            return settings
        arrivals, mistakes = read_arrivals(data, recorded.cycle_secs)
        for mistake in mistakes:
            self._mistake(at, f"{recorded.file}, line {mistake.line}: {mistake.message}", mistake.remedy)
        planned = soak.model_copy(update={"arrivals_secs": arrivals})
        return {**settings, Scenario.SOAK: settings[Scenario.SOAK].model_copy(update={"soak": planned})}

    def _dataset(self, at: told.Path, dataset: Dataset, task: Task) -> PlannedDataset | None:
        known = (dataset, task.kind)
        if known not in self.datasets:
            data = self._file((*at, "file"), dataset.file)
            reading = DatasetReading(dataset, task, self.spec.source, at)
            self.datasets[known] = reading.plan(data, self._keep) if data is not None else None
            self.mistakes += reading.mistakes
        return self.datasets[known]

    def _variant(self, at: told.Path, model: Model, variant: Variant) -> PlannedVariant | None:
        data = self._file((*at, "file"), variant.file)
        if data is None:
            return None
        sha256, size = self._keep(data, "model")
        if variant.sha256 is not None and variant.sha256 != sha256:
            message = f"{variant.file} has the SHA-256 {sha256}, not the one written here"
            self._mistake((*at, "sha256"), message, "restore the file, or write its digest here if the change is meant")
        weights, notes = self._census(at, variant, data)
        info = VariantInfo(
            model=model.name,
            name=variant.name,
            reference=variant.name == model.reference,
            runtime=variant.runtime,
            precision=variant.precision,
            quantization=variant.quantization,
            file=variant.file,
            sha256=sha256,
            size_bytes=size,
            weights=weights,
            notes=notes,
        )
        return PlannedVariant(info=info, steps=tuple(step.wire() for step in self.spec.steps_of(model, variant)))

    def _census(self, at: told.Path, variant: Variant, data: bytes) -> tuple[dict[str, int], tuple[str, ...]]:
        """Look into the model file. One that cannot be read here is only warned of: whether it runs is for the device to say."""
        try:
            found = census(data, variant.runtime)
        except ModelUnreadable as error:
            self.warnings.append(self.spec.source.warning((*at, "file"), error.message, error.remedy))
            return {}, (error.message,)
        notes = contradictions(variant.precision, found)
        self.warnings += [self.spec.source.warning((*at, "precision"), f"{variant.file}: {note}") for note in notes]
        return dict(found.weights), tuple(notes)

    def _file(self, at: told.Path, name: str) -> bytes | None:
        """Read a whole file, or tell why that is not possible."""
        path = self.folder / name
        with self._told(at, name, path):
            facts = path.stat()
            if not stat.S_ISREG(facts.st_mode):
                self._mistake(at, f"{name} is not a file", "name the file itself")
            elif facts.st_size > MAX_FILE_BYTES:
                self._mistake(at, f"{name} has {facts.st_size} bytes, more than the {MAX_FILE_BYTES} allowed", "use a smaller file")
            elif data := path.read_bytes():
                return data
            else:
                self._mistake(at, f"{name} is empty", "was it written or fetched completely?")
        return None

    @contextmanager
    def _told(self, at: told.Path, name: str, path: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            near = did_you_mean(path.name, sorted(item.name for item in path.parent.iterdir())[:200]) if path.parent.is_dir() else ""
            remedy = near if near.startswith("did you mean") else "paths are relative to the folder of the spec"
            self._mistake(at, f"there is no file {name} in {self.folder}", remedy)
        except (OSError, ValueError) as error:
            self._mistake(at, f"cannot read {name}: {getattr(error, 'strerror', None) or error}", "make the file readable for this user")

    def _keep(self, data: bytes, kind: str) -> tuple[str, int]:
        # Once there is a mistake the plan will not be used: there is no point in keeping its files.
        keeper = HashOnly() if self.mistakes else self.artifacts
        ref = keeper.put_bytes(data, kind)
        return ref.sha256, ref.size_bytes

    def _mistake(self, at: told.Path, message: str, remedy: str) -> None:
        self.mistakes.append(self.spec.source.mistake(at, message, remedy))
