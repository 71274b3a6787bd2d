"""Whatever a runner does or is done to it, its run ends with an outcome that says so, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess

import numpy as np
import pytest
from supervised import Runs, code, events, lives, wait_for

from agent import device as commands
from agent import layout, protocol
from agent.protocol import ContentRef
from agent.spool import read_spool
from agent.verdict import RunnerEnd, judge
from agent.watch import Watch

SECOND = 1_000_000_000


# --- how a runner ends ---------------------------------------------------------------------------------------


def test_a_run_that_completes_keeps_report_conditions_streams_and_events(runs: Runs) -> None:
    outcome = runs.outcome("completes")
    folder = runs.started[0]
    assert (outcome.status, outcome.error, outcome.fence) == ("completed", None, 1)
    assert outcome.runner is not None
    assert outcome.runner.steady_count == 7
    assert outcome.conditions["cpu"]["architecture"] == os.uname().machine
    assert outcome.conditions["end"]["monotonic_ns"] > outcome.conditions["start"]["monotonic_ns"]
    assert {"supervisor_started", "runner_started", "runner_ended"} <= set(events(folder))
    assert outcome.streams[protocol.EVENTS] == layout.file_digest(folder / "events.spool")
    assert outcome.started_utc.endswith("+00:00")


@pytest.mark.parametrize("behaviour", ["SIGSEGV", "SIGABRT", "SIGILL", "SIGBUS"])
def test_a_model_that_crashes_the_runtime_is_a_result_with_the_signals_name(runs: Runs, behaviour: str) -> None:
    outcome = runs.outcome(behaviour)
    assert (outcome.status, code(outcome)) == ("error", "runtime_crashed")
    assert outcome.error is not None
    assert outcome.error["class"] == "job"
    assert behaviour in outcome.error["message"]
    assert "stand_in_runner.py" in outcome.error["message"], "the place of the crash is told"


@pytest.mark.parametrize("behaviour", ["SIGKILL", "SIGHUP"])
def test_a_runner_killed_from_outside_is_the_labs_fault_and_the_free_memory_is_told(runs: Runs, behaviour: str) -> None:
    outcome = runs.outcome(behaviour)
    assert (outcome.status, code(outcome)) == ("error", "runner_killed")
    assert outcome.error is not None
    assert outcome.error["class"] == "infrastructure"
    assert "MB of memory were free" in outcome.error["message"]


@pytest.mark.parametrize(
    ("behaviour", "expected", "word"),
    [
        ("refuses", "shape_mismatch", "takes 10 values"),
        ("exits_7", "runtime_crashed", "cannot initialise the accelerator"),
        ("raises", "internal", "a mistake of ours"),
        ("forgets_its_report", "internal", "there is no report"),
        ("damages_its_report", "internal", "damaged"),
        ("reports_nan", "internal", "cannot be sent"),
    ],
)
def test_every_other_end_is_told_with_its_cause(runs: Runs, behaviour: str, expected: str, word: str) -> None:
    outcome = runs.outcome(behaviour)
    assert (outcome.status, code(outcome)) == ("error", expected)
    assert outcome.error is not None
    assert word in outcome.error["message"]


@pytest.mark.parametrize(("behaviour", "timeout_secs"), [("dies_looking", 60.0), ("hangs_looking", 1.0)])
def test_a_whole_measurement_survives_the_look_at_its_placement(runs: Runs, behaviour: str, timeout_secs: float) -> None:
    outcome = runs.outcome(behaviour, timeout_secs=timeout_secs)
    assert (outcome.status, outcome.error) == ("completed", None)
    assert outcome.runner is not None
    assert outcome.runner.steady_count == 7
    assert outcome.runner.placement == protocol.Placement("default", [], cause=protocol.PLACEMENT_UNFINISHED)


def test_cancel_ends_a_run_that_only_looks_at_its_placement(runs: Runs) -> None:
    folder = runs.push()
    assert runs.start(folder, "hangs_looking")["ok"]
    wait_for((folder / "hanging").exists, f"the stand-in; log: {runs.log(folder)}")
    commands.cancel(runs.root, folder.name, 1)
    assert runs.end(folder).status == "canceled"


def test_what_a_runner_says_is_kept_within_bounds_and_its_last_words_stay(runs: Runs) -> None:
    assert runs.outcome("is_noisy").status == "completed"
    said = (runs.started[0] / "runner.stderr").read_bytes()
    assert len(said) < 200_000
    assert said.startswith(b"first words")
    assert said.endswith(b"last words\n")
    assert b"bytes left out" in said


def test_what_a_runner_leaves_in_its_group_is_killed_with_it(runs: Runs) -> None:
    runs.outcome("leaves_a_child")
    child = int((runs.started[0] / "child_pid").read_text())
    wait_for(lambda: not lives(child), "the child's end")


def test_of_a_crash_the_place_is_told_and_what_the_runtime_said_before_however_much_follows() -> None:
    stderr = (
        "noise\n" * 5000
        + "abort: invalid tensor\nFatal Python error: Aborted\n  File model.py\n"
        + "Extension modules: "
        + "numpy.x, " * 2000
    )
    error = judge(RunnerEnd(-signal.SIGABRT, None, "", stderr, None, 0))[1]
    assert error is not None
    assert "invalid tensor" in error["message"]
    assert "File model.py" in error["message"]
    assert len(error["message"]) < 3000


def test_an_early_sigterm_to_the_runner_alone_is_an_end_from_outside() -> None:
    end = RunnerEnd(4, protocol.RunnerReport(), "", "", None, 0)
    assert judge(end)[1]["code"] == "runner_killed"  # type: ignore[index]


def test_a_kill_for_lack_of_memory_is_named_as_such() -> None:
    end = RunnerEnd(-signal.SIGKILL, None, "there is no report", "", 12_000_000, 1)
    error = judge(end)[1]
    assert error is not None
    assert "lack of memory; 12 MB" in error["message"]


# --- ends before the end -------------------------------------------------------------------------------------


def test_a_model_that_hangs_ends_at_the_timeout(runs: Runs) -> None:
    folder = runs.hanging(timeout_secs=1.0)
    outcome = runs.end(folder)
    assert (outcome.status, code(outcome)) == ("timeout", "run_timeout")
    assert not lives(runs.runner(folder))
    assert "timeout_reached" in events(folder)


def test_cancel_ends_the_run_and_its_runner(runs: Runs) -> None:
    folder = runs.hanging()
    commands.cancel(runs.root, folder.name, 1)
    outcome = runs.end(folder)
    assert (outcome.status, outcome.error) == ("canceled", None)
    assert not lives(runs.runner(folder))


def test_sigterm_to_the_supervisor_ends_the_run_as_cancel_does(runs: Runs) -> None:
    folder = runs.hanging()
    os.kill(runs.supervisor(folder), signal.SIGTERM)
    assert runs.end(folder).status == "canceled"
    assert events(folder)["cancel_seen"] == signal.SIGTERM


def test_a_run_that_nobody_reads_ends_itself_and_is_retried_by_its_class(runs: Runs) -> None:
    folder = runs.hanging(orphan_after_secs=1.0)
    outcome = runs.end(folder)
    assert (outcome.status, code(outcome)) == ("error", "run_orphaned")
    assert outcome.error is not None
    assert outcome.error["class"] == "infrastructure"
    assert not lives(runs.runner(folder))


def test_reading_keeps_a_run_alive_whatever_the_wall_clock_says() -> None:
    watch = Watch(0, timeout_secs=1000.0, orphan_after_secs=10.0)
    assert watch.decide(1 * SECOND, (1, 500), cancel=False) is None
    assert watch.decide(9 * SECOND, (1, 100), cancel=False) is None, "a mark that went back in time is a change, too"
    assert watch.decide(18 * SECOND, (1, 100), cancel=False) is None
    assert watch.decide(19 * SECOND, (1, 100), cancel=False) == "orphaned"
    assert watch.decide(19 * SECOND, (2, 100), cancel=False) is None, "a replaced file is a change"


def test_cancel_goes_before_timeout_and_timeout_before_orphaned() -> None:
    watch = Watch(0, timeout_secs=5.0, orphan_after_secs=5.0)
    assert watch.decide(5 * SECOND, None, cancel=True) == "cancel_seen"
    assert watch.decide(5 * SECOND, None, cancel=False) == "timeout_reached"
    assert watch.next_ns() == 5 * SECOND


# --- the supervisor itself -----------------------------------------------------------------------------------


def test_when_the_supervisor_is_killed_its_runner_dies_and_the_run_is_lost(runs: Runs) -> None:
    folder = runs.hanging()
    runner = runs.runner(folder)
    os.kill(runs.supervisor(folder), signal.SIGKILL)
    wait_for(lambda: not lives(runner), "the runner's end")
    assert runs.state(folder) == "lost"
    assert runs.start(folder, "completes")["error"]["code"] == "run_lost"
    assert commands.clean(runs.root, folder.name, 1) == {"removed": True}
    assert not folder.exists()


def test_the_supervisor_outlives_the_session_that_started_it(runs: Runs) -> None:
    folder = runs.hanging()
    supervisor = runs.supervisor(folder)
    assert os.getsid(supervisor) not in (os.getsid(0), supervisor)
    assert os.getpgid(runs.runner(folder)) == runs.runner(folder)
    assert runs.state(folder) == "running"


def test_the_state_is_running_from_the_moment_start_has_answered(runs: Runs) -> None:
    folder = runs.push()
    reply = runs.start(folder, "hangs")
    assert reply["started"]
    assert reply["status"]["state"] == "running"


def test_wrong_content_is_removed_and_told(runs: Runs) -> None:
    folder = runs.push()
    request = protocol.from_json(protocol.RunRequest, (folder / "request.json").read_text())
    model = layout.content_path(runs.root, request.model.sha256)
    model.write_bytes(b"A model")
    runs.start(folder, "completes")
    outcome = runs.end(folder)
    assert (outcome.status, code(outcome)) == ("error", "digest_mismatch")
    assert not model.exists()


def test_content_that_was_never_pushed_is_told(runs: Runs) -> None:
    outcome = runs.outcome("completes", model=ContentRef("ab" * 32, 7))
    assert code(outcome) == "digest_mismatch"
    assert outcome.error is not None
    assert "not on the device" in outcome.error["message"]


def test_telemetry_is_sampled_beside_the_run_and_none_when_not_asked_for(runs: Runs) -> None:
    folder = runs.hanging(timeout_secs=2.5, telemetry_hz=20.0)
    outcome = runs.end(folder)
    names = [sensor.name for sensor in outcome.sensors]
    columns = read_spool(folder / "telemetry.spool", protocol.TELEMETRY).columns
    busy = columns["sensor"] == names.index("cpu_busy_percent")
    assert busy.sum() >= 2
    assert ((columns["value"][busy] >= 0) & (columns["value"][busy] <= 100)).all()
    assert (np.diff(columns["time_ns"].astype(np.int64)) >= 0).all()
    silent = runs.outcome("completes", job_id="silent", telemetry_hz=0.0)
    assert protocol.TELEMETRY not in silent.streams
    assert silent.sensors == []


def test_a_full_disk_is_told_by_an_outcome(runs: Runs) -> None:
    jobs = runs.root / protocol.JOBS_FOLDER
    jobs.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(jobs)], capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        folder = runs.push(telemetry_hz=50.0)
        runs.start(folder, "fills_the_disk")
        outcome = runs.end(folder)
        assert (outcome.status, code(outcome)) == ("error", "disk_full")
        assert commands.clean(runs.root, folder.name, 99) == {"removed": True}, "the next owner can make room"
    finally:
        wait_for(lambda: subprocess.run(["umount", str(jobs)], capture_output=True).returncode == 0, "umount")
