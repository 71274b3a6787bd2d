"""What the check after chaos takes for a violation: each kind of wrong record is found, and a right one is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from agent import custody
from benchmarks.chaos_evidence import Found, Line, held_by, judge, read_custody
from benchmarks.chaos_faults import KINDS, draw_faults
from orchestrator.store.database import migrate, open_database
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Attempt, Device, Experiment, Job, Result, StateChange

TAKEN, RELEASED, GONE = custody.TAKEN, custody.RELEASED, custody.FOUND_GONE
STARTED, ENDED = custody.RUNNER_STARTED, custody.RUNNER_ENDED


def record(*told: tuple[int, str, str, int | None]) -> list[Line]:
    return [Line(event, run, fence, at, "boot") for at, event, run, fence in told]


def good_run(at: int, run: str, fence: int) -> list[tuple[int, str, str, int | None]]:
    return [(at, TAKEN, run, fence), (at + 1, STARTED, run, None), (at + 8, ENDED, run, None), (at + 9, RELEASED, run, fence)]


def test_runs_one_after_the_other_are_in_order() -> None:
    held, problems = held_by(record(*good_run(10, "a.1", 1), *good_run(20, "b.1", 2)), "board")
    assert problems == []
    assert (held["a.1"].since_ns, held["a.1"].until_ns, held["a.1"].released) == (10, 19, True)


def test_a_killed_run_ends_when_it_is_found_gone_and_may_be_found_again() -> None:
    lines = record((10, TAKEN, "a.1", 1), (11, STARTED, "a.1", None), (15, GONE, "a.1", 2), *good_run(20, "b.1", 2), (40, GONE, "a.1", 2))
    held, problems = held_by(lines, "board")
    assert problems == []
    assert (held["a.1"].until_ns, held["a.1"].released) == (15, False)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ([*good_run(10, "a.1", 1), *good_run(15, "b.1", 2)], "held twice"),
        ([*good_run(10, "a.1", 1), *good_run(10, "b.1", 2)], "held twice"),
        ([(10, TAKEN, "a.1", 1), *good_run(20, "b.1", 2), (40, GONE, "a.1", 2)], "held twice"),
        ([(10, TAKEN, "a.1", 1)], "ever ended"),
        ([(10, TAKEN, "a.1", 1), (12, GONE, "a.1", 1), (13, STARTED, "a.1", None)], "after its end"),
        ([*good_run(10, "a.1", 1), *good_run(20, "a.1", 2)], "more than once"),
        ([*good_run(10, "a.1", 2), *good_run(20, "b.1", 2)], "under fence"),
    ],
)
def test_a_board_that_was_held_twice_or_whose_run_does_not_end_is_found(lines: list[Any], word: str) -> None:
    assert word in "; ".join(held_by(record(*lines), "board")[1])


def test_a_record_is_read_in_order_over_the_log_put_aside(tmp_path: Path) -> None:
    for name, run in ((custody.OLD_LOG_FILE, "a.1"), (custody.LOG_FILE, "b.1")):
        (tmp_path / name).write_text(json.dumps({"event": TAKEN, "run": run, "fence": 1, "monotonic_ns": 5, "boot": "x"}) + "\n")
    assert [line.run for line in read_custody(tmp_path)] == ["a.1", "b.1"]


# --- the database -----------------------------------------------------------------------------------------------


class Rows:
    """One device and one job that is as it should be, until a test changes something."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.board = record()
        session.add(
            Device(id=1, name="board", profile="p", gateway="g", transport="ssh", address={}, root="/r", labels={}, facts={}, added_at=0)
        )
        session.add(
            Experiment(
                id="e", name="e", spec_file="e", spec_text="", spec_sha256="", plan={}, submitted_at=0, submitted_by="ada",
                edgematrix_version="0", agent_sha256="",
            )
        )  # fmt: skip
        session.flush()

    def job(self, name: str, attempts: list[str], outcome: str = "completed", at: float = 10.0, **changes: Any) -> Job:
        error = {"class": "infrastructure", "code": "run_lost", "message": "m"} if outcome == "error" else None
        fields: dict[str, Any] = {
            "id": name, "experiment_id": "e", "job_key": name, "model": "m", "variant": "v", "environment": "default", "num_threads": 1,
            "provider": "p", "scenario": "s", "repeat": 0, "device_query": "", "device_id": 1, "state": "finished", "outcome": outcome,
            "attempts": len(attempts), "submitted_at": 0.0, "error": error,
        }  # fmt: skip
        job = Job(**fields | changes)
        self.session.add(job)
        self.session.flush()
        for number, status in enumerate(attempts, 1):
            start, fence = at + 10 * number, int(at) + number
            self.session.add(
                Attempt(job_id=name, number=number, device_id=1, fence=fence, started_at=start, ended_at=start + 9, status=status)
            )
            self.board += record(*good_run(int(start), f"{name}.{number}", fence))
        self.session.add(StateChange(subject="job", subject_id=name, old="collecting", new="finished", actor="system", at=at))
        if outcome == "completed":
            self.session.add(Result(job_id=name, attempt=len(attempts), analysis_version=1, validity={}, traces={}, published_at=at))
        self.session.flush()
        return job

    def judged(self, killed: list[str] | None = None, cut_off: dict[str, int] | None = None) -> Found:
        held, problems = held_by(self.board, "board")
        assert problems == []
        return judge(self.session, {"board": held}, cut_off or {}, killed or [], 3)


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    engine = open_database(f"sqlite:///{tmp_path / 'db'}")
    migrate(engine)
    with open_session(engine) as session:
        yield Rows(session)
    engine.dispose()


