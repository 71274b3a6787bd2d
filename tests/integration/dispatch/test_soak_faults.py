"""A soak that is killed, cut off or restarted in its midst: what was measured is kept and marked."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from agent import protocol
from agent.errors import DeviceUnreachable
from orchestrator.dispatch.drive import drive
from orchestrator.dispatch.measuring import Streams, load_streams
from orchestrator.domain.states import JobOutcome, JobState
from orchestrator.service import experiments
from orchestrator.store.database import read_session
from orchestrator.store.results import AttemptRecord, load_attempts
from orchestrator.store.tables import Job
from tests.integration.dispatch.bench import Bench, devices_root

STEADY = protocol.PHASES.index("steady")


def run_until_loaded(bench: Bench, job_id: str, secs: float = 2.0) -> Path:
    """Drive the soak into its steady part, for so many seconds; return the run's folder on the device."""
    bench.drive_until(job_id, JobState.RUNNING)
    root = Path(devices_root(bench.context))

    def steady() -> Path | None:
        for folder in root.glob("jobs/*"):
            data = (folder / "progress").read_bytes() if (folder / "progress").exists() else b""
            if len(data) == protocol.PROGRESS.size and protocol.PROGRESS.unpack(data)[0] == STEADY:
                return folder
        return None

    folder: Path = bench.until(steady)
    time.sleep(secs)
    return folder


def attempts(bench: Bench, job_id: str) -> list[AttemptRecord]:
    with read_session(bench.context.engine) as opened:
        return load_attempts(opened, job_id)


def kept(bench: Bench, record: AttemptRecord) -> tuple[protocol.RunOutcome, Streams]:
    assert record.outcome_message is not None
    return protocol.from_json(protocol.RunOutcome, json.dumps(record.outcome_message)), load_streams(bench.context.artifacts, record.traces)


def assert_tells_of_the_load(outcome: protocol.RunOutcome, streams: Streams) -> None:
    """Queries, probes and temperatures of the same minutes, on one axis of time, with the names of their channels."""
    assert {"queries", "probes", "telemetry", "events"} <= set(streams)
    assert (streams["queries"]["phase"] == STEADY).sum() > 100
    assert set(streams["probes"]["cold"].tolist()) == {0, 1}
    assert outcome.runner is not None
    queries_ns = streams["queries"]["start_ns"].astype(np.int64) + outcome.runner.origin_monotonic_ns
    telemetry_ns = streams["telemetry"]["time_ns"].astype(np.int64)
    assert telemetry_ns[0] <= queries_ns[-1]
    assert queries_ns[0] <= telemetry_ns[-1]
    assert int(streams["telemetry"]["sensor"].max()) < len(outcome.sensors)
    assert outcome.conditions["start"]


def kill_supervisor(folder: Path) -> None:
    os.kill(int((folder / "supervisor.lock").read_text()), signal.SIGKILL)


def test_a_soak_whose_runner_is_killed_keeps_what_it_measured(bench: Bench) -> None:
    job_id = bench.submit_soak()
    folder = run_until_loaded(bench, job_id)
    os.kill(int(json.loads((folder / "runner_pid.json").read_text())["pid"]), signal.SIGKILL)
    job = bench.drive_until_free(job_id)
    assert (job.outcome, job.error and job.error["code"]) == (JobOutcome.ERROR, "runner_killed")
    (record,) = attempts(bench, job_id)
    assert (record.complete, record.error and record.error["code"]) == (False, "runner_killed")
    outcome, streams = kept(bench, record)
    assert outcome.status == "error"
    assert_tells_of_the_load(outcome, streams)
    assert bench.counts(job_id) == (1, 0)
    bench.assert_device_is_clean()


def test_each_attempt_of_a_soak_keeps_its_own_part_and_the_last_one_is_the_result(bench: Bench) -> None:
    job_id = bench.submit_soak({"max_attempts": 2}, duration_secs=5)
    folder = run_until_loaded(bench, job_id)
    kill_supervisor(folder)
    job = bench.drive_until_free(job_id)
    assert (job.outcome, job.attempts) == (JobOutcome.COMPLETED, 2)
    first, second = attempts(bench, job_id)
    assert (first.complete, second.complete) == (False, True)
    assert_tells_of_the_load(*kept(bench, first))
    assert first.traces["queries"]["rows"] < second.traces["queries"]["rows"]


