"""Checks between the parts of a spec.

They look at the plain values, not at the finished models, so that they speak even when some other part of the same spec is wrong; values of
a wrong type are passed over here, because the models have already told about them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.domain.mistakes import Mistake, Path, Source, did_you_mean
from orchestrator.domain.soak_checks import soak_checks
from orchestrator.domain.spec import RUNTIME_PROVIDERS
from orchestrator.domain.states import TaskKind
from orchestrator.domain.yaml_text import YamlDocument

_Check = Callable[[dict[str, Any], Source], Iterator[Mistake]]


def cross_checks(document: YamlDocument) -> list[Mistake]:
    """Return the mistakes that no single value shows."""
    spec = _mapping(document.value)
    checks: tuple[_Check, ...] = (_names, _references, _tasks_and_datasets, _matrix_entries, _providers, soak_checks)
    return [mistake for check in checks for mistake in check(spec, document.source)]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[tuple[int, dict[str, Any]]]:
    return [(index, item) for index, item in enumerate(value) if isinstance(item, dict)] if isinstance(value, list) else []


def _words(value: Any) -> list[str]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def _models(spec: dict[str, Any]) -> list[tuple[Path, dict[str, Any], list[tuple[Path, dict[str, Any]]]]]:
    """Return each model with its path, and its variants with theirs."""
    found = []
    for index, model in _items(spec.get("models")):
        path: Path = ("models", index)
        variants: list[tuple[Path, dict[str, Any]]] = [((*path, "variants", at), item) for at, item in _items(model.get("variants"))]
        found.append((path, model, variants))
    return found


def _variant_names(spec: dict[str, Any], model: Any = None) -> list[str]:
    models = [variants for _, item, variants in _models(spec) if model is None or item.get("name") in _words(model)]
    return list(dict.fromkeys(name for variants in models for _, variant in variants for name in _words(variant.get("name"))))


def _names(spec: dict[str, Any], source: Source) -> Iterator[Mistake]:
    models = [(path, model) for path, model, _ in _models(spec)]
    for what, group in [("model", models)] + [("variant", variants) for _, _, variants in _models(spec)]:
        seen: dict[str, int] = {}
        for path, item in group:
            for name in _words(item.get("name")):
                if name in seen:
                    message = f"two {what}s have the name {name!r}; the first is on line {seen[name]}"
                    yield source.mistake((*path, "name"), message, "rename one of them")
                seen.setdefault(name, source.place((*path, "name"))[0])


def _references(spec: dict[str, Any], source: Source) -> Iterator[Mistake]:
    for path, model, variants in _models(spec):
        names = [name for _, variant in variants for name in _words(variant.get("name"))]
        for name in _words(model.get("reference")):
            if names and name not in names:
                yield source.mistake((*path, "reference"), f"the reference {name!r} is not among the variants", did_you_mean(name, names))


def _tasks_and_datasets(spec: dict[str, Any], source: Source) -> Iterator[Mistake]:
    for path, model, _ in _models(spec):
        task = model.get("task") or spec.get("task")
        dataset = model.get("dataset") or spec.get("dataset")
        for what, found in (("task", task), ("dataset", dataset)):
            if found is None:
                yield source.mistake(path, f"no {what} is given", f"add `{what}:` to the model or, for all models, to the top level")
        kind, where = _mapping(task).get("kind"), ((*path, "dataset") if model.get("dataset") else ("dataset",))
        if kind in (TaskKind.CLASSIFICATION, TaskKind.ANOMALY) and isinstance(dataset, dict) and dataset.get("labels") is None:
            yield source.mistake(where, f"the task {kind!r} needs labels", "add `labels: ARRAY_NAME`, or make the task {kind: tensor}")
        if kind == TaskKind.ANOMALY and _mapping(dataset).get("class_names"):
            message = "an anomaly task has the labels 0 (normal) and 1 (anomaly)"
            yield source.mistake((*where, "class_names"), message, "remove class_names")


def _matrix_entries(spec: dict[str, Any], source: Source) -> Iterator[Mistake]:
    environments = _words(spec["environments"]) if "environments" in spec else ["default"]
    providers = _words(_mapping(spec.get("settings")).get("provider", "default"))
    models = [name for _, model, _ in _models(spec) for name in _words(model.get("name"))]
    for part in ("exclude", "include"):
        for index, entry in _items(spec.get(part)):
            path: Path = (part, index)
            known = {"model": models, "variant": _variant_names(spec, entry.get("model"))}
            if part == "exclude":
                known.update(environment=environments, provider=providers)
            for key, names in known.items():
                for name in _words(entry.get(key)):
                    if name not in names:
                        yield source.mistake((*path, key), f"no {key} has the name {name!r}", did_you_mean(name, names))
            if part == "include" and "model" not in entry:
                for name in _words(entry.get("variant")):
                    owners = [model for model in models if name in _variant_names(spec, model)]
                    if len(owners) > 1:
                        message = f"{len(owners)} models have a variant {name!r}"
                        yield source.mistake((*path, "variant"), message, f"add `model: {owners[0]}`")


def _providers(spec: dict[str, Any], source: Source) -> Iterator[Mistake]:
    """A provider of one runtime makes no cell for the other; a variant that is left without any cell is a mistake."""
    providers = _words(_mapping(spec.get("settings")).get("provider", "default"))
    known = {word for words in RUNTIME_PROVIDERS.values() for word in words}
    for runtime, own in RUNTIME_PROVIDERS.items():
        if not providers or any(word in own or word not in known for word in providers):
            continue
        all_variants = [variant for _, _, variants in _models(spec) for _, variant in variants]
        left_out = [repr(variant.get("name")) for variant in all_variants if variant.get("runtime") == runtime]
        if left_out:
            message = f"{', '.join(left_out)} would never run: {', '.join(providers)} does not exist for the runtime {runtime}"
            yield source.mistake(("settings", "provider"), message, f"add one of: {', '.join(own)}")
