"""A recipe as the YAML file that people hand to one another: written with comments, read with every mistake named by its line."""

from __future__ import annotations

import io
from typing import Any, ClassVar

import yaml

from orchestrator.domain.mistakes import Path, SpecError
from orchestrator.domain.recipe import Recipe
from orchestrator.domain.soak import SoakScenario
from orchestrator.domain.spec import ExperimentSpec
from orchestrator.domain.spec_text import parse_spec
from orchestrator.domain.validation import validate
from orchestrator.domain.yaml_text import read_yaml

_HEAD = """\
# A soak that can be done again: the protocol, the conditions of the first run, and what it showed.
#
#     edgematrix thermal reproduce THIS_FILE --device NAME --times 5
#
# docs/thermal.md explains every part.
"""

#: Key → the comment above it, in the order in which they are written.
_COMMENTS = {
    "format": None,
    "from_job": "Where it comes from.",
    "made_utc": None,
    "edgematrix_version": None,
    "throttled": "What the first run showed: whether the device slowed down (null: nothing on it could have shown that), named by what.",
    "onset_cause": None,
    "expectations": "What a repeat is held against: `relative` is a share of the value, `absolute` is in its unit; the wider counts.",
    "conditions": "The conditions of the first run; what differs in a repeat is named as a reason.",
    "predictions": "When the first run's fitted curve would reach its limit, and at which ambient.",
    "heating": "How the first run heated before any throttling, where its fit is good: what other ambients are predicted from.",
    "limit_c": None,
    "files": "The files, by content. They come from the artifact store, else from the folder of --files, else from beside this file.",
    "soak": "The protocol, with every default written out; it says the same as the spec below.",
    "spec": "The whole experiment; `reproduce` puts in the devices, how often, and the ambient when one is given.",
}


class RecipeError(SpecError):
    """A recipe that cannot be followed; ``mistakes`` holds all of them."""

    code: ClassVar[str] = "recipe_invalid"


class _Block(str):
    """Text that is written as a block of lines."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Plain YAML, with blocks where asked for and without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(_Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|"))


def recipe_text(recipe: Recipe) -> str:
    """Return the recipe as commented YAML; :func:`parse_recipe` reads the same recipe back."""
    record = recipe.model_dump(mode="json")
    record["spec"] = _Block(recipe.spec)
    parts = [_HEAD]
    for key, comment in _COMMENTS.items():
        parts.append(("\n# " + comment + "\n" if comment else "") + yaml_text({key: record[key]}))
    return "".join(parts)


def yaml_text(value: Any) -> str:
    """Return plain values as YAML in the order given, so that :func:`orchestrator.domain.yaml_text.read_yaml` reads the same."""
    stream = io.StringIO()
    dumper = _Dumper(stream, sort_keys=False, allow_unicode=True, width=130, default_flow_style=None)
    dumper.open()
    root = dumper.represent_data(value)
    # What lies deeper and holds nothing but scalars stands in one line each.
    if isinstance(root, yaml.MappingNode):
        for node in (root, *(child for _, child in root.value if isinstance(child, yaml.MappingNode))):
            node.flow_style = False
    dumper.serialize(root)
    dumper.close()
    return stream.getvalue()


def parse_recipe(text: str, file: str) -> Recipe:
    """Read a recipe; ``file`` is the name that mistakes carry. Raises :class:`RecipeError` with all mistakes."""
    document = read_yaml(text, file)
    recipe, mistakes = validate(Recipe, document)
    if recipe is None or mistakes:
        raise RecipeError(mistakes)
    try:
        spec = parse_spec(recipe.spec, f"{file}, spec")
    except SpecError as error:
        raise RecipeError(error.mistakes) from error
    found = [document.source.mistake(path, message, remedy) for path, message, remedy in _contradictions(recipe, spec)]
    if found:
        raise RecipeError(found)
    return recipe


def _contradictions(recipe: Recipe, spec: ExperimentSpec) -> list[tuple[Path, str, str]]:
    """What would make another run than the recipe says."""
    found: list[tuple[Path, str, str]] = []
    if len(spec.models) != 1 or len(spec.models[0].variants) != 1 or spec.include or spec.exclude:
        found.append((("spec",), "it has more than one variant", "a recipe is of one: write the recipe of one job"))
        return found
    if spec.scenarios.soak is None or spec.scenarios.accuracy is not None or spec.scenarios.latency is not None:
        found.append((("spec",), "its scenario is not one soak", "a recipe is of one soak: remove the others"))
    elif spec.scenarios.soak.model_copy(update={"repeats": 1}) != recipe.soak.model_copy(update={"repeats": 1}):
        names = ", ".join(_differing(spec.scenarios.soak, recipe.soak))
        found.append((("soak",), f"the soak here and the one in the spec differ in {names}", "make the change in both places"))
    for place, item in enumerate(recipe.files):
        if "/" in item.file or "\\" in item.file or item.file.startswith("."):
            found.append((("files", place, "file"), f"{item.file!r} is not a plain file name", "name the file without a folder"))
    given = {item.file for item in recipe.files}
    for name in spec_files(spec):
        if name not in given:
            found.append((("files",), f"the file {name} of the spec has no digest here", "add it, or name in the spec what is listed here"))
    return found


def spec_files(spec: ExperimentSpec) -> list[str]:
    """Return the files that a spec of one variant names."""
    model = spec.models[0]
    names = [spec.dataset_of(model).file, *(variant.file for variant in model.variants)]
    pattern = spec.scenarios.soak.pattern if spec.scenarios.soak else "flat_out"
    if not isinstance(pattern, str) and pattern.recorded is not None:
        names.append(pattern.recorded.file)
    return names


def _differing(a: SoakScenario, b: SoakScenario) -> list[str]:
    return [name for name in SoakScenario.model_fields if name != "repeats" and getattr(a, name) != getattr(b, name)]
