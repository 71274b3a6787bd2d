"""Recipes: one soak with everything needed to do it again, made from a job and followed on any device.

The files travel by content. A data set is written anew as one ``.npz`` of just what was used, the same bytes from the same data.
"""

from __future__ import annotations

import hashlib
import io
import math
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import ConfigurationError
from orchestrator import __version__
from orchestrator.analysis.reproduction import expectations
from orchestrator.analysis.thermal_predict import heating_of
from orchestrator.dispatch.dataset_snapshot import LABEL_COLUMN
from orchestrator.dispatch.npz import npy_bytes
from orchestrator.domain.mistakes import did_you_mean
from orchestrator.domain.plan import Plan, PlannedModel
from orchestrator.domain.recipe import Recipe, RecipeFile
from orchestrator.domain.recipe_text import parse_recipe, yaml_text
from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.soak import PlannedSoak, SoakScenario
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.thermal import ThermalStory
from orchestrator.domain.yaml_text import read_yaml
from orchestrator.service.context import Context
from orchestrator.service.export import write_error
from orchestrator.service.thermal import LoadedSoak
from orchestrator.service.thermal_conditions import conditions_of
from orchestrator.store.artifacts import ArtifactRef, ArtifactStore, record_artifacts
from orchestrator.store.database import session as open_session
from orchestrator.store.traces import read_trace

_MAX_RECIPE_BYTES = 4 * 1024 * 1024
_DATASET_FILE = "inputs.npz"
_ARRIVALS_FILE = "arrivals.csv"


class RecipeUnreadable(ConfigurationError):
    code = "recipe_unreadable"


class ToleranceInvalid(ConfigurationError):
    code = "tolerance_invalid"


