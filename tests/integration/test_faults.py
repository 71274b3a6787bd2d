"""Any process may be killed at any time: every job still ends once, with its one result, and nothing is left running."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time

import pytest

from orchestrator import __version__
from orchestrator.worker.celery_app import make_app, queue_of
from orchestrator.worker.tasks import DRIVE
from tests.integration.running import DIGITS, GOOD, Home, measured_for, variant, write_spec

WORKER, SCHEDULER, REDIS = "orchestrator.worker worker", "orchestrator.worker scheduler", "redis-server"
THREE = [GOOD, variant("lite", DIGITS / "tflite_fp32.tflite"), variant("u8s8", DIGITS / "onnx_u8s8.onnx")]


@pytest.mark.parametrize("victim", [WORKER, SCHEDULER, REDIS], ids=["worker", "scheduler", "redis"])
def test_a_job_goes_on_when_a_process_of_the_stack_is_killed_under_it(home: Home, victim: str) -> None:
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios={"accuracy": {}, **measured_for(3)}))
    home.wait_for_measuring()
    killed = home.process(victim)
    os.killpg(killed, signal.SIGKILL)
    ended = command.end()
    assert ended.code == 0, ended.stderr
    assert [job.attempts for job in home.jobs()] == [1, 1], "the run on the device was taken up, not repeated"
    home.assert_all_completed()
    home.assert_nothing_runs()


def test_killing_the_worker_at_random_moments_loses_and_doubles_nothing(home: Home) -> None:
    moments = random.Random(20261121)
    command = home.start_spec(write_spec(home.specs, THREE, scenarios={"accuracy": {}, **measured_for(0.5)}))
    for _ in range(4):
        time.sleep(moments.uniform(0.2, 1.5))
        worker = home.wait_for(
            lambda: next((pid for pid, line in home.processes().items() if WORKER in line), 0 if not command.running else None)
        )
        if worker:
            os.killpg(worker, signal.SIGKILL)
            home.wait_for(lambda worker=worker: worker not in home.processes() or None)  # type: ignore[misc]
    ended = command.end()
    assert ended.code == 0, ended.stderr
    assert len(home.jobs()) == 6
    home.assert_all_completed()
    home.assert_nothing_runs()


def test_a_run_whose_supervisor_is_killed_is_repeated_and_ends_once(home: Home) -> None:
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios=measured_for(3)))
    folder = home.wait_for_measuring()
    runner = home.runner_pid(folder)
    os.kill(home.supervisor_pid(folder), signal.SIGKILL)
    home.wait_for(lambda: runner not in home.processes() or None, "the runner dies with its supervisor")
    assert command.end().code == 0
    assert home.attempt_errors() == ["run_lost"]
    home.assert_all_completed()


@pytest.mark.parametrize(
    ("sent", "outcome", "codes", "attempts"),
    [
        (signal.SIGKILL, "completed", ["runner_killed"], 2),
        (signal.SIGSEGV, "error", ["runtime_crashed"], 1),
        (signal.SIGABRT, "error", ["runtime_crashed"], 1),
    ],
    ids=["killed from outside", "segmentation fault", "abort"],
)
def test_a_runner_killed_from_outside_is_repeated_and_one_that_crashed_is_a_result(
    home: Home, sent: signal.Signals, outcome: str, codes: list[str], attempts: int
) -> None:
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios=measured_for(3)))
    os.kill(home.runner_pid(home.wait_for_measuring()), sent)
    ended = command.end()
    (job,) = home.jobs()
    assert (job.outcome, job.attempts, home.attempt_errors()) == (outcome, attempts, codes), ended.stderr
    if outcome == "error":
        assert job.error is not None
        assert sent.name in job.error["message"]
        assert ended.code == 1
    home.assert_each_job_ended_once()
    home.assert_nothing_runs()


def test_a_supervisor_told_to_stop_by_somebody_else_is_not_taken_for_a_cancel(home: Home) -> None:
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios=measured_for(3)))
    os.kill(home.supervisor_pid(home.wait_for_measuring()), signal.SIGTERM)
    assert command.end().code == 0
    assert home.attempt_errors() == ["runner_killed"]
    home.assert_all_completed()


def test_a_job_that_the_lab_fails_again_and_again_ends_as_an_error_after_its_last_attempt(home: Home) -> None:
    spec = write_spec(home.specs, [GOOD], scenarios=measured_for(20), limits={"timeout_secs": 60, "max_attempts": 2})
    command = home.start_spec(spec)
    for attempt in (1, 2):
        os.kill(home.runner_pid(home.wait_for_measuring(attempt)), signal.SIGKILL)
    assert command.end().code == 1
    (job,) = home.jobs()
    assert (job.outcome, job.attempts) == ("error", 2)
    assert job.error is not None
    assert (job.error["class"], job.error["code"]) == ("infrastructure", "runner_killed")
    home.assert_each_job_ended_once()


def test_a_nudge_delivered_many_times_or_too_late_changes_nothing(home: Home) -> None:
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios=measured_for(3)))
    home.wait_for_measuring()
    ((job_id, fence),) = home.query("SELECT id, fence FROM job WHERE state = 'running'")
    app = make_app(f"redis+socket://{home.path}/run/redis.sock")
    with app.connection_for_write() as connection:
        for sent in [fence] * 20 + [fence - 1, fence + 7, 0]:
            app.send_task(DRIVE, args=[job_id, sent, __version__], queue=queue_of("local"), connection=connection)
        app.send_task(DRIVE, args=[job_id, fence, "0.0.0"], queue=queue_of("local"), connection=connection)
        app.send_task(DRIVE, args=["no-such-job", 1, __version__], queue=queue_of("local"), connection=connection)
    app.close()
    assert command.end().code == 0
    assert [job.attempts for job in home.jobs()] == [1]
    home.assert_all_completed()


def test_editing_the_spec_and_its_files_while_they_run_has_no_effect(home: Home) -> None:
    model, data = home.specs / "model.onnx", home.specs / "data.npz"
    shutil.copy(DIGITS / "onnx_fp32.onnx", model)
    shutil.copy(DIGITS / "digits_test.npz", data)
    dataset = {"dataset": {"file": data.name, "inputs": "x", "labels": "y"}}
    spec = write_spec(home.specs, [variant("first", model.name), GOOD], scenarios={"accuracy": {}, **measured_for(2)}, model=dataset)
    command = home.start_spec(spec)
    home.wait_for_measuring()
    spec.write_text("not a spec any more")
    model.write_bytes(b"not a model any more")
    data.unlink()
    assert command.end().code == 0
    home.assert_all_completed()
    edited, untouched = (home.metric(home.job(name), "accuracy.top1") for name in ("first", "good"))
    assert edited == untouched is not None


def test_two_runs_at_once_in_one_home_share_what_runs_and_both_finish(home: Home) -> None:
    first = home.start_spec(write_spec(home.specs, [GOOD], name="first", scenarios={"accuracy": {}}))
    second = home.start_spec(write_spec(home.specs, [GOOD], name="second", scenarios={"accuracy": {}, **measured_for(2)}))
    ends = [first.end(), second.end()]
    assert [ended.code for ended in ends] == [0, 0], ends
    assert len(home.jobs()) == 3
    home.assert_all_completed()
    home.assert_nothing_runs()
