"""Switching a board off and on by hand: who, why, never under somebody else's hands, and no check before it has booted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import DeviceBusy
from orchestrator.dispatch.check_schedule import BOOT_SECS
from orchestrator.dispatch.power_cycle import PowerCycleInvalid
from orchestrator.domain.states import DeviceHealth
from orchestrator.service import power, reservations, upkeep
from orchestrator.service.context import Context
from orchestrator.service.elsewhere import DeviceElsewhere
from orchestrator.service.power import PowerCycleFailed
from orchestrator.worker.settings import Settings
from tests.unit.service.people import HOUR, People


def on_its_gateway(context: Context) -> Context:
    return replace(context, settings=Settings(home=context.settings.home, gateway="g1"))


@pytest.fixture
def ada(people: People) -> Context:
    people.add_device()
    return on_its_gateway(people["ada"])


@pytest.fixture
def uses(ada: Context, tmp_path: Path) -> Path:
    """The file that the device's switch writes into."""
    uses = tmp_path / "uses"
    power.set_power(ada, "pi", {"driver": "command", "argv": ["sh", "-c", f"echo x >> {uses}"]}, "outlet 7")
    return uses


def test_a_board_that_was_switched_off_and_on_is_checked_once_it_has_booted(ada: Context, uses: Path, people: People) -> None:
    view = power.power_cycle_now(ada, "pi", "hangs at boot")
    assert uses.read_text() == "x\n"
    assert (view.health, view.health_reason) == (DeviceHealth.UNKNOWN, "switched off and on by ada: hangs at boot")
    assert ("off and on", "ada", "hangs at boot") in people.changes("device", "pi")
    people.now += BOOT_SECS - 1
    people.tick()
    assert people.checks == []
    people.now += 1
    people.tick()
    assert people.checks == ["pi"]


def test_a_board_that_measures_is_switched_off_only_by_force(ada: Context, uses: Path, people: People) -> None:
    (job,) = people.submit("bob", people.device().id or 0)
    people.tick()
    with pytest.raises(DeviceBusy, match=job):
        power.power_cycle_now(ada, "pi")
    assert not uses.exists()
    power.power_cycle_now(ada, "pi", force=True)
    assert uses.exists()


def test_a_board_that_somebody_has_reserved_is_theirs(ada: Context, uses: Path, people: People) -> None:
    reservations.reserve(people["bob"], "pi", people.now + HOUR)
    with pytest.raises(DeviceBusy, match="reserved by bob"):
        power.power_cycle_now(ada, "pi")
    power.power_cycle_now(on_its_gateway(people["bob"]), "pi")
    assert uses.exists()


def test_what_a_person_decided_about_a_board_outlives_its_power(ada: Context, uses: Path) -> None:
    upkeep.maintain(ada, "pi", "new fan")
    assert power.power_cycle_now(ada, "pi").health == DeviceHealth.MAINTENANCE


def test_the_power_of_a_board_is_switched_where_its_cable_is(ada: Context, uses: Path, people: People) -> None:
    with pytest.raises(DeviceElsewhere, match="g1"):
        power.power_cycle_now(people["ada"], "pi")
    assert not uses.exists()


def test_a_switch_that_fails_changes_nothing_and_says_what_it_said(ada: Context, people: People) -> None:
    power.set_power(ada, "pi", {"driver": "command", "argv": ["sh", "-c", "echo outlet 9 is not there; exit 2"]})
    with pytest.raises(PowerCycleFailed, match="outlet 9 is not there"):
        power.power_cycle_now(ada, "pi")
    assert people.device().health == DeviceHealth.GOOD


def test_how_a_board_is_switched_is_kept_with_who_said_so_and_can_be_taken_back(ada: Context, uses: Path, people: People) -> None:
    assert power.get_power(ada, "pi").command == f"sh -c 'echo x >> {uses}'"
    power.set_power(ada, "pi", None, "moved")
    assert power.get_power(ada, "pi").command is None
    assert [(actor, why) for _, actor, why in people.changes("device", "pi")] == [("ada", "outlet 7"), ("ada", "moved")]
    with pytest.raises(PowerCycleInvalid) as caught:
        power.power_cycle_now(ada, "pi")
    assert "edgematrix device power pi" in caught.value.remedy


def test_what_is_no_switch_is_refused_at_once(ada: Context) -> None:
    for about in ({"driver": "magic"}, {"driver": "command", "argv": []}, {"driver": "uhubctl", "hub": "-a", "port": "1"}):
        with pytest.raises(PowerCycleInvalid):
            power.set_power(ada, "pi", about)