class RecipeFileMissing(ConfigurationError):
    code = "recipe_file_missing"


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
        soak=_as_written(run.soak),
        conditions=conditions_of(run, story),
        throttled=story.throttled,
        onset_cause=story.onset.cause.value if story.onset else None,
        expectations=expectations(story),
        predictions=story.predictions,
        heating=heating,
        limit_c=limit_c,
    )


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file. Raises :class:`RecipeUnreadable`, or RecipeError with every mistake and its line."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_RECIPE_BYTES:
            raise RecipeUnreadable(f"{path} is not a recipe: {'over 4 MiB' if stat.S_ISREG(found.st_mode) else 'no file'}", "name a file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeUnreadable(f"{path} cannot be read: {error.strerror}", "edgematrix thermal recipe JOB writes one") from error
    except UnicodeDecodeError as error:
        raise RecipeUnreadable(f"{path} is not UTF-8 text: {error}", "save it as UTF-8") from error
    return parse_recipe(text, str(path))


def with_tolerances(recipe: Recipe, asked: Sequence[str]) -> Recipe:
    """Return the recipe with other tolerances: each ``QUANTITY=VALUE`` in the quantity's unit, or in percent of its value with ``%``.

    Raises :class:`ToleranceInvalid`, which names the quantities there are.
    """
    expected = {item.name: item for item in recipe.expectations}
    for text in asked:
        name, separator, value = text.partition("=")
        if not separator or name not in expected:
            raise ToleranceInvalid(f"{text!r}: there is no quantity {name!r}", did_you_mean(name, list(expected)))
        try:
            width = float(value.removesuffix("%"))
        except ValueError:
            width = math.nan
        if not (math.isfinite(width) and width >= 0):
            raise ToleranceInvalid(f"{text!r}: {value!r} is no tolerance", f"write {name}=5% or {name}=2 ({expected[name].unit})")
        is_share = value.endswith("%")
        changed = {"relative": width / 100 if is_share else None, "absolute": None if is_share else width}
        expected[name] = expected[name].model_copy(update=changed)
    return recipe.model_copy(update={"expectations": tuple(expected.values())})


def write_files(context: Context, recipe: Recipe, folder: Path) -> tuple[Path, ...]:
    """Write the recipe's files into a folder, for colleagues who do not share the artifact store. Raises DiskFull, FolderUnwritable."""
    written = []
    for item in recipe.files:
        target = folder / item.file
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(context.artifacts.local_path(item.sha256), target)
        except OSError as error:
            raise write_error(target, error) from error
        written.append(target)
    return tuple(written)


@contextmanager
def laid_out(
    context: Context, recipe: Recipe, folders: Sequence[Path], devices: Sequence[str], times: int, ambient_c: float | None
) -> Iterator[Path]:
    """Yield the path of a spec that follows the recipe ``times`` times on each device, with its files beside it; gone afterwards.

    Files come from the artifact store, else from one of ``folders``; only the content that the recipe names is taken. ``ambient_c`` is
    stated for these runs, and given to the chamber where the recipe sets one. Raises :class:`RecipeFileMissing`.
    """
    with tempfile.TemporaryDirectory(prefix="edgematrix-recipe-") as name:
        for item in recipe.files:
            shutil.copyfile(_resolve(context, item, folders), Path(name) / item.file)
        spec = Path(name) / "spec.yaml"
        spec.write_text(repeated_spec(recipe, devices, times, ambient_c), encoding="utf-8")
        yield spec


def repeated_spec(recipe: Recipe, devices: Sequence[str], times: int, ambient_c: float | None) -> str:
    """Return the recipe's spec for these devices, so often, at this ambient."""
    content: dict[str, Any] = read_yaml(recipe.spec, "spec").value
    content["devices"] = [{"each": f"name == '{device}'"} for device in devices]
    soak = content["scenarios"]["soak"]
    soak["repeats"] = times
    if ambient_c is not None:
        soak["ambient"] = {"stated_c": float(ambient_c)}
        if (soak.get("surroundings") or {}).get("chamber_c") is not None:
            soak["surroundings"]["chamber_c"] = float(ambient_c)
    text = yaml_text(content)
    parse_spec(text, f"the spec of {recipe.from_job}'s recipe")
    return text


def refuse_other_runs(recipe: Recipe, run: LoadedSoak) -> None:
    """Raise :class:`RecipeUnreadable` unless the run was of the recipe's model and protocol; ambient and surroundings may differ."""
    model = parse_spec(recipe.spec, "spec").models[0].variants[0]
    wanted = next(item.sha256 for item in recipe.files if item.file == model.file)
    free = {"repeats": 1, "ambient": None, "surroundings": None}
    if run.envelope.variant.sha256 != wanted:
        why = f"ran the model {run.envelope.variant.name} with the SHA-256 {run.envelope.variant.sha256[:12]}…, not {wanted[:12]}…"
    elif _as_written(run.soak).model_copy(update=free) != recipe.soak.model_copy(update=free):
        why = "followed another protocol"
    else:
        return
    raise RecipeUnreadable(f"{run.job_id} {why}", "judge the jobs that 'edgematrix thermal reproduce' made of this recipe")


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
        soak = _as_written(self._run.soak).model_dump(mode="json", exclude_none=True)
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


def _as_written(soak: PlannedSoak) -> SoakScenario:
    """A planned soak as a person would write it, once."""
    return SoakScenario.model_validate({**soak.model_dump(exclude={"arrivals_secs"}), "repeats": 1})


def _step(wire: dict[str, Any]) -> Any:
    """A step as the protocol has it, as a spec writes it."""
    parameters = {name: value for name, value in wire.items() if name != "kind"}
    return {wire["kind"]: parameters} if parameters else wire["kind"]


def _free_name(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _resolve(context: Context, item: RecipeFile, folders: Sequence[Path]) -> Path:
    if context.artifacts.exists(item.sha256):
        return context.artifacts.local_path(item.sha256)
    tried = [folder / item.file for folder in folders]
    other = None
    for path in tried:
        if path.is_file():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == item.sha256:
                    return path
            other = path
    message = f"{other} is not the file that the recipe names" if other else f"the file {item.file} of the recipe is not here"
    places = ", ".join(map(str, dict.fromkeys(folders)))
    raise RecipeFileMissing(
        f"{message} (SHA-256 {item.sha256[:12]}…)",
        f"looked in the artifact store and in {places}; 'edgematrix thermal recipe JOB --files DIR' writes them where the run was made",
    )
