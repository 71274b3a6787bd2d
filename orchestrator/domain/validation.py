"""Check a YAML document against a pydantic model and tell every mistake in words, with its line."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, TypeVar, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.domain.mistakes import Mistake, Path, Source, did_you_mean
from orchestrator.domain.scalars import AXES_PATTERN, IS_MAPPING, IS_WORD, NAME_PATTERN, SHA256_PATTERN
from orchestrator.domain.yaml_text import YamlDocument

Model = TypeVar("Model", bound=BaseModel)

_TYPE_WORDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}

_FORMS = {
    NAME_PATTERN: "a name has at most 64 letters, digits and . _ + - and starts with a letter or digit",
    SHA256_PATTERN: "write the 64 lower-case hex digits that `sha256sum FILE` prints",
    AXES_PATTERN: "write the axes as letters, for example NHWC",
}


def validate(model: type[Model], document: YamlDocument) -> tuple[Model | None, list[Mistake]]:
    """Return the model, or None and every mistake; what the YAML reader already found wrong is part of the list."""
    mistakes = list(document.mistakes)
    if document.value is None and mistakes:
        return None, mistakes
    try:
        built = model.model_validate(document.value)
    except ValidationError as error:
        # A place that the reader has already complained about reads as null: one mistake is enough.
        told = {(item.line, item.column) for item in mistakes}
        found = [_mistake(model, detail, document.source) for detail in _meant(error.errors(include_url=False))]
        return None, mistakes + [item for item in found if (item.line, item.column) not in told]
    return (built, mistakes) if not mistakes else (None, mistakes)


def _meant(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out that a list is too short when it only is so because its items are wrong."""
    around = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    return [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in around]


def _mistake(model: type[BaseModel], detail: ErrorDetails, source: Source) -> Mistake:
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    path = _without_tags(detail["loc"], is_key=kind == "extra_forbidden")
    at_key = path[-1:] == ("[key]",)
    path = path[:-1] if at_key else path
    if kind == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        return source.mistake(path, f"unknown key {path[-1]!r}", did_you_mean(path[-1], known), at_key=True)
    if kind == "missing":
        return source.mistake(path, f"the key {str(path[-1])!r} is missing", f"add `{path[-1]}:` here")
    if kind in _TYPE_WORDS:
        remedy = f'quote it: "{found}"' if kind == "string_type" and isinstance(found, (int, float, bool)) else ""
        return source.mistake(path, f"expected {_TYPE_WORDS[kind]}, found {_describe(found)}", remedy)
    if kind in ("enum", "literal_error"):
        known = [word.strip().strip("'") for word in str(context.get("expected", "")).replace(" or ", ", ").split(",")]
        return source.mistake(path, f"{_describe(found)} is not one of {', '.join(known)}", did_you_mean(found, known), at_key)
    if kind == "value_error":
        message, _, remedy = str(context.get("error", detail["msg"])).partition(" | ")
        return source.mistake(path, message, remedy)
    if kind == "too_short":
        return source.mistake(path, "the list is empty", "give at least one item, or leave the key out for its default")
    if kind == "string_pattern_mismatch":
        return source.mistake(path, f"{_describe(found)} does not have the right form", _FORMS.get(str(context.get("pattern")), ""))
    message = detail["msg"]
    return source.mistake(path, f"{_describe(found)}: {message[:1].lower()}{message[1:]}")


def _without_tags(path: Path, is_key: bool) -> Path:
    """Take out the tags of alternatives; the last part of an unknown key is what the person wrote, whatever it looks like."""
    last = len(path) - 1
    return tuple(part for index, part in enumerate(path) if part not in (IS_WORD, IS_MAPPING) or (is_key and index == last))


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value}" if len(str(value)) < 40 else "a huge number"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    return "a list" if isinstance(value, (list, tuple)) else "a mapping"


def _keys_at(annotation: Any, path: Path) -> list[str]:
    """Follow a path through the annotations of nested models to the keys that are known there."""
    for part in path:
        annotation = _step(annotation, part)
    model = _model_of(annotation)
    return [item.alias or name for name, item in model.model_fields.items()] if model else []


def _step(annotation: Any, part: str | int) -> Any:
    if isinstance(part, int):
        arguments = [item for item in _alternatives(annotation) if typing.get_origin(item) in (tuple, list)]
        return typing.get_args(arguments[0])[0] if arguments else None
    model = _model_of(annotation)
    if model is None:
        mappings = [item for item in _alternatives(annotation) if typing.get_origin(item) is dict]
        return typing.get_args(mappings[0])[1] if mappings else None
    return next((item.annotation for name, item in model.model_fields.items() if part in (name, item.alias)), None)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    return next((item for item in _alternatives(annotation) if isinstance(item, type) and issubclass(item, BaseModel)), None)


def _alternatives(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [inner for item in typing.get_args(annotation) for inner in _alternatives(item)]
    return [annotation]
