"""The faulty runtime as a package on a device's disk."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from agent import runtime_plugins
from deploy.lab import faulty_package


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the device's Python looks for packages; this one looks there, too."""
    folder = tmp_path / "usr" / "local" / "lib" / "python3.11" / "dist-packages"
    found = metadata.distributions

    def there() -> list[metadata.Distribution]:
        return list(found(path=[str(folder)]))

    monkeypatch.setattr(metadata, "distributions", there)
    return folder


def test_it_takes_the_place_of_onnx_and_its_temperature_is_part_of_the_environment(tmp_path: Path, packages: Path) -> None:
    faulty_package.install(tmp_path, 75.0)
    assert {name: plugin.package for name, plugin in runtime_plugins.find().items()} == {"onnx": "edgematrix-lab-faulty"}
    before = runtime_plugins.facts()
    faulty_package.install(tmp_path, 80.0)
    assert runtime_plugins.facts() != before


def test_removed_it_leaves_nothing(tmp_path: Path, packages: Path) -> None:
    faulty_package.install(tmp_path, 75.0)
    faulty_package.remove(tmp_path)
    assert runtime_plugins.find() == {}
    assert list(packages.iterdir()) == []
    faulty_package.remove(tmp_path)
