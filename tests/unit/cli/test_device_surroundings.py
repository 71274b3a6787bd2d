"""``edgematrix device surroundings``: how the chamber and the fan around a device are registered."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Edgematrix

pytestmark = pytest.mark.usefixtures("lab")


def test_commands_are_registered_one_by_one_shown_and_removed(edgematrix: Edgematrix) -> None:
    assert "registers a way" in edgematrix("device", "surroundings", "bench").err
    edgematrix("device", "surroundings", "bench", "--chamber", "chamber-cli 'box 7' {celsius}")
    found = edgematrix("device", "surroundings", "bench", "--fan", "fan-cli {state}", "--reset", "chamber-cli off", "--json").document
    assert found["commands"] == {"chamber": "chamber-cli 'box 7' '{celsius}'", "fan": "fan-cli '{state}'", "reset": "chamber-cli off"}
    assert "fan by, on the gateway" in edgematrix("device", "surroundings", "bench").err
    history = edgematrix("device", "history", "bench", "--json").out
    assert "surroundings: chamber by chamber-cli" in history
    assert edgematrix("device", "surroundings", "bench", "--none", "--json").document["commands"] == {}


@pytest.mark.parametrize(
    "options",
    [("--chamber", "chamber-cli 40"), ("--fan", ""), ("--chamber", "chamber-cli '{celsius}"), ("--none", "--fan", "fan-cli {state}")],
)
def test_what_is_no_command_changes_nothing(edgematrix: Edgematrix, options: tuple[str, ...]) -> None:
    assert edgematrix("device", "surroundings", "bench", *options).code == 2
    assert edgematrix("device", "surroundings", "bench", "--json").document["commands"] == {}
