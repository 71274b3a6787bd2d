"""Ctrl-C once, Ctrl-C twice, and ``kill -9`` of the command itself."""

from __future__ import annotations

import signal

from tests.integration.running import DIGITS, GOOD, Home, measured_for, variant, write_spec

TWO = [GOOD, variant("lite", DIGITS / "tflite_fp32.tflite")]


def test_ctrl_c_cancels_every_job_and_leaves_nothing_running(home: Home) -> None:
    command = home.start_spec(write_spec(home.specs, TWO, scenarios=measured_for(30)))
    home.wait_for_measuring()
    command.interrupt()
    ended = command.end()
    assert ended.code == 130, ended.stderr
    assert home.processes() == {}, "the command waits for the devices to stop"
    assert {job.outcome for job in home.jobs()} == {"canceled"}
    home.assert_each_job_ended_once()
    assert list(home.root.glob("jobs/*")) == [], "the device is clean"
    assert home.run("resume", "--no-report").code == 0, "what was canceled is not taken up again"


def test_a_second_ctrl_c_stops_at_once_and_resume_brings_the_cancel_to_its_end(home: Home) -> None:
    command = home.start_spec(write_spec(home.specs, TWO, scenarios=measured_for(30)))
    folder = home.wait_for_measuring()
    supervisor = home.supervisor_pid(folder)
    # A device that does not answer: the first Ctrl-C has to wait for it.
    home.send(home.process("orchestrator.worker worker"), signal.SIGSTOP)
    command.interrupt()
    home.wait_for(lambda: True if home.query("SELECT 1 FROM experiment WHERE cancel_requested_by IS NOT NULL") else None)
    assert command.running
    command.interrupt()
    ended = command.end()
    assert ended.code == 130, ended.stderr
    assert set(home.processes()) <= {supervisor, *home.family(supervisor)}, "only the device's own run may live"
    home.run("resume", "--no-report")
    assert {job.outcome for job in home.jobs()} == {"canceled"}
    home.assert_each_job_ended_once()
    home.assert_nothing_runs()


def test_after_kill_9_of_the_command_only_the_run_lives_and_resume_finishes_without_loss_or_double(home: Home) -> None:
    scenario = measured_for(2.5)["latency"] | {"repeats": 3}
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios={"latency": scenario}))
    home.wait_for(lambda: True if home.query("SELECT 1 FROM result") else None, "a first result")
    supervisor = home.supervisor_pid(home.wait_for_measuring())
    before = {job.id for job in home.jobs() if job.results}
    command.kill()
    assert command.end().code == -signal.SIGKILL
    home.wait_for(lambda: True if set(home.processes()) <= {supervisor, *home.family(supervisor)} else None, "the stack dies with it")
    resumed = home.run("resume", "--no-report")
    assert resumed.code == 0, resumed.stderr
    assert before <= {job.id for job in home.jobs() if job.results}
    assert {job.attempts for job in home.jobs()} == {1}, "the run that went on alone was taken up, not repeated"
    home.assert_all_completed()
    home.assert_nothing_runs()
    assert "nothing to resume" in home.run("resume").stderr


def test_a_run_that_nobody_reads_any_more_ends_itself(home: Home) -> None:
    limits = {"timeout_secs": 120, "max_attempts": 3, "orphan_after_secs": 2}
    command = home.start_spec(write_spec(home.specs, [GOOD], scenarios=measured_for(60), limits=limits))
    home.wait_for_measuring()
    command.kill()
    command.end()
    home.assert_nothing_runs()
    (job,) = home.jobs()
    assert job.state == "running", "nobody was there to note its end"
    assert home.run("cancel", job.id).code == 0
    home.run("resume", "--no-report")
    home.assert_each_job_ended_once()
