"""A home of its own for each test, and the certainty that nothing of it lives on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.running import AGENT_PYTHON, Home


@pytest.fixture(scope="module")
def agent_python() -> Path:
    """The Python with the agent's packages; skips where ``make setup`` has not built it."""
    if not AGENT_PYTHON.exists():
        pytest.skip(f"{AGENT_PYTHON} is not there: make setup")
    return AGENT_PYTHON


@pytest.fixture
def home(agent_python: Path) -> Iterator[Home]:
    """An empty home folder; after the test nothing may be left running."""
    with make_home() as made:
        yield made


@pytest.fixture(scope="module")
def shared_home(agent_python: Path) -> Iterator[Home]:
    """One home for tests that read what the same run left."""
    with make_home() as made:
        yield made


@contextmanager
def make_home() -> Iterator[Home]:
    """A home in a folder of its own; afterwards nothing may be left running there."""
    # Not under pytest's own folder: the path of a Unix socket may have 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="edgematrix-test-"))
    made = Home(folder)
    try:
        yield made
        made.assert_nothing_runs()
    finally:
        made.kill_leftovers()
        shutil.rmtree(folder, ignore_errors=True)
