"""Errors have stable codes, and travel between device and orchestrator without losing anything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import agent.spool  # noqa: F401 (it brings an error of its own)
from agent import errors
from agent.errors import EdgematrixError


def _tree(kind: type[EdgematrixError]) -> Iterator[type[EdgematrixError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("agent."):
            yield from _tree(child)


ALL = list(_tree(EdgematrixError))


def test_no_two_errors_share_a_code() -> None:
    assert len({kind.code for kind in ALL}) == len(ALL)


@pytest.mark.parametrize("kind", ALL[1:], ids=lambda kind: kind.code)
def test_an_error_is_rebuilt_as_itself(kind: type[EdgematrixError]) -> None:
    rebuilt = errors.from_json(kind("what happened", "what to do").to_json())
    assert type(rebuilt) is kind
    assert (rebuilt.message, rebuilt.remedy, rebuilt.error_class) == ("what happened", "what to do", kind.error_class)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.code)
def test_every_error_has_one_of_the_four_classes(kind: type[EdgematrixError]) -> None:
    assert kind.error_class in ("infrastructure", "configuration", "job", "bug")


@pytest.mark.parametrize(
    ("error_class", "kind"),
    [
        ("infrastructure", errors.InfrastructureError),
        ("job", errors.JobError),
        ("bug", errors.InternalError),
        ("martian", errors.InternalError),
    ],
)
def test_a_code_of_a_later_version_keeps_its_text_and_class(error_class: str, kind: type[EdgematrixError]) -> None:
    rebuilt = errors.from_json({"class": error_class, "code": "from_the_future", "message": "m", "remedy": "r"})
    assert type(rebuilt) is kind
    assert (rebuilt.message, rebuilt.remedy) == ("m", "r")


@pytest.mark.parametrize("record", [{}, {"code": 7, "message": None}, {"class": ["job"], "code": {}}])
def test_a_damaged_record_still_gives_an_error(record: dict) -> None:
    assert isinstance(errors.from_json(record), EdgematrixError)
