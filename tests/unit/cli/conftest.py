"""The command line in this process: arguments in; exit code, standard output and standard error out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run
from tests.unit.service.lab import Cell, Lab, make_lab, predictions


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


Edgematrix = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own; the current folder is a scratch folder, too."""
    for name in ("REDIS_URL", "DATABASE_URL", "ARTIFACTS_URL", "AGENT_PYTHON", "GATEWAY"):
        monkeypatch.delenv(f"EDGEMATRIX_{name}", raising=False)
    monkeypatch.setenv("EDGEMATRIX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def edgematrix(home: Path, capfd: pytest.CaptureFixture[str]) -> Edgematrix:
    def call(*arguments: str) -> Ended:
        capfd.readouterr()
        code = run(arguments)
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    return call


@pytest.fixture
def lab(home: Path) -> Iterator[Lab]:
    """A store with one experiment of two variants, ``exp1``."""
    made = make_lab(home)
    made.add_device("bench")
    made.add_experiment("exp1", [Cell("fp32", predictions([0])), Cell("w8a8", predictions([1, 2, 3]))], notes=["holds int8 weights"])
    yield made
    made.context.engine.dispose()
