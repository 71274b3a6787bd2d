"""A person takes a device from a job that measures on it: the run ends on the device, the record says who and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sqlmodel import col, select

from orchestrator.domain.states import JobOutcome, JobState
from orchestrator.service import reservations, submission
from orchestrator.service.devices import THIS_COMPUTER
from orchestrator.service.history import device_history
from orchestrator.store.database import read_session
from orchestrator.store.tables import Device, StateChange
from tests.integration.dispatch.bench import Bench, devices_root
from tests.integration.running import DIGITS, measured_for, variant, write_spec


def test_a_kicked_job_stops_on_the_device_and_the_next_one_is_the_kickers(bench: Bench) -> None:
    ada = replace(bench.context, actor="ada")
    job_id = _submit_long(bench)
    running = bench.drive_until(job_id, JobState.RUNNING)
    supervisor = _supervisor(bench, job_id)
    assert Path(f"/proc/{supervisor}").exists()
    found = reservations.kick(ada, THIS_COMPUTER, "the release waits")
    assert (found.job, found.canceled) == (job_id, True)
    reservations.reserve(ada, THIS_COMPUTER, ada.clock() + 3600, "release check")
    ended = bench.drive_until_free(job_id)
    assert (ended.outcome, ended.attempts) == (JobOutcome.CANCELED, running.attempts)
    bench.until(lambda: True if not Path(f"/proc/{supervisor}").exists() else None)
    bench.assert_device_is_clean()
    with read_session(bench.context.engine) as opened:
        changes = opened.exec(select(StateChange).where(col(StateChange.subject_id) == job_id).order_by(col(StateChange.id))).all()
        health = opened.exec(select(Device)).one().health
    assert [(change.new, change.actor) for change in changes][-2:] == [("canceling", "ada"), ("finished", "system")]
    assert changes[-2].why == f"kicked from {THIS_COMPUTER}: the release waits"
    assert health == "good"
    (use,) = [use for use in device_history(ada, THIS_COMPUTER).uses if use.kind == "job"]
    assert use.how == f"canceled by ada: kicked from {THIS_COMPUTER}: the release waits"
    # Another job of the same person as before waits while ada has the device, and runs when she is done.
    waiting = bench.submit()
    assert bench.tick() == []
    reservations.release(ada, THIS_COMPUTER)
    assert bench.drive_until_free(waiting).outcome == JobOutcome.COMPLETED


def _submit_long(bench: Bench) -> str:
    """A job that measures for longer than this test may last."""
    spec = write_spec(
        bench.context.settings.home,
        [variant("fp32", DIGITS / "onnx_fp32.onnx")],
        name="long",
        scenarios=measured_for(300.0),
        limits={"timeout_secs": 600, "max_attempts": 3},
    )
    return f"{submission.submit(bench.context, spec).experiment_id}-000001"


def _supervisor(bench: Bench, job_id: str) -> int:
    (lock,) = Path(devices_root(bench.context)).glob(f"jobs/{job_id}.*/supervisor.lock")
    return int(lock.read_text())
