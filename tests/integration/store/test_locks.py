"""Who is the active scheduler, on both databases; time is handed in."""

from __future__ import annotations

from typing import Any

from orchestrator.store.locks import give_lock, hold_lock


def test_a_second_holder_waits_for_the_end_of_the_term_and_the_first_then_notices(database: Any) -> None:
    assert hold_lock(database, "scheduler", "a", now=100.0, term_secs=5.0)
    assert not hold_lock(database, "scheduler", "b", now=104.9, term_secs=5.0)
    assert hold_lock(database, "scheduler", "b", now=105.1, term_secs=5.0)
    assert not hold_lock(database, "scheduler", "a", now=105.2, term_secs=5.0)


def test_a_lock_that_is_given_up_is_taken_at_once(database: Any) -> None:
    assert hold_lock(database, "scheduler", "a", now=100.0, term_secs=5.0)
    assert give_lock(database, "scheduler", "a")
    assert hold_lock(database, "scheduler", "b", now=100.1, term_secs=5.0)


def test_who_was_frozen_past_its_term_cannot_give_up_the_lock_of_its_successor(database: Any) -> None:
    assert hold_lock(database, "scheduler", "a", now=100.0, term_secs=5.0)
    assert hold_lock(database, "scheduler", "b", now=106.0, term_secs=5.0)
    assert not give_lock(database, "scheduler", "a")
    assert not hold_lock(database, "scheduler", "a", now=107.0, term_secs=5.0)


def test_locks_of_other_names_do_not_disturb_one_another(database: Any) -> None:
    assert hold_lock(database, "scheduler", "a", now=100.0, term_secs=5.0)
    assert hold_lock(database, "gateway.attic", "b", now=100.0, term_secs=5.0)
