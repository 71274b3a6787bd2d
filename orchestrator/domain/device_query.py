"""The expressions that choose devices: ``profile == 'linux-x86_64' and label.room in ('a', 'b')``.

A small part of Python's own grammar, read with ``ast`` and never evaluated by Python: names and labels, text, ``==``, ``!=``, ``in``,
``not in``, ``and``, ``or``, ``not``, brackets, and ``all``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from agent.errors import ConfigurationError
from orchestrator.domain.mistakes import did_you_mean

MAX_CHARACTERS = 1_000
_MAX_DEPTH = 50

#: What can be asked of a device beside its labels.
FACTS = ("name", "profile", "gateway", "arch", "emulated")


@dataclass(frozen=True)
class DeviceFacts:
    """What a query may look at; ``arch`` is ``x86_64`` or ``arm64``, ``emulated`` one of ``none``, ``cpu``, ``environment``."""

    name: str
    profile: str
    gateway: str
    arch: str
    emulated: str = "none"
    labels: Mapping[str, str] = field(default_factory=dict)


class QueryInvalid(ConfigurationError):
    """An expression that is none; the message says what is wrong, ``remedy`` what to write."""

    code: ClassVar[str] = "device_query_invalid"


_Test = Callable[[DeviceFacts], bool]
_Reader = Callable[[DeviceFacts], str | None]


@dataclass(frozen=True)
class Query:
    """A checked expression; ``text`` is what was written."""

    text: str
    _test: _Test = field(repr=False, compare=False)

    def matches(self, facts: DeviceFacts) -> bool:
        return self._test(facts)


def parse_query(text: str) -> Query:
    """Read an expression. Raises :class:`QueryInvalid` for anything outside the grammar, naming what was found."""
    if len(text) > MAX_CHARACTERS:
        raise QueryInvalid(f"{len(text)} characters are more than the {MAX_CHARACTERS} allowed", "give the devices a label, ask for that")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        if "=" in text.replace("==", "").replace("!=", ""):
            raise QueryInvalid(f"not an expression: {text.strip()!r}", "compare with == (two equal signs)") from error
        raise QueryInvalid(f"not an expression: {text.strip()!r}: {error.msg}", "for example: profile == 'linux-x86_64'") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise QueryInvalid("not an expression", "for example: profile == 'linux-x86_64'") from error
    return Query(text.strip(), _compile(tree.body, 0))


def _compile(node: ast.expr, depth: int) -> _Test:
    if depth > _MAX_DEPTH:
        raise QueryInvalid("nested too deep", "give the devices a label and ask for that")
    if isinstance(node, ast.BoolOp):
        tests = [_compile(value, depth + 1) for value in node.values]
        if isinstance(node.op, ast.And):
            return lambda facts: all(test(facts) for test in tests)
        return lambda facts: any(test(facts) for test in tests)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _compile(node.operand, depth + 1)
        return lambda facts: not inner(facts)
    if isinstance(node, ast.Name) and node.id == "all":
        return lambda facts: True
    if isinstance(node, ast.Compare):
        return _comparison(node)
    if _is_label(node):
        read = _reader(node)
        return lambda facts: read(facts) is not None
    if isinstance(node, ast.Name) and node.id in FACTS:
        raise QueryInvalid(f"{node.id!r} alone says nothing", f"compare it: {node.id} == '...'")
    raise QueryInvalid(f"{ast.unparse(node)!r} cannot stand here", f"use all, {', '.join(FACTS)}, label.KEY with ==, !=, in, and, or, not")


def _comparison(node: ast.Compare) -> _Test:
    if len(node.ops) != 1:
        raise QueryInvalid(f"{ast.unparse(node)!r} compares twice", "join two comparisons with `and`")
    operator, left, right = node.ops[0], node.left, node.comparators[0]
    if isinstance(operator, (ast.Eq, ast.NotEq)):
        if isinstance(left, ast.Constant):
            left, right = right, left
        read, wanted = _reader(left), _word(right)
        if isinstance(operator, ast.Eq):
            return lambda facts: read(facts) == wanted
        return lambda facts: read(facts) != wanted
    if isinstance(operator, (ast.In, ast.NotIn)):
        read = _reader(left)
        items = right.elts if isinstance(right, (ast.Tuple, ast.List, ast.Set)) else [right]
        words = frozenset(_word(item) for item in items)
        if isinstance(operator, ast.In):
            return lambda facts: read(facts) in words
        return lambda facts: read(facts) not in words
    raise QueryInvalid(f"{ast.unparse(node)!r}: values are text and have no order", "use ==, !=, in or not in")


def _is_label(node: ast.expr) -> bool:
    return isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.value, ast.Name) and node.value.id == "label"


def _reader(node: ast.expr) -> _Reader:
    if _is_label(node):
        key = node.attr if isinstance(node, ast.Attribute) else _word(node.slice)  # type: ignore[attr-defined]
        return lambda facts: facts.labels.get(key)
    if isinstance(node, ast.Name):
        if node.id not in FACTS:
            remedy = f"{did_you_mean(node.id, (*FACTS, 'label'))}; labels are written label.KEY, text in quotes"
            raise QueryInvalid(f"unknown name {node.id!r}", remedy)
        fact = node.id
        return lambda facts: str(getattr(facts, fact))
    raise QueryInvalid(f"{ast.unparse(node)!r} is nothing that a device has", f"use {', '.join(FACTS)} or label.KEY")


def _word(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    written = ast.unparse(node)
    plain = isinstance(node, (ast.Constant, ast.Name))
    raise QueryInvalid(f"{written!r} is not text", f"put it in quotes: '{written}'" if plain else "write text in quotes")
