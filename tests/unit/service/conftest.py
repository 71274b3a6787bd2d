"""A lab with a bench device in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.unit.service.lab import Lab, make_lab
from tests.unit.service.people import People


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = make_lab(tmp_path / "home")
    made.add_device("bench")
    yield made
    made.context.engine.dispose()


@pytest.fixture
def people(database: Engine, tmp_path: Path) -> People:
    """A lab that several people share, once on SQLite and once on PostgreSQL."""
    return People(database, tmp_path / "home")