def test_a_link_that_is_cut_and_comes_back_leaves_no_gap_in_a_soak(bench: Bench) -> None:
    job_id = bench.submit_soak(duration_secs=6)
    run_until_loaded(bench, job_id, 0.5)

    def cut(name: str, count: int) -> None:
        raise DeviceUnreachable("the link is cut", "mend it")

    bench.wire.on_call = cut
    drive(bench.gateway(), job_id, bench.job(job_id).fence or 0)
    assert bench.job(job_id).state == JobState.RUNNING
    time.sleep(2.0)
    bench.wire.on_call = lambda name, count: None
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED
    (record,) = attempts(bench, job_id)
    _, streams = kept(bench, record)
    assert record.complete
    assert np.diff(np.unique(streams["telemetry"]["time_ns"]).astype(np.int64)).max() < 1e9
    started = streams["queries"]["start_ns"][streams["queries"]["phase"] == STEADY].astype(np.int64)
    assert np.diff(started).max() < 1e9


def test_what_a_restarted_device_still_holds_of_a_soak_is_fetched_although_the_link_breaks_meanwhile(bench: Bench) -> None:
    job_id = bench.submit_soak()
    folder = run_until_loaded(bench, job_id)
    kill_supervisor(folder)
    # As the device has it that runs again: its record is of the boot before.
    start = json.loads((folder / "start.json").read_text())
    assert start["boot_id"]
    (folder / "start.json").write_text(json.dumps(start | {"boot_id": "00000000-0000-0000-0000-000000000000"}))
    cuts = []
    real = bench.wire.read_from

    def read_from(path: str, offset: int, max_bytes: int) -> bytes | None:
        if path.endswith("telemetry.spool") and len(cuts) < 2:
            cuts.append(offset)
            raise DeviceUnreachable("the link is cut", "mend it")
        return real(path, offset, max_bytes)

    bench.wire.read_from = read_from  # type: ignore[method-assign]
    job = bench.drive_until_free(job_id)
    assert len(cuts) == 2
    assert (job.outcome, job.attempts) == (JobOutcome.ERROR, 1)
    assert job.error is not None
    assert "restarted while" in job.error["message"]
    (record,) = attempts(bench, job_id)
    outcome, streams = kept(bench, record)
    assert (record.complete, outcome.status) == (False, "lost")
    assert outcome.duration_secs > 1.0
    assert_tells_of_the_load(outcome, streams)


def test_a_soak_that_is_more_than_one_drive_can_fetch_is_fetched_by_several(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.dispatch.pulling.PULL_SECS", 0.0)
    job_id = bench.submit_soak(duration_secs=3)
    bench.drive_until(job_id, JobState.COLLECTING, JobState.FINISHED)
    assert bench.drive_until_free(job_id).outcome == JobOutcome.COMPLETED
    (record,) = attempts(bench, job_id)
    assert record.complete
    assert_tells_of_the_load(*kept(bench, record))
    # The same for what a failed attempt has left.
    job_id = bench.submit_soak()
    run_until_loaded(bench, job_id)
    experiments.cancel(bench.context, job_id)
    assert bench.drive_until_free(job_id).outcome == JobOutcome.CANCELED
    assert_tells_of_the_load(*kept(bench, attempts(bench, job_id)[0]))


def test_a_canceled_soak_keeps_what_it_measured(bench: Bench) -> None:
    job_id = bench.submit_soak()
    run_until_loaded(bench, job_id)
    experiments.cancel(bench.context, job_id)
    job = bench.drive_until_free(job_id)
    assert job.outcome == JobOutcome.CANCELED
    outcome, streams = kept(bench, attempts(bench, job_id)[0])
    assert outcome.status == "canceled"
    assert_tells_of_the_load(outcome, streams)


def test_a_soak_that_takes_too_long_keeps_what_it_measured(bench: Bench) -> None:
    job_id = bench.submit_soak({"timeout_secs": 0.5}, duration_secs=4, probe={"every_secs": 0.5, "cold_rounds": 400, "samples": 697})
    job = bench.drive_until_free(job_id)
    assert job.outcome == JobOutcome.TIMEOUT
    outcome, streams = kept(bench, attempts(bench, job_id)[0])
    assert outcome.status == "timeout"
    assert len(streams["probes"]["sample"]) > 100
    assert outcome.runner is not None
    assert outcome.runner.origin_monotonic_ns > 0


def test_a_run_of_another_scenario_leaves_nothing_but_its_message(bench: Bench) -> None:
    job_id = bench.submit()
    bench.drive_until(job_id, JobState.RUNNING)
    experiments.cancel(bench.context, job_id)
    bench.drive_until_free(job_id)
    (record,) = attempts(bench, job_id)
    with read_session(bench.context.engine) as opened:
        assert opened.get_one(Job, job_id).outcome == JobOutcome.CANCELED
    assert record.traces == {}
