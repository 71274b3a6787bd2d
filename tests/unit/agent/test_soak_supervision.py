"""A soak is watched from before its load until the device is cool, and whatever ends it, what was seen is kept."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from supervised import Runs, all_events, code, events, lives, wait_for

from agent import device as commands
from agent import protocol
from agent.protocol import CONTROL, SoakSettings
from agent.spool import read_spool
from agent.verdict import RunnerEnd, judge


class Board:
    """A sysfs with one thermal zone, rewritten in place as the kernel's files change."""

    def __init__(self, sys: Path) -> None:
        zone = sys / "class" / "thermal" / "thermal_zone0"
        zone.mkdir(parents=True)
        (zone / "type").write_text("cpu-thermal\n")
        self.file = zone / "temp"
        self.file.write_text("50000\n")

    def reads(self, text: str) -> None:
        descriptor = os.open(self.file, os.O_WRONLY)
        os.pwrite(descriptor, text.ljust(8).encode(), 0)
        os.close(descriptor)


@pytest.fixture
def board(runs: Runs, tmp_path: Path) -> Board:
    runs.sys = tmp_path / "sys"
    return Board(runs.sys)


def soak(runs: Runs, behaviour: str = "soaks", telemetry_hz: float = 20.0, orphan_after_secs: float = 900.0, **settings: Any) -> Path:
    folder = runs.push(
        scenario="soak", telemetry_hz=telemetry_hz, orphan_after_secs=orphan_after_secs, soak=SoakSettings(60.0, idle_secs=0.0, **settings)
    )
    assert runs.start(folder, behaviour)["ok"]
    return folder


def soaking(runs: Runs, behaviour: str = "soaks", **settings: Any) -> Path:
    folder = soak(runs, behaviour, **settings)
    wait_for((folder / "soaking").exists, f"the stand-in; log: {runs.log(folder)}")
    return folder


def names(folder: Path) -> list[str]:
    return [name for name, _ in all_events(folder) if name not in ("sample_late", "fence_adopted")]


def readings(folder: Path, outcome: protocol.RunOutcome, name: str) -> np.ndarray:
    columns = read_spool(folder / "telemetry.spool", protocol.TELEMETRY).columns
    index = [sensor.name for sensor in outcome.sensors].index(name)
    return np.asarray(columns["value"][columns["sensor"] == index])


def start_of(folder: Path) -> protocol.RunStart:
    return protocol.from_json(protocol.RunStart, (folder / protocol.START_FILE).read_text())


# --- the end by itself, and the cool-down --------------------------------------------------------------------


def test_the_cool_down_is_recorded_to_its_temperature_and_seen_in_the_progress(runs: Runs, board: Board) -> None:
    board.reads("70000")
    folder = soaking(runs, cooldown_secs=600.0, cooldown_until_c=45.0)
    (folder / "enough").touch()
    status = wait_for(lambda: (found := runs.status(folder)).phase == "cooldown" and found, "the cool-down")
    assert 0 < status.seconds_left <= 600.0
    assert status.total == 600
    assert not lives(runs.runner(folder))
    assert not (folder / protocol.OUTCOME_FILE).exists()
    board.reads("44000")
    outcome = runs.end(folder)
    assert (outcome.status, outcome.error, outcome.stopped) == ("completed", None, None)
    assert outcome.runner is not None
    assert outcome.runner.steady_count == 7
    assert names(folder) == ["supervisor_started", "runner_started", "runner_ended", "cooldown_started", "cooldown_ended"]
    assert events(folder)["cooldown_started"] == 70.0
    assert events(folder)["cooldown_ended"] == 44.0
    assert readings(folder, outcome, "thermal.cpu_thermal_c")[-1] == 44.0


def test_a_cool_down_without_a_temperature_lasts_its_time(runs: Runs, board: Board) -> None:
    folder = soaking(runs, cooldown_secs=1.0)
    (folder / "enough").touch()
    runs.end(folder)
    columns = read_spool(folder / "events.spool", protocol.EVENTS).columns
    times = {protocol.EVENT_CODES[number]: int(time) for number, time in zip(columns["code"], columns["time_ns"])}  # noqa: B905 (Python 3.9 has no strict)
    assert 1.0 <= (times["cooldown_ended"] - times["cooldown_started"]) / 1e9 < 30.0


