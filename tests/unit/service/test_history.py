"""Who used a device, from when to when and for how long."""

from __future__ import annotations

from orchestrator.domain.states import JobOutcome
from orchestrator.service import reservations, upkeep
from orchestrator.service.history import device_history
from tests.unit.service.people import HOUR, NOON, People


def _measure(people: People, person: str, pi: int, secs: float, outcome: JobOutcome = JobOutcome.COMPLETED) -> str:
    (job,) = people.submit(person, pi)
    people.tick()
    people.begin(job)
    people.now += secs
    people.finish(job, outcome)
    return job


def test_jobs_and_reservations_stand_in_one_line_of_time_newest_first(people: People) -> None:
    pi = people.add_device()
    first = _measure(people, "bob", pi, 600)
    reservations.reserve(people["ada"], "pi", people.now + HOUR, "bring-up")
    people.now += HOUR / 2
    reservations.release(people["ada"], "pi")
    second = _measure(people, "bob", pi, 60)
    uses = device_history(people["cy"], "pi").uses
    assert [(use.kind, use.person, use.job_id, use.secs, use.how) for use in uses] == [
        ("job", "bob", second, 60, "completed"),
        ("reservation", "ada", None, HOUR / 2, "ended by ada: released (bring-up)"),
        ("job", "bob", first, 600, "completed"),
    ]
    assert (uses[2].began_utc, uses[2].ended_utc) == ("2026-11-21T12:00:00+00:00", "2026-11-21T12:10:00+00:00")
    assert (uses[2].experiment, uses[2].attempt) == ("bob's", 1)


def test_who_kicked_a_job_and_why_stands_beside_it(people: People) -> None:
    pi = people.add_device()
    (job,) = people.submit("bob", pi)
    people.tick()
    people.begin(job)
    reservations.kick(people["ada"], "pi", "the release waits")
    assert device_history(people["bob"], "pi").uses[0].how == "canceling by ada: kicked from pi: the release waits"
    people.finish(job, JobOutcome.CANCELED)
    assert device_history(people["bob"], "pi").uses[0].how == "canceled by ada: kicked from pi: the release waits"


def test_what_still_lasts_counts_up_to_now_and_what_ran_out_up_to_its_end(people: People) -> None:
    people.add_device()
    reservations.reserve(people["ada"], "pi", NOON + HOUR)
    people.now = NOON + 60
    (use,) = device_history(people["ada"], "pi").uses
    assert (use.ended_utc, use.secs, use.how) == (None, 60, "holds")
    people.now = NOON + 10 * HOUR
    (use,) = device_history(people["ada"], "pi").uses
    assert (use.ended_utc, use.secs, use.how) == ("2026-11-21T13:00:00+00:00", HOUR, "ran out")


def test_totals_count_every_person_beyond_the_lines_shown(people: People) -> None:
    pi = people.add_device()
    for _ in range(3):
        _measure(people, "bob", pi, 600)
    _measure(people, "ada", pi, 60, JobOutcome.ERROR)
    reservations.reserve(people["ada"], "pi", people.now + HOUR)
    people.now += 3 * HOUR
    found = device_history(people["cy"], "pi", limit=2)
    assert len(found.uses) == 2
    totals = [(item.person, item.job_attempts, item.job_secs, item.reservations, item.reserved_secs) for item in found.totals]
    assert totals == [("ada", 1, 60, 1, HOUR), ("bob", 3, 1800, 0, 0)]


def test_a_time_asked_about_counts_what_reached_into_it_from_its_beginning(people: People) -> None:
    pi = people.add_device()
    _measure(people, "ada", pi, 60)
    people.now = NOON + HOUR
    _measure(people, "bob", pi, 600)
    found = device_history(people["cy"], "pi", since=NOON + HOUR + 300)
    assert [use.person for use in found.uses] == ["bob"]
    assert [(item.person, item.job_secs) for item in found.totals] == [("bob", 300)]


def test_what_became_of_the_device_stands_beside_who_used_it(people: People) -> None:
    people.add_device()
    upkeep.quarantine(people["ada"], "pi", "odd numbers")
    people.now += HOUR
    upkeep.bring_back(people["bob"], "pi")
    changes = device_history(people["cy"], "pi").changes
    assert [(change.old, change.new, change.actor, change.why) for change in changes] == [
        ("bad", "unknown", "bob", "back in service, not checked yet"),
        ("good", "bad", "ada", "odd numbers"),
    ]
    assert len(device_history(people["cy"], "pi", since=NOON + 1).changes) == 1


def test_a_device_that_nobody_used_has_an_empty_history(people: People) -> None:
    people.add_device()
    found = device_history(people["cy"], "pi")
    assert (found.uses, found.changes, found.totals) == ((), (), ())
