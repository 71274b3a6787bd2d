"""Making the recipe of a soak: its one-cell spec, written anew, with every file it names kept by content.

A data set is written as one ``.npz`` of just what was used, the same bytes from the same data.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator import __version__
from orchestrator.analysis.reproduction import expectations
from orchestrator.analysis.thermal_predict import heating_of
from orchestrator.dispatch.dataset_snapshot import LABEL_COLUMN
from orchestrator.dispatch.npz import npy_bytes
from orchestrator.domain.plan import Plan, PlannedModel
from orchestrator.domain.recipe import Recipe, RecipeFile
from orchestrator.domain.recipe_text import yaml_text
from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.soak import PlannedSoak, SoakScenario
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.thermal import ThermalStory
from orchestrator.service.context import Context
from orchestrator.service.recipes import RecipeUnreadable
from orchestrator.service.thermal import LoadedSoak
from orchestrator.service.thermal_conditions import conditions_of
from orchestrator.store.artifacts import ArtifactRef, ArtifactStore, record_artifacts
from orchestrator.store.database import session as open_session
from orchestrator.store.traces import read_trace

_DATASET_FILE = "inputs.npz"
_ARRIVALS_FILE = "arrivals.csv"


def make_recipe(context: Context, run: LoadedSoak, story: ThermalStory) -> Recipe:
    """Return the recipe of a complete run; its files are in the artifact store afterwards.

    Raises :class:`RecipeUnreadable` for a run that was cut short: what it showed is no measure for others.
    """
    if not run.complete:
        raise RecipeUnreadable(
            f"attempt {run.attempt.number} of {run.job_id} was not measured to its end", "make the recipe of a complete soak"
        )
    files, spec = _Writing(context.artifacts, run).spec()
    heating, limit_c = heating_of(story)
    with open_session(context.engine) as session:
        record_artifacts(session, files.values(), context.clock())
    return Recipe(
        from_job=run.job_id,
        made_utc=datetime.fromtimestamp(context.clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        edgematrix_version=__version__,
        spec=spec,
        files=tuple(RecipeFile(file=name, sha256=ref.sha256) for name, ref in files.items()),
        soak=as_written(run.soak),
        conditions=conditions_of(run, story),
        throttled=story.throttled,
        onset_cause=story.onset.cause.value if story.onset else None,
        expectations=expectations(story),
        predictions=story.predictions,
        heating=heating,
        limit_c=limit_c,
    )


def as_written(soak: PlannedSoak) -> SoakScenario:
    """A planned soak as a person would write it, once."""
    return SoakScenario.model_validate({**soak.model_dump(exclude={"arrivals_secs"}), "repeats": 1})


# --- writing the spec of one job -----------------------------------------------------------------------------


class _Writing:
    """Writes the one-cell spec of a job, keeping each file it names in the artifact store."""

    def __init__(self, artifacts: ArtifactStore, run: LoadedSoak) -> None:
        self._artifacts, self._run = artifacts, run
        self._files: dict[str, ArtifactRef] = {}

    def spec(self) -> tuple[dict[str, ArtifactRef], str]:
        """Return the files by the names in the spec, and the spec's text."""
        envelope, plan = self._run.envelope, self._run.plan
        settings = envelope.job.settings
        axes = {"num_threads": settings.num_threads, "provider": settings.provider}
        if settings.graph_optimization is not None:
            axes["graph_optimization"] = settings.graph_optimization
        soak = as_written(self._run.soak).model_dump(mode="json", exclude_none=True)
        if self._run.soak.probe is None:
            soak["probe"] = None  # left out, it would mean the default
        content = {
            "format": 1,
            "name": envelope.experiment.name,
            "models": [self._model(envelope, plan)],
            "environments": [envelope.job.environment],
            "settings": axes,
            "scenarios": {"soak": self._with_arrivals(soak)},
            "limits": plan.limits.model_dump(mode="json"),
            "telemetry_hz": plan.telemetry_hz,
        }
        text = yaml_text(content)
        parse_spec(text, f"the spec of {envelope.job.id}")  # what is written must be what a reader takes
        return self._files, text

    def _model(self, envelope: ResultEnvelope, plan: Plan) -> dict[str, Any]:
        model = plan.models[envelope.variant.model]
        variant = model.variants[envelope.variant.name]
        info = variant.info
        file = self._named(Path(info.file).name or "model", ArtifactRef(info.sha256, info.size_bytes, "model"))
        task: dict[str, Any] = {"kind": model.task.kind.value, "scores": model.task.scores, "top_k": model.task.top_k}
        return {
            "name": model.name,
            "task": task,
            "dataset": self._dataset(model),
            "reference": info.name,
            "variants": [
                {
                    "name": info.name,
                    "file": file,
                    "sha256": info.sha256,
                    "runtime": info.runtime,
                    "precision": info.precision,
                    "quantization": info.quantization,
                    "steps": [_step(step) for step in variant.steps],
                }
            ],
        }

    def _dataset(self, model: PlannedModel) -> dict[str, Any]:
        dataset = model.dataset
        answers = read_trace(self._artifacts, dataset.answers_sha256) if dataset.answers_sha256 else {}
        inputs, labels = _free_name("inputs", dataset.slices), _free_name("labels", dataset.slices)
        members = {inputs: self._artifacts.get_bytes(dataset.inputs.sha256)}
        content: dict[str, Any] = {"file": "", "inputs": inputs}
        for name, column in answers.items():
            array = np.asarray(column.tolist()) if column.dtype.kind == "O" else column
            members[labels if name == LABEL_COLUMN else name] = npy_bytes(array)
        if LABEL_COLUMN in answers:
            content["labels"] = labels
        if dataset.slices:
            content["slices"] = list(dataset.slices)
        if dataset.info.class_names:
            content["class_names"] = list(dataset.info.class_names)
        content["file"] = self._named(_DATASET_FILE, self._artifacts.put_bytes(npz_bytes(members), "dataset"))
        return content

    def _with_arrivals(self, soak: dict[str, Any]) -> dict[str, Any]:
        pattern = soak["pattern"]
        if isinstance(pattern, dict) and "recorded" in pattern:
            lines = "arrival_secs\n" + "".join(f"{value!r}\n" for value in self._run.soak.arrivals_secs)
            pattern["recorded"]["file"] = self._named(_ARRIVALS_FILE, self._artifacts.put_bytes(lines.encode(), "arrivals"))
        return soak

    def _named(self, name: str, ref: ArtifactRef) -> str:
        if name in self._files and self._files[name].sha256 != ref.sha256:
            name = f"{ref.sha256[:8]}-{name}"
        self._files[name] = ref
        return name


def npz_bytes(members: dict[str, bytes]) -> bytes:
    """Return an ``.npz`` of arrays in their ``.npy`` form; the same arrays give the same bytes everywhere."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), data)
    return stream.getvalue()


def _step(wire: dict[str, Any]) -> Any:
    """A step as the protocol has it, as a spec writes it."""
    parameters = {name: value for name, value in wire.items() if name != "kind"}
    return {wire["kind"]: parameters} if parameters else wire["kind"]


def _free_name(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name
