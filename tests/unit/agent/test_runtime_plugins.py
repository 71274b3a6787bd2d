"""An environment may bring a runtime of its own, in a package with an entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import unary

from agent import runtimes
from agent.environment import environment_facts
from agent.errors import MissingRuntime
from agent.protocol import Settings
from agent.runner import EXIT_COMPLETED, main

SOURCE = """
from agent.runtimes.base import RuntimeAvailability
from agent.runtimes.onnx import OnnxRuntime

class Shouting(OnnxRuntime):
    def facts(self):
        return {**super().facts(), "package": "shouting"}

RUNTIME = (Shouting, lambda: RuntimeAvailability(True, "shouting", "1.0"))
BROKEN = 5
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package the way pip leaves it; ``entry`` is what its entry point ``onnx`` points to."""
    before = set(sys.modules)

    def install(package: str = "shouting", entry: str = "RUNTIME", source: str = SOURCE, version: str = "1.0") -> Path:
        site = tmp_path / f"site-{package}"
        metadata = site / f"{package}-{version}.dist-info"
        metadata.mkdir(parents=True, exist_ok=True)
        (site / f"{package}.py").write_text(source)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(f"[edgematrix.runtimes]\nonnx = {package}:{entry}\n")
        (metadata / "RECORD").write_text(f"{package}.py,,\n{metadata.name}/METADATA,,\n{metadata.name}/RECORD,,\n")
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    for name in set(sys.modules) - before:
        if name in ("shouting", "louder"):
            del sys.modules[name]


def test_a_package_of_the_environment_replaces_a_built_in_runtime_and_is_named_in_the_report(install: Install, device: Any) -> None:
    pytest.importorskip("onnxruntime")
    install()
    folder = device.job(unary("Identity", [1, 4]), np.zeros((3, 4), np.float32))
    assert main(folder, device.root) == EXIT_COMPLETED
    told = device.report(folder).runtime
    assert (told["name"], told["package"]) == ("onnx", "shouting")
    assert (told["plugin"], told["plugin_version"]) == ("shouting", "1.0")
    assert runtimes.available()["onnx"] == runtimes.RuntimeAvailability(True, "shouting", "1.0")
    assert "tflite" in runtimes.available()


def test_the_package_of_the_manual_works(install: Install, device: Any) -> None:
    pytest.importorskip("onnxruntime")
    page = (Path(__file__).resolve().parents[3] / "docs" / "runtimes.md").read_text(encoding="utf-8")
    source = page.split("```python\n")[1].split("```")[0]
    install(source=source)
    assert runtimes.available()["onnx"].package == "steady-onnx"
    folder = device.job(unary("Identity", [1, 4]), np.zeros((3, 4), np.float32))
    assert main(folder, device.root) == EXIT_COMPLETED


def test_without_such_a_package_nothing_changes(device: Any) -> None:
    assert "runtime_plugins" not in environment_facts()


def test_an_environments_digest_tells_a_package_that_brings_a_runtime_and_each_change_in_it(install: Install) -> None:
    without = environment_facts()["digest"]
    site = install()
    facts = environment_facts()
    assert facts["runtime_plugins"]["shouting"]["version"] == "1.0"
    assert facts["runtime_plugins"]["shouting"]["runtimes"] == "onnx"
    (site / "shouting.py").write_text(SOURCE + "# changed\n")
    assert len({without, facts["digest"], environment_facts()["digest"]}) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entry": "BROKEN"}, "cannot unpack"),
        ({"entry": "MISSING"}, "MISSING"),
        ({"source": "import not_there_at_all"}, "not_there_at_all"),
        ({"source": "RUNTIME = (int, int)"}, "no pair of a driver and a proof"),
    ],
)
def test_a_broken_package_is_named_and_the_built_in_runtime_does_not_step_in(install: Install, changes: dict[str, str], words: str) -> None:
    install(**changes)
    told = runtimes.available()["onnx"]
    assert not told.available
    assert "shouting 1.0" in str(told.cause)
    assert words in str(told.cause)
    with pytest.raises(MissingRuntime, match="shouting"):
        runtimes.create("onnx", Settings())


def test_two_packages_for_one_runtime_are_refused(install: Install) -> None:
    install()
    install("louder")
    assert "louder" in str(runtimes.available()["onnx"].cause)
    with pytest.raises(MissingRuntime, match="only one can be meant"):
        runtimes.create("onnx", Settings())
    assert set(environment_facts()["runtime_plugins"]) == {"shouting", "louder"}
