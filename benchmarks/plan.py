"""What all figures share: where things are, how often to measure, and the form of what they find."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.pairs import Judgement

REPOSITORY = Path(__file__).resolve().parents[1]
DIGITS = REPOSITORY / "examples" / "digits"
HEAVY_MODEL = REPOSITORY / "benchmarks" / "models" / "heavy_conv_w8a8.tflite"
ORCHESTRATOR_PYTHON = REPOSITORY / ".venv" / "bin" / "python"
AGENT_PYTHON = REPOSITORY / ".venvs" / "agent" / "bin" / "python"
LITERT_PYTHON = REPOSITORY / ".venvs" / "agent-litert" / "bin" / "python"


@dataclass(frozen=True)
class Plan:
    """How to measure: pairs per ratio, the seed of all randomness, and a folder for what is thrown away afterwards."""

    pairs: int
    seed: int
    scratch: Path


@dataclass(frozen=True)
class Row:
    """One judged number: what was compared with what, in words, its unit, and both sides' medians where there are two sides."""

    what: str
    unit: str
    judgement: Judgement
    baseline: float | None = None
    candidate: float | None = None
    applies: bool = True
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """One question of the project's performance promises, and the rows that answer it. ``facts`` is what else was found."""

    name: str
    question: str
    rows: tuple[Row, ...]
    facts: dict[str, Any] = field(default_factory=dict)


class EnvironmentMissing(Exception):
    """An environment of the Makefile has not been built here."""


def versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Return the interpreter's version and those of the packages that are installed beside it. Raises :class:`EnvironmentMissing`."""
    if not python.exists():
        raise EnvironmentMissing(f"{python.relative_to(REPOSITORY)} is not there: make setup")
    lines = "import platform, importlib.metadata as m\nprint('python', platform.python_version())\n"
    lines += "".join(f"try: print({name!r}, m.version({name!r}))\nexcept m.PackageNotFoundError: pass\n" for name in packages)
    output = subprocess.run([str(python), "-c", lines], capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in output.splitlines())
