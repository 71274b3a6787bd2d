"""Following recipes: read, laid out with their files by content, and turned into the spec of the repeats (``recipe_making`` makes them)."""

from __future__ import annotations

import hashlib
import math
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.errors import ConfigurationError
from orchestrator.domain.mistakes import did_you_mean
from orchestrator.domain.recipe import Recipe, RecipeFile
from orchestrator.domain.recipe_text import parse_recipe, yaml_text
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.yaml_text import read_yaml
from orchestrator.service.context import Context
from orchestrator.service.export import write_error

_MAX_RECIPE_BYTES = 4 * 1024 * 1024


class RecipeUnreadable(ConfigurationError):
    code = "recipe_unreadable"


class ToleranceInvalid(ConfigurationError):
    code = "tolerance_invalid"


class RecipeFileMissing(ConfigurationError):
    code = "recipe_file_missing"


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
    given to the chamber where the recipe sets one, and stated unless a sensor measures it there. Raises :class:`RecipeFileMissing`.
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
        has_chamber = (soak.get("surroundings") or {}).get("chamber_c") is not None
        if has_chamber:
            soak["surroundings"]["chamber_c"] = float(ambient_c)
        # Where a chamber is set and a sensor looks on, the sensor tells: the chamber may never get there.
        if not (has_chamber and (soak.get("ambient") or {}).get("sensor")):
            soak["ambient"] = {"stated_c": float(ambient_c)}
    text = yaml_text(content)
    parse_spec(text, f"the spec of {recipe.from_job}'s recipe")
    return text


# --- below ---------------------------------------------------------------------------------------------------


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
