"""Setting what is around a device: only by what its lab has registered, as arguments, and told when it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.dispatch.surroundings import (
    SurroundingsFailed,
    SurroundingsInvalid,
    SurroundingsMissing,
    check_surroundings,
    lacking_surroundings,
    reset_surroundings,
    set_surroundings,
)
from orchestrator.domain.soak import Surroundings
from orchestrator.store.tables import Device


def device(**commands: list[str]) -> Device:
    return Device(
        id=1, name="pi", profile="p", gateway="g", transport="local", address={}, root="/", labels={}, facts={}, added_at=0.0,
        surroundings=commands or None,
    )  # fmt: skip


def writer(path: Path) -> list[str]:
    return ["sh", "-c", f'printf "%s|" "$@" >> {path}', "sh"]


def test_values_are_arguments_and_no_shell_sees_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    there = device(chamber=[*writer(log), "--to={celsius}"], fan=[*writer(log), "{state}"], reset=[*writer(log), "reset"])
    assert set_surroundings(there, Surroundings(chamber_c=41.5, fan="$(id) ; x")) == {"chamber": "41.5", "fan": "$(id) ; x"}
    reset_surroundings(there)
    assert log.read_text() == "--to=41.5|$(id) ; x|reset|"


def test_only_what_is_asked_is_set(tmp_path: Path) -> None:
    log = tmp_path / "log"
    set_surroundings(device(chamber=[*writer(log), "{celsius}"], fan=[*writer(log), "{state}"]), Surroundings(chamber_c=-20))
    assert log.read_text() == "-20|"


def test_a_device_without_the_command_lacks_it_and_says_how_to_register_one() -> None:
    lacking = lacking_surroundings(device(fan=["fan-cli", "{state}"]), Surroundings(chamber_c=40, fan="on"))
    assert isinstance(lacking, SurroundingsMissing)
    assert "chamber of pi at 40" in lacking.message
    assert "edgematrix device surroundings pi --chamber 'COMMAND {celsius}'" in lacking.remedy
    assert lacking_surroundings(device(), None) is None
    with pytest.raises(SurroundingsMissing):
        set_surroundings(device(), Surroundings(fan="on"))


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["sh", "-c", "echo door open; exit 3", "sh", "{celsius}"], "ended with status 3: door open"),
        (["sh", "-c", "exit 1", "sh", "{celsius}"], "it said nothing"),
        (["/no/such/program", "{celsius}"], "the chamber of pi was not set"),
    ],
)
def test_a_command_that_fails_is_told(argv: list[str], what: str) -> None:
    with pytest.raises(SurroundingsFailed, match=what) as caught:
        set_surroundings(device(chamber=argv), Surroundings(chamber_c=40))
    assert caught.value.error_class == "infrastructure"
    with pytest.raises(SurroundingsFailed, match="the surroundings of pi were not reset"):
        reset_surroundings(device(reset=argv))


@pytest.mark.parametrize(
    ("about", "what"),
    [
        ({"chamber": []}, "is empty"),
        ({"chamber": ["chamber-cli", "set", "40"]}, "write {celsius} in its place"),
        ({"chamber": ["{celsius}"]}, "write {celsius} in its place"),
        ({"fan": ["fan-cli", "{celsius}"]}, "write {state} in its place"),
        ({"light": ["x"]}, "'light' is nothing that is set"),
    ],
)
def test_what_cannot_be_a_command_is_refused_when_it_is_registered(about: dict[str, Any], what: str) -> None:
    with pytest.raises(SurroundingsInvalid) as caught:
        check_surroundings(about)
    assert what in f"{caught.value.message} | {caught.value.remedy}"
