"""``edgematrix device power`` and ``power-cycle`` as a person uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Edgematrix
from tests.unit.service.lab import Lab


@pytest.mark.usefixtures("lab")
def test_a_way_to_cut_the_power_is_registered_shown_and_taken_back(edgematrix: Edgematrix) -> None:
    assert "registers a way" in edgematrix("device", "power", "bench").err
    registered = edgematrix("device", "power", "bench", "--uhubctl", "1-1.4:2", "--json")
    assert registered.document == {"device": "bench", "gateway": "local", "command": "uhubctl -a cycle -l 1-1.4 -p 2"}
    edgematrix("device", "power", "bench", "--command", "pdu 'outlet 7'")
    assert edgematrix("device", "power", "bench", "--json").document["command"] == "pdu 'outlet 7'"
    assert edgematrix("device", "power", "bench", "--none", "--json").document["command"] is None


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    "options", [["--command", "a", "--none"], ["--command", "'open"], ["--command", ""], ["--uhubctl", "2"], ["--uhubctl", "-a:2"]]
)
def test_what_is_no_way_is_wrong_input(edgematrix: Edgematrix, options: list[str]) -> None:
    assert edgematrix("device", "power", "bench", *options).code == 2
    assert edgematrix("device", "power", "bench", "--json").document["command"] is None


def test_a_device_is_switched_off_and_on_by_hand_and_its_history_says_who_and_why(edgematrix: Edgematrix, lab: Lab, tmp_path: Path) -> None:
    assert edgematrix("device", "power-cycle", "bench").code == 2
    edgematrix("device", "power", "bench", "--command", f"touch {tmp_path}/used")
    done = edgematrix("device", "power-cycle", "bench", "--why", "hangs at boot")
    assert (done.code, done.err) == (0, "bench was switched off and on; it is checked in 90 s\n")
    assert (tmp_path / "used").exists()
    history = " ".join(edgematrix("device", "history", "bench").out.split())
    assert "power → off and on hangs at boot" in history
    edgematrix("device", "power", "bench", "--command", "false")
    failed = edgematrix("device", "power-cycle", "bench")
    assert failed.code == 3
    assert "false ended with status 1" in failed.err
