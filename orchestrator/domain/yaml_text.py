"""YAML to plain values and the place of each: safe, bounded, and free of YAML 1.1's surprises.

Scalars follow the core schema of YAML 1.2 (yaml.org/spec/1.2.2, 10.3.2): ``No``, ``On`` and ``12:30`` are text, ``1e-3`` is a number.
Duplicate keys, explicit tags and values that are not finite are refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.domain.mistakes import Mistake, Path, Source, path_text

MAX_TEXT_CHARACTERS = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 40

_PREFIX = "tag:yaml.org,2002:"
_KNOWN_TAGS = frozenset(_PREFIX + name for name in ("null", "bool", "int", "float", "str", "seq", "map"))


class _CoreSchemaLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalar rules of YAML 1.2; only its composer is used, so that no object is ever constructed."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  the name and the form are PyYAML's


for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
):
    _CoreSchemaLoader.add_implicit_resolver(_PREFIX + _name, re.compile(_pattern), _first)


@dataclass(frozen=True)
class YamlDocument:
    """``value``: mappings, lists and scalars; ``source``: where each stands; ``mistakes``: what had to be left out."""

    value: Any
    source: Source
    mistakes: tuple[Mistake, ...]


def read_yaml(text: str, file: str) -> YamlDocument:
    """Read one YAML document; never raises: what is wrong is in ``mistakes``, and ``value`` is None when nothing could be read."""
    source = Source(file, text)
    if len(text) > MAX_TEXT_CHARACTERS:
        return _nothing(
            source, f"{len(text)} characters are more than the {MAX_TEXT_CHARACTERS} allowed", "keep data in files of their own"
        )
    try:
        root = yaml.compose(text, Loader=_CoreSchemaLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = ": ".join(part for part in (error.context, error.problem) if part)
        return YamlDocument(None, source, (Mistake(file, line, column, "", f"not YAML: {said}", _syntax_remedy(text, line)),))
    except yaml.YAMLError as error:
        return _nothing(source, f"not YAML: {' '.join(str(error).split())}", "save the file as UTF-8 text")
    except RecursionError:
        return _nothing(source, f"nested more than {MAX_DEPTH} levels deep", "flatten it")
    if root is None:
        return _nothing(source, "the file is empty", "start with `format: 1`")
    reading = _Reading(file, text)
    value = reading.value(root, ())
    return YamlDocument(value, Source(file, text, reading.values, reading.keys), tuple(reading.mistakes))


def _nothing(source: Source, message: str, remedy: str) -> YamlDocument:
    return YamlDocument(None, source, (source.mistake((), message, remedy),))


def _syntax_remedy(text: str, line: int) -> str:
    lines = text.splitlines()
    if line <= len(lines) and "\t" in lines[line - 1]:
        return "indent with spaces, not tabs"
    return "look at this line and the one above it: indentation, a missing colon, bracket or quote"


@dataclass
class _Reading:
    file: str
    text: str
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    count: int = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        """Turn a node into a plain value. Aliases are followed by copying, so the count bounds what a small text can unfold to."""
        self.count += 1
        self.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if self.count > MAX_VALUES:
            if self.count == MAX_VALUES + 1:
                self._mistake(node, path, f"unfolds to more than {MAX_VALUES} values", "use fewer aliases")
            return None
        if len(path) > MAX_DEPTH:
            self._mistake(node, path[:3], f"nested more than {MAX_DEPTH} levels deep", "flatten it; an alias may not contain itself")
            return None
        if node.tag not in _KNOWN_TAGS:
            self._mistake(node, path, f"the tag {node.tag!r} is not allowed", "remove it: only plain values are read")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _KNOWN_TAGS:
                self._mistake(key_node, path, "a key must be a plain word", "write `key: value`")
                continue
            key = key_node.value
            if key in found:
                first = self.keys[(*path, key)][0]
                self._mistake(key_node, (*path, key), f"the key {key!r} stands twice; it was first on line {first}", "remove one of them")
                continue
            self.keys[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            found[key] = self.value(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text, kind = node.value, node.tag.removeprefix(_PREFIX)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text, {"0x": 16, "0o": 8}.get(text[:2].lower(), 10))
            if kind == "float":
                number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
                if not math.isfinite(number):
                    raise ValueError
                return number
        except (ValueError, KeyError):
            self._mistake(node, path, f"{text[:40]!r} is not a finite number", "write plain digits")
            return None
        return text

    def _mistake(self, node: yaml.Node, path: Path, message: str, remedy: str) -> None:
        mark = node.start_mark
        self.mistakes.append(Mistake(self.file, mark.line + 1, mark.column + 1, path_text(path), message, remedy))
