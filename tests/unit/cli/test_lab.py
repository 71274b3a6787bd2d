"""``edgematrix lab`` for somebody who may not have one, or whose file is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Edgematrix


@pytest.mark.parametrize("command", ["up", "down"])
def test_without_root_a_lab_is_refused_with_the_command_that_works(
    edgematrix: Edgematrix, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ended = edgematrix("lab", command)
    assert (ended.code, ended.out) == (2, "")
    assert "needs root" in ended.err
    assert "sudo -E edgematrix lab up" in ended.err


def test_a_mistake_in_a_labs_file_is_told_with_its_line(edgematrix: Edgematrix, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("format: 1\ndevices:\n  - {name: a, kind: toaster}\n")
    ended = edgematrix("lab", "status", "--devices", str(file))
    assert ended.code == 2
    assert "mine.yaml:3" in ended.err


def test_a_lab_that_never_was_up_is_shown_as_down(edgematrix: Edgematrix, tmp_path: Path) -> None:
    file = tmp_path / "never.yaml"
    file.write_text("format: 1\nname: never\nnetwork: 10.250.99.0/24\ndevices:\n  - {name: never-up, kind: arm64}\n")
    (device,) = edgematrix("lab", "status", "--devices", str(file), "--json").document
    assert (device["name"], device["state"], device["address"], device["health"]) == ("never-up", "down", "10.250.99.10", None)
    assert "not registered" in edgematrix("lab", "status", "--devices", str(file)).out
