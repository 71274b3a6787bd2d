"""What people decide about a device: nothing but a person, or the time they gave, changes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.dispatch.ledger import set_health
from orchestrator.domain.states import DeviceHealth, JobState
from orchestrator.service import devices, ssh_devices, upkeep
from orchestrator.service.context import Context
from orchestrator.service.upkeep import InThePast
from orchestrator.service.views import DeviceView
from orchestrator.store.database import session
from tests.unit.service.people import HOUR, NOON, People

DECISIONS: list[tuple[Callable[[Context, str, str], DeviceView], DeviceHealth]] = [
    (upkeep.quarantine, DeviceHealth.BAD),
    (upkeep.maintain, DeviceHealth.MAINTENANCE),
    (upkeep.retire, DeviceHealth.RETIRED),
]


@pytest.mark.parametrize(("decide", "health"), DECISIONS)
def test_a_device_that_a_person_took_out_gets_no_job_and_no_check_changes_that(
    people: People, decide: Callable[[Context, str, str], DeviceView], health: DeviceHealth
) -> None:
    pi = people.add_device()
    people.submit("bob", pi)
    view = decide(people["ada"], "pi", "reads 3 °C too low")
    assert (view.health, view.health_reason, view.health_set_by) == (health, "reads 3 °C too low", "ada")
    with session(people.engine) as opened:
        set_health(opened, people.device(), DeviceHealth.GOOD, "every check passed", NOON)
    people.now += 30 * 24 * HOUR
    assert people.tick() == []
    assert people.checks == []
    assert people.device().health == health
    assert people.changes("device", "pi") == [(health, "ada", "reads 3 °C too low")]


def test_a_host_key_pinned_anew_brings_no_device_back_that_a_person_took_out(people: People) -> None:
    people.add_device()
    upkeep.maintain(people["ada"], "pi", "new fan")
    view = ssh_devices.trust_host_key(people["bob"], "pi", "ssh-ed25519 AAAA", "set up anew")
    assert (view.health, view.health_reason, view.health_set_by) == (DeviceHealth.MAINTENANCE, "new fan", "ada")
    upkeep.bring_back(people["ada"], "pi")
    view = ssh_devices.trust_host_key(people["bob"], "pi", "ssh-ed25519 BBBB", "and again")
    assert (view.health, view.health_reason) == (DeviceHealth.UNKNOWN, "its host key was pinned anew")


def test_a_decision_ends_at_the_time_given_and_a_check_decides_then(people: People) -> None:
    pi = people.add_device()
    (job,) = people.submit("bob", pi)
    view = upkeep.maintain(people["ada"], "pi", "new fan", NOON + HOUR)
    assert view.health_until_utc == "2026-11-21T13:00:00+00:00"
    people.now = NOON + HOUR - 1
    people.tick()
    assert people.device().health == DeviceHealth.MAINTENANCE
    people.now = NOON + HOUR
    assert people.tick() == []
    assert people.checks == ["pi"]
    device = people.device()
    assert (device.health, device.health_set_by, device.health_until) == (DeviceHealth.UNKNOWN, "system", None)
    assert people.changes("device", "pi")[-1] == (DeviceHealth.UNKNOWN, "system", "maintenance by ada is over; not checked yet")
    with session(people.engine) as opened:
        set_health(opened, device, DeviceHealth.GOOD, "", people.now)
    assert people.tick() == [job]


def test_a_decision_that_is_prolonged_does_not_end_at_its_first_time(people: People) -> None:
    people.add_device()
    upkeep.maintain(people["ada"], "pi", "new fan", NOON + HOUR)
    upkeep.maintain(people["bob"], "pi", "no fan in the shop")
    people.now = NOON + 2 * HOUR
    people.tick()
    assert (people.device().health, people.device().health_set_by) == (DeviceHealth.MAINTENANCE, "bob")


def test_a_device_brought_back_is_checked_before_it_gets_work(people: People) -> None:
    pi = people.add_device()
    (job,) = people.submit("bob", pi)
    upkeep.quarantine(people["ada"], "pi", "odd numbers")
    upkeep.bring_back(people["bob"], "pi", "it was the cable")
    assert people.tick() == []
    assert people.checks == ["pi"]
    assert people.job(job).state == JobState.SUBMITTED
    view = devices.get_device(people["bob"], "pi")
    assert (view.health, view.health_reason, view.health_set_by) == ("unknown", "it was the cable", "system")
    assert people.changes("device", "pi")[-1] == (DeviceHealth.UNKNOWN, "bob", "it was the cable")


def test_the_record_says_until_when(people: People) -> None:
    people.add_device()
    upkeep.quarantine(people["ada"], "pi", "odd numbers", NOON + 24 * HOUR)
    assert people.changes("device", "pi")[0][2].startswith("odd numbers (until 2026-11-2")


def test_a_decision_cannot_end_before_it_begins(people: People) -> None:
    people.add_device()
    with pytest.raises(InThePast):
        upkeep.maintain(people["ada"], "pi", "new fan", NOON)
    assert people.device().health == DeviceHealth.GOOD


def test_a_job_that_runs_on_a_device_taken_out_ends_normally(people: People) -> None:
    pi = people.add_device()
    (job,) = people.submit("bob", pi)
    people.tick()
    people.begin(job)
    view = upkeep.maintain(people["ada"], "pi", "new fan")
    assert view.running_job == job
    assert people.job(job).state == JobState.RUNNING