def test_cancel_ends_a_cool_down_and_the_run_is_canceled_with_its_report(runs: Runs, board: Board) -> None:
    folder = soaking(runs, cooldown_secs=600.0)
    (folder / "enough").touch()
    wait_for(lambda: runs.status(folder).phase == "cooldown", "the cool-down")
    commands.cancel(runs.root, folder.name, 1)
    outcome = runs.end(folder)
    assert (outcome.status, outcome.error) == ("canceled", None)
    assert outcome.runner is not None
    assert outcome.runner.steady_count == 7
    assert names(folder)[-2:] == ["cancel_seen", "cooldown_ended"]


def test_a_cool_down_that_nobody_reads_costs_no_measurement(runs: Runs, board: Board) -> None:
    folder = soaking(runs, cooldown_secs=600.0, orphan_after_secs=5.0)
    (folder / "enough").touch()
    assert runs.end(folder).status == "completed"
    assert names(folder)[-2:] == ["orphaned", "cooldown_ended"]


def test_a_marker_stands_before_the_load_and_after_the_cool_down(runs: Runs, board: Board) -> None:
    folder = soaking(runs, marker=True, cooldown_secs=0.1)
    (folder / "enough").touch()
    assert runs.end(folder).status == "completed"
    told = [(name, value) for name, value in all_events(folder) if name in ("marker", "runner_started", "cooldown_ended")]
    wave = [("marker", 1.0), ("marker", 0.0)] * 3
    assert [item for item in told if item[0] == "marker"] == 2 * wave
    assert [name for name, _ in told[6:8]] == ["runner_started", "cooldown_ended"]


# --- stops ---------------------------------------------------------------------------------------------------


def test_a_safety_stop_ends_the_load_in_order_and_the_cool_down_is_still_recorded(runs: Runs, board: Board) -> None:
    folder = soaking(runs, stop_above_c=80.0, cooldown_secs=600.0, cooldown_until_c=60.0)
    board.reads("85000")
    wait_for(lambda: runs.status(folder).phase == "cooldown", "the cool-down")
    board.reads("55000")
    outcome = runs.end(folder)
    assert (outcome.status, outcome.error, outcome.stopped) == ("completed", None, "safety_temperature")
    assert outcome.runner is not None
    assert outcome.runner.steady_count == 3
    assert events(folder)["safety_stop"] == 85.0
    assert names(folder)[2:] == ["safety_stop", "runner_ended", "cooldown_started", "cooldown_ended"]


def test_a_runner_that_does_not_obey_a_safety_stop_is_killed_and_that_is_told(runs: Runs, board: Board) -> None:
    folder = soaking(runs, "never_ends", stop_above_c=80.0)
    board.reads("85000")
    outcome = runs.end(folder)
    assert (outcome.status, code(outcome), outcome.stopped) == ("error", "run_timeout", "safety_temperature")
    assert not lives(runs.runner(folder))
    assert outcome.runner is not None
    assert outcome.runner.origin_monotonic_ns == 1234


def test_a_stop_after_everything_was_measured_did_not_end_the_soak(runs: Runs, board: Board) -> None:
    folder = soak(runs, "hangs_looking", stop_above_c=80.0)
    wait_for((folder / protocol.RUNNER_REPORT_FILE).exists, "the report")
    board.reads("85000")
    outcome = runs.end(folder)
    assert (outcome.status, outcome.error, outcome.stopped) == ("completed", None, None)
    assert "safety_stop" in names(folder)


def test_a_device_too_hot_to_begin_is_told_as_that() -> None:
    end = RunnerEnd(-signal.SIGTERM, None, "there is no report", "", None, 0, was_asked=True)
    status, error = judge(end)
    assert error is not None
    assert (status, error["code"]) == ("error", "runner_killed")
    assert "before anything was measured" in error["message"]


def test_a_safety_temperature_on_a_device_without_a_thermometer_is_refused(runs: Runs, tmp_path: Path) -> None:
    runs.sys = tmp_path / "nothing"
    folder = soak(runs, stop_above_c=80.0)
    outcome = runs.end(folder)
    assert (outcome.status, code(outcome)) == ("error", "sensor_unavailable")
    assert not lives(runs.runner(folder))


# --- what is told beside it ----------------------------------------------------------------------------------


