"""A device for one person, on SQLite and on PostgreSQL: whose jobs start there, and how it is got back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from agent.errors import EdgematrixError
from orchestrator.dispatch.leases import take_lease
from orchestrator.domain.reasons import ReasonTooLong
from orchestrator.domain.states import DeviceHealth, JobOutcome, JobState
from orchestrator.domain.times import WrongTime
from orchestrator.service import devices, experiments, reservations
from orchestrator.service.reservations import DeviceReserved, DeviceRetired, NothingToKick, NotReserved
from orchestrator.store.database import session
from tests.unit.service.people import HOUR, NOON, People


def test_on_a_reserved_device_jobs_of_others_do_not_start_and_those_of_its_holder_do(people: People) -> None:
    pi = people.add_device()
    reservations.reserve(people["ada"], "pi", NOON + HOUR, "bring-up")
    people.submit("bob", pi)
    assert people.tick() == []
    (of_ada,) = people.submit("ada", pi)
    assert people.tick() == [of_ada]


def test_a_reservation_ends_by_itself(people: People) -> None:
    pi = people.add_device()
    reservations.reserve(people["ada"], "pi", NOON + HOUR)
    (of_bob,) = people.submit("bob", pi)
    people.now = NOON + HOUR - 1
    assert people.tick() == []
    people.now = NOON + HOUR
    assert people.tick() == [of_bob]
    assert devices.get_device(people["ada"], "pi").reserved is None
    with pytest.raises(NotReserved):
        reservations.extend(people["ada"], "pi", by_secs=HOUR)


def test_a_reservation_of_the_last_moment_keeps_out_a_job_that_was_already_chosen(people: People) -> None:
    pi = people.add_device()
    (of_bob,) = people.submit("bob", pi)
    (of_ada,) = people.submit("ada", pi)
    reservations.reserve(people["ada"], "pi", NOON + HOUR)
    with session(people.engine) as opened:
        assert take_lease(opened, pi, of_bob, NOON) is None
    assert people.device().lease_job_id is None
    assert people.job(of_bob).state == JobState.SUBMITTED
    with session(people.engine) as opened:
        assert take_lease(opened, pi, of_ada, NOON) is not None


def test_whoever_waits_for_a_reserved_device_reads_who_has_it_until_when_and_why(people: People) -> None:
    pi = people.add_device()
    reservations.reserve(people["ada"], "pi", NOON + HOUR, "bring-up of the new firmware")
    (of_bob,) = people.submit("bob", pi)
    (line,) = experiments.progress(people["bob"], people.job(of_bob).experiment_id).devices
    assert line.waiting_for is not None
    assert line.waiting_for.startswith("pi is reserved by ada until ")
    assert line.waiting_for.endswith(": bring-up of the new firmware")


def test_a_reserved_device_is_not_reserved_twice_and_says_who_has_it(people: People) -> None:
    people.add_device()
    reservations.reserve(people["ada"], "pi", NOON + HOUR, "bring-up")
    with pytest.raises(DeviceReserved, match=r"pi is reserved by ada until .*: bring-up") as caught:
        reservations.reserve(people["bob"], "pi", NOON + 2 * HOUR)
    assert "edgematrix device kick pi" in caught.value.remedy
    with pytest.raises(DeviceReserved) as caught:
        reservations.reserve(people["ada"], "pi", NOON + 2 * HOUR)
    assert caught.value.remedy == "edgematrix device extend pi --by 1h"
    assert len(people.reservations()) == 1


def test_of_many_people_at_one_moment_one_gets_the_device(people: People) -> None:
    people.add_device()
    names = [f"person-{number}" for number in range(6)]
    together = Barrier(len(names))

    def reserve(name: str) -> str | None:
        together.wait(30)
        try:
            return reservations.reserve(people[name], "pi", NOON + HOUR).reservation.holder
        except DeviceReserved:
            return None

    with ThreadPoolExecutor(len(names)) as pool:
        winners = [name for name in pool.map(reserve, names) if name]
    assert [row.holder for row in people.reservations()] == winners
    assert len(winners) == 1


def test_only_its_holder_extends_or_releases_a_reservation_and_others_are_told_of_kick(people: People) -> None:
    people.add_device()
    reservations.reserve(people["ada"], "pi", NOON + HOUR)
    for attempt in (lambda: reservations.extend(people["bob"], "pi", by_secs=HOUR), lambda: reservations.release(people["bob"], "pi")):
        with pytest.raises(DeviceReserved) as caught:
            attempt()
        assert "edgematrix device kick pi" in caught.value.remedy
    reservations.extend(people["ada"], "pi", by_secs=HOUR)
    assert people.reservations()[0].ends_at == NOON + 2 * HOUR
    reservations.extend(people["ada"], "pi", until=NOON + 1.5 * HOUR)
    assert people.reservations()[0].ends_at == NOON + 1.5 * HOUR
    reservations.release(people["ada"], "pi")
    (row,) = people.reservations()
    assert (row.ended_at, row.ended_by, row.ended_why) == (NOON, "ada", "released")
    assert [change[:2] for change in people.changes("reservation", str(row.id))][-1] == ("ended", "ada")
    reservations.reserve(people["bob"], "pi", NOON + HOUR)


def test_reserving_a_device_in_use_lets_the_job_there_end_normally(people: People) -> None:
    pi = people.add_device()
    first, second = people.submit("bob", pi, jobs=2)
    assert people.tick() == [first]
    people.begin(first)
    found = reservations.reserve(people["ada"], "pi", NOON + HOUR)
    assert (found.running_job, found.kicked_job) == (first, None)
    assert people.job(first).state == JobState.RUNNING
    people.finish(first)
    assert people.tick() == []
    assert people.job(second).state == JobState.SUBMITTED


def test_reserving_now_cancels_the_job_there_with_who_and_why(people: People) -> None:
    pi = people.add_device()
    (job,) = people.submit("bob", pi)
    people.tick()
    people.begin(job)
    found = reservations.reserve(people["ada"], "pi", NOON + HOUR, "urgent", kick_running=True)
    assert (found.running_job, found.kicked_job) == (None, job)
    assert people.job(job).state == JobState.CANCELING
    assert people.changes("job", job)[-1] == (JobState.CANCELING, "ada", "kicked from pi: urgent")
    # Nudged at once, for the drive that stops it on the device.
    assert people.tick() == [job]


def test_a_kick_ends_the_reservation_of_another_and_the_job_there_with_who_and_why(people: People) -> None:
    pi = people.add_device()
    reservations.reserve(people["bob"], "pi", NOON + HOUR)
    (job,) = people.submit("bob", pi)
    people.tick()
    people.begin(job)
    found = reservations.kick(people["ada"], "pi", "the release waits\nfor it\x1b[31m")
    assert found.reservation is not None
    assert (found.reservation.holder, found.job, found.canceled) == ("bob", job, True)
    (row,) = people.reservations()
    assert (row.ended_by, row.ended_why) == ("ada", "kicked: the release waits for it [31m")
    assert people.job(job).state == JobState.CANCELING
    people.finish(job, JobOutcome.CANCELED)
    reservations.reserve(people["ada"], "pi", NOON + HOUR)


def test_whoever_reserved_a_device_kicks_the_job_that_was_there_before_and_keeps_the_reservation(people: People) -> None:
    pi = people.add_device()
    (job,) = people.submit("bob", pi)
    people.tick()
    people.begin(job)
    reservations.reserve(people["ada"], "pi", NOON + HOUR)
    found = reservations.kick(people["ada"], "pi")
    assert (found.reservation, found.job, found.canceled) == (None, job, True)
    held = devices.get_device(people["ada"], "pi").reserved
    assert held is not None
    assert held.holder == "ada"


def test_a_kick_spares_a_job_whose_results_are_being_fetched_and_says_so(people: People) -> None:
    pi = people.add_device()
    (job,) = people.submit("bob", pi)
    people.tick()
    people.begin(job)
    with session(people.engine) as opened:
        row = people.job(job)
        row.state = JobState.COLLECTING
        opened.merge(row)
    found = reservations.kick(people["ada"], "pi")
    assert (found.job, found.canceled) == (job, False)
    assert people.job(job).state == JobState.COLLECTING


def test_a_kick_where_nobody_is_says_so(people: People) -> None:
    people.add_device()
    reservations.reserve(people["ada"], "pi", NOON + HOUR)
    with pytest.raises(NothingToKick):
        reservations.kick(people["ada"], "pi")


def test_what_cannot_be_reserved_is_refused(people: People) -> None:
    people.add_device()
    people.add_device("old", DeviceHealth.RETIRED)
    with pytest.raises(DeviceRetired):
        reservations.reserve(people["ada"], "old", NOON + HOUR)
    with pytest.raises(WrongTime):
        reservations.reserve(people["ada"], "pi", NOON)
    with pytest.raises(ReasonTooLong):
        reservations.reserve(people["ada"], "pi", NOON + HOUR, "x" * 501)
    with pytest.raises(EdgematrixError, match="there is no device 'pie'; there are: old, pi"):
        reservations.reserve(people["ada"], "pie", NOON + HOUR)
    assert people.reservations() == []