def test_jobs_that_ended_once_pass_and_what_was_picked_up_is_counted(rows: Rows) -> None:
    rows.job("a", ["completed"])
    rows.job("b", ["error", "completed"], at=100.0)
    rows.job("c", ["error", "error", "error"], "error", at=200.0)
    found = rows.judged(killed=["b.1", "c.1", "c.2", "c.3"], cut_off={"a.1": 2, "c.1": 1})
    assert found.problems == []
    assert (found.jobs, found.attempts, found.retried, found.picked_up) == (3, 6, 2, {"a.1": 2})
    assert found.outcomes == {"completed": 2, "error": 1}


def test_a_run_that_survived_and_was_given_up_is_found(rows: Rows) -> None:
    rows.job("a", ["error", "completed"])
    assert "a.1 survived on board" in "; ".join(rows.judged().problems)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda rows, job: setattr(job, "state", "running"), "is running"),
        (lambda rows, job: setattr(job, "outcome", "timeout"), "outcome timeout"),
        (lambda rows, job: setattr(job, "attempts", 2), "counts 2 attempts"),
        (lambda rows, job: rows.session.delete(rows.session.get_one(Result, "a")), "result of attempt None"),
        (lambda rows, job: setattr(rows.session.get_one(Attempt, ("a", 1)), "ended_at", None), "never ended"),
        (lambda rows, job: setattr(rows.session.get_one(Device, 1), "lease_job_id", "a"), "still leased"),
        (
            lambda rows, job: rows.session.add(StateChange(subject="job", subject_id="a", old="", new="finished", actor="x", at=1)),
            "ended 2 times",
        ),
        (lambda rows, job: rows.job("b", ["completed"], at=15.0), "began before"),
        (lambda rows, job: rows.board.clear(), "knows of it: None"),
        (lambda rows, job: rows.board.extend(record(*good_run(90, "x.1", 90))), "does not know"),
        (lambda rows, job: rows.job("b", ["error"], "error", at=100.0), "gave up after 1 of 3"),
        (
            lambda rows, job: rows.job("b", ["error"] * 3, "error", at=100.0, error={"class": "bug", "code": "x", "message": "y"}),
            "gave up after 3 of 3 attempts (bug",
        ),
    ],
)
def test_each_way_for_a_job_to_be_lost_or_doubled_is_found(rows: Rows, change: Any, word: str) -> None:
    job = rows.job("a", ["completed"])
    change(rows, job)
    rows.session.flush()
    held, _ = held_by(rows.board, "board")
    found = judge(rows.session, {"board": held}, {}, ["b.1", "b.2", "b.3"], 3)
    assert word in "; ".join(found.problems)


# --- the faults ---------------------------------------------------------------------------------------------------


def test_faults_are_drawn_by_their_seed_and_few_of_them_hold_most_kinds() -> None:
    assert draw_faults(30, 7, 3.0) == draw_faults(30, 7, 3.0) != draw_faults(30, 8, 3.0)
    for seed in range(20):
        assert {fault.kind for fault in draw_faults(30, seed, 3.0)} == set(KINDS)
