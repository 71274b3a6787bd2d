"""Messages as text: any dataclass of the protocol to compact JSON and back, every field checked by its annotation. Part of the protocol."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any, Mapping, Type, TypeVar

from agent.errors import RequestInvalid

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

Message = TypeVar("Message")


def to_json(message: Any) -> str:
    """Serialize a message (a dataclass of this module) as compact JSON."""
    return json.dumps(dataclasses.asdict(message), separators=(",", ":"), allow_nan=False)


def from_json(kind: Type[Message], text: str) -> Message:
    """Parse and check one message.

    Raises :class:`RequestInvalid` naming the field for text over MAX_MESSAGE_BYTES, anything that is not JSON, an unknown or missing field,
    or a value of another type.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise RequestInvalid(f"{kind.__name__}: {len(text)} bytes are more than the {MAX_MESSAGE_BYTES} allowed")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"{kind.__name__}: not JSON: {error}") from error
    built: Message = _build(kind, value, kind.__name__)
    return built


def _build(kind: Any, value: Any, where: str) -> Any:
    """Check ``value`` against a type annotation and build it; recursion follows the dataclasses above, so its depth is bounded."""
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_dataclass(kind, value, where)
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is typing.Union:
        if value is None and type(None) in arguments:
            return None
        return _build(arguments[0], value, where)
    if origin is list:
        if not isinstance(value, list):
            raise RequestInvalid(f"{where}: expected a list, found {type(value).__name__}")
        return [_build(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise RequestInvalid(f"{where}: expected an object, found {type(value).__name__}")
        return {str(key): _build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RequestInvalid(f"{where}: expected {kind.__name__}, found {type(value).__name__}")
    return value


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise RequestInvalid(f"{where}: expected an object, found {type(value).__name__}")
    annotations = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise RequestInvalid(f"{where}: unknown field {unknown[0]!r}")
    built = {}
    for name, item in fields.items():
        if name in value:
            built[name] = _build(annotations[name], value[name], f"{where}.{name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise RequestInvalid(f"{where}: field {name!r} is missing")
    return kind(**built)