def test_the_runner_finds_the_temperature_and_a_zone_that_vanishes_is_told_once(runs: Runs, board: Board) -> None:
    folder = soaking(runs)

    def told() -> float:
        return float(CONTROL.unpack((folder / protocol.CONTROL_FILE).read_bytes())[1])

    wait_for(lambda: told() == 50.0, "the temperature")
    board.reads("EINVAL")
    wait_for(lambda: math.isnan(told()), "no temperature")
    board.reads("51000")
    wait_for(lambda: told() == 51.0, "the temperature again")
    (folder / "enough").touch()
    outcome = runs.end(folder)
    zone = float([sensor.name for sensor in outcome.sensors].index("thermal.cpu_thermal_c"))
    heard = [(name, value) for name, value in all_events(folder) if name.startswith("sensor_") and value == zone]
    assert heard == [("sensor_failed", zone), ("sensor_recovered", zone)]
    assert set(readings(folder, outcome, "thermal.cpu_thermal_c")) == {50.0, 51.0}


def test_what_sampling_cost_is_told_with_the_cpu_it_ran_on(runs: Runs, board: Board) -> None:
    folder = soaking(runs, cooldown_secs=2.0, telemetry_hz=50.0)
    (folder / "enough").touch()
    outcome = runs.end(folder)
    cost = outcome.sampling
    assert cost is not None
    assert cost.hertz == 50.0
    assert cost.wall_secs >= 2.0
    assert 0 < cost.cpu_secs < cost.wall_secs
    assert 1 <= cost.rounds <= 60 * cost.wall_secs + 2
    assert cost.late_rounds == sum(name == "sample_late" for name, _ in all_events(folder))
    runner_cpus = json.loads((folder / "affinity").read_text())
    assert outcome.conditions["runner_cpus"] == runner_cpus
    if len(os.sched_getaffinity(0)) > 1:
        assert not cost.shares_core
        assert len(cost.cpus) == 1
        assert not set(cost.cpus) & set(runner_cpus)
    else:
        assert cost.shares_core
        assert cost.cpus == []


# --- what a killed run leaves --------------------------------------------------------------------------------


def test_the_queries_of_a_runner_that_was_killed_can_be_placed_in_time(runs: Runs) -> None:
    outcome = runs.outcome("begins_and_is_killed", telemetry_hz=20.0)
    assert code(outcome) == "runner_killed"
    assert outcome.runner is not None
    assert outcome.runner.origin_monotonic_ns == 1234
    assert outcome.runner.runtime == {"name": "stand-in"}
    assert outcome.runner.steady_count == 0
    assert outcome.sampling is not None
    assert outcome.sensors
    assert protocol.EVENTS in outcome.streams


def test_a_run_whose_supervisor_was_killed_leaves_its_channels_conditions_and_spools(runs: Runs, board: Board) -> None:
    folder = soaking(runs)
    wait_for(lambda: (folder / "telemetry.spool").stat().st_size > 1000, "some telemetry")
    os.kill(runs.supervisor(folder), signal.SIGKILL)
    wait_for(lambda: runs.state(folder) == "lost", "the loss")
    start = start_of(folder)
    columns = read_spool(folder / "telemetry.spool", protocol.TELEMETRY).columns
    assert int(columns["sensor"].max()) < len(start.sensors)
    assert start.sensors[int(columns["sensor"][0])].name == "thermal.cpu_thermal_c"
    assert start.conditions["cpu"]["architecture"] == os.uname().machine
    assert runs.status(folder).restarted is False
    assert commands.clean(runs.root, folder.name, 1) == {"removed": True}
    assert not folder.exists()


def test_a_lost_run_says_that_the_device_was_restarted_since(runs: Runs, board: Board) -> None:
    folder = soaking(runs)
    assert runs.status(folder).restarted is None, "it lives"
    os.kill(runs.supervisor(folder), signal.SIGKILL)
    wait_for(lambda: runs.state(folder) == "lost", "the loss")
    record = json.loads((folder / protocol.START_FILE).read_text())
    (folder / protocol.START_FILE).write_text(json.dumps({**record, "boot_id": "another boot"}))
    assert runs.status(folder).restarted is True
    (folder / protocol.START_FILE).unlink()
    assert runs.status(folder).restarted is None, "nobody knows"
