"""Devices with a temperature as a user has them: they throttle and say so, and are told on when their arithmetic fails with heat.

Their constants are a fraction of a board's; the one that throttles has a core to itself. What a soak says is held against the plant's own
record, which knows how much the device really worked.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.heat_truth import RawSoak, read_record, read_soak
from benchmarks.homes import open_home
from deploy.lab import Lab, load_definition, needs
from deploy.lab.errors import LabImpossible
from deploy.lab.machine import Machine
from deploy.lab.plant.groups import ControlGroup, NoControlGroups
from tests.integration.conftest import make_home
from tests.integration.running import DIGITS, Command, Home, variant, write_spec

#: The root may have to be made first.
UP_DEADLINE_SECS = 1200.0
RUN_DEADLINE_SECS = 180.0
AMBIENT_C, TRIP_C = 25.0, 70.0
#: Idle it stands at 50 °C; asked for its temperature every other second, some degrees above that.
GATE_C, GATE_WIDTH_C = 56.0, 8.0
FAULTY_ABOVE_C = 62.0
HERTZ = 20.0
WINDOW_SECS = 2.0

pytestmark = pytest.mark.timeout(int(UP_DEADLINE_SECS + RUN_DEADLINE_SECS))

CORES = sorted(os.sched_getaffinity(0))
PLANT = {
    "ambient_c": AMBIENT_C,
    "core_watts": 4.0,
    "die_tau_secs": 0.2,
    "board_tau_secs": 8.0,
    "die_c_per_watt": 0.5,
    "trips": [{"at_c": TRIP_C, "hysteresis_c": 4.0, "clock_ratio": 0.5}],
}
DEVICES: list[dict[str, Any]] = [
    {"name": "hot-pi", "kind": "x86-native", "plant": {**PLANT, "board": "raspberry-pi", "core": CORES[-1]}},
    {
        "name": "hot-fan",
        "kind": "x86-native",
        "plant": {**PLANT, "core": CORES[0], "fan": [{"at_c": 52.0, "hysteresis_c": 4.0, "board_c_per_watt": 2.0, "rpm": 5000}]},
    },
    {"name": "hot-faulty", "kind": "x86-native", "plant": {**PLANT, "board": "jetson", "core": CORES[0]}, "faulty_above_c": FAULTY_ABOVE_C},
]
SOAK = {
    "duration_secs": 14.0,
    "window_secs": WINDOW_SECS,
    "idle_secs": 2.0,
    "cooldown": {"secs": 4.0},
    "ambient": {"sensor": "ambient.ambient_c"},
    "probe": {"samples": 8, "every_secs": 1.0},
    "telemetry_hz": HERTZ,
}


class HotLab:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.file = home.specs / "hot-lab.yaml"
        self.file.write_text(yaml.safe_dump({"format": 1, "name": "hot", "network": "10.219.78.0/24", "devices": DEVICES}))
        self.lab = Lab(load_definition(self.file))
        self._stories: dict[str, dict[str, Any]] = {}

    def up(self) -> None:
        ended = self.home.start("lab", "up", "--devices", self.file).end(UP_DEADLINE_SECS)
        assert ended.code == 0, ended.stderr

    def spec(self, name: str, devices: str, **soak: Any) -> Path:
        """One soak of the small network on each device that the expression means; an attempt that fails is not repeated."""
        return write_spec(
            self.home.specs,
            [variant("small", DIGITS / "onnx_fp32.onnx")],
            name,
            devices=[{"each": devices}],
            scenarios={"soak": {**SOAK, **soak}},
            limits={"timeout_secs": 60, "max_attempts": 1},
        )

    def story(self, job_id: str) -> dict[str, Any]:
        """What the command tells of a job that is over: asked for once."""
        if job_id not in self._stories:
            ended = self.home.run("thermal", "show", job_id, "--json")
            assert ended.code == 0, ended.stderr
            self._stories[job_id] = json.loads(ended.stdout)["story"]
        return self._stories[job_id]

    def raw(self, job_id: str) -> RawSoak:
        context = open_home(self.home.path)
        try:
            return read_soak(context, job_id)
        finally:
            context.engine.dispose()


@pytest.fixture(scope="module")
def hot() -> Iterator[HotLab]:
    try:
        needs.provide()
        ControlGroup("em-probe")
    except LabImpossible as error:
        pytest.skip(f"no lab can stand here: {error.message}")
    except NoControlGroups as error:
        pytest.skip(f"no plant can stand here: {error}")
    with make_home() as home:
        made = HotLab(home)
        try:
            made.up()
            yield made
        finally:
            ended = home.start("lab", "down", "--purge", "--devices", made.file).end(UP_DEADLINE_SECS)
            assert ended.code == 0, ended.stderr


@pytest.fixture(scope="module")
def soaked(hot: HotLab) -> dict[str, str]:
    """One soak on each device; its job by the device's name."""
    ended = hot.home.start("run", hot.spec("soaks", "label.lab == 'yes'"), "--no-report").end(RUN_DEADLINE_SECS)
    assert ended.code == 0, ended.stderr
    rows = hot.home.query("SELECT job.id, device.name FROM job JOIN device ON device.id = job.device_id")
    return {str(name): str(job_id) for job_id, name in rows}


@pytest.fixture(scope="module")
def throttled(hot: HotLab, soaked: dict[str, str]) -> dict[str, Any]:
    return hot.story(soaked["hot-pi"])


def test_a_device_that_gets_too_hot_throttles_and_the_soak_says_when(
    hot: HotLab, soaked: dict[str, str], throttled: dict[str, Any]
) -> None:
    raw, record = hot.raw(soaked["hot-pi"]), read_record(hot.lab["hot-pi"].plant)
    at_ns = record.throttled_at(raw.begin_ns, int(raw.end_ns[-1]))
    assert at_ns is not None
    truth = (at_ns - raw.begin_ns) / 1e9
    assert throttled["throttled"] is True
    assert throttled["onset"]["at_secs"] == pytest.approx(truth, abs=max(0.03 * truth, 2 / HERTZ))
    causes = {sign["cause"] for sign in throttled["onset"]["signs"]}
    assert {"firmware flag", "cooling device", "clock"} <= causes
    assert abs(throttled["onset"]["temperature_c"] - TRIP_C) < 5


def test_the_cpu_time_it_was_granted_is_what_the_plant_saw(hot: HotLab, soaked: dict[str, str], throttled: dict[str, Any]) -> None:
    raw, record = hot.raw(soaked["hot-pi"]), read_record(hot.lab["hot-pi"].plant)
    granted = record.granted_cores(raw.begin_ns, int(raw.end_ns[-1]))
    assert scalar(throttled, "granted_cpu_cores") == pytest.approx(granted, rel=0.01)


def test_what_was_left_of_its_speed_is_what_a_count_of_the_queries_gives(
    hot: HotLab, soaked: dict[str, str], throttled: dict[str, Any]
) -> None:
    raw, width = hot.raw(soaked["hot-pi"]), round(WINDOW_SECS * 1e9)
    last = raw.begin_ns + round(throttled["windows"][-1]["start_secs"] * 1e9)
    counted = raw.per_second(last, last + width) / raw.per_second(raw.begin_ns, raw.begin_ns + width)
    assert scalar(throttled, "sustained_burst") == pytest.approx(counted, rel=0.03)


def test_time_constants_that_are_offered_are_those_of_the_plant(hot: HotLab, throttled: dict[str, Any]) -> None:
    settings = hot.lab["hot-pi"].plant.settings
    fast, slow = settings.bodies.time_constants(settings.board_c_per_watt)
    for fit in throttled["fits"]:
        if fit["offered"]:
            found = [item["value"] for item in fit["tau_secs"]]
            assert found == pytest.approx([fast, slow] if fit["bodies"] == 2 else [slow], rel=0.1)
        else:
            assert fit["cause"]


def test_a_device_with_a_fan_does_not_throttle_and_is_said_not_to(hot: HotLab, soaked: dict[str, str]) -> None:
    story = hot.story(soaked["hot-fan"])
    assert story["throttled"] is False
    assert "did not throttle" in story["throttle_words"]
    record = read_record(hot.lab["hot-fan"].plant)
    assert record.level.max() == 0


def test_arithmetic_that_fails_with_heat_is_named_as_a_change_of_numbers_and_sound_arithmetic_never_is(
    hot: HotLab, soaked: dict[str, str]
) -> None:
    verdicts = {name: hot.story(job_id)["probe"]["verdict"] for name, job_id in soaked.items()}
    assert verdicts == {"hot-pi": "stable", "hot-fan": "stable", "hot-faulty": "changed"}
    changes = hot.story(soaked["hot-faulty"])["probe"]["changes"]
    assert [item["sample"] for item in changes] == list(range(8))
    assert min(item["temperature_c"] for item in changes) >= FAULTY_ABOVE_C - 5
    shown = hot.home.run("thermal", "show", soaked["hot-faulty"]).stdout
    assert "numbers changed" in shown


def test_a_soak_waits_until_the_device_is_cool_and_what_it_measured_survives_a_power_cut(hot: HotLab, soaked: dict[str, str]) -> None:
    machine = hot.lab["hot-pi"]
    gate = {"temperature_c": GATE_C, "tolerance_c": GATE_WIDTH_C, "slope_c_per_min": 300.0, "hold_secs": 1.0, "max_wait_secs": 120.0}
    spec = hot.spec("cut", "name == 'hot-pi'", start_gate=gate, duration_secs=60.0)
    command = hot.home.start("run", spec, "--no-report")
    spool = hot.home.wait_for(lambda: measuring(machine, command), "a soak at work")
    cut_at = spool.stat().st_size
    first = machine.first_pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    hot.home.wait_for(lambda: machine.first_pid() is None or None, "the device off")
    hot.up()
    command.end(RUN_DEADLINE_SECS)
    ((job_id, outcome),) = hot.home.query("SELECT id, outcome FROM job WHERE id NOT IN (?, ?, ?)", *soaked.values())
    assert outcome != "completed"
    story = hot.story(str(job_id))
    assert story["complete"] is False
    assert abs(story["start_c"] - GATE_C) < GATE_WIDTH_C + 3
    assert story["steady_secs"] > 3
    assert story["windows"]
    assert story["gaps"]
    assert cut_at > 0


def test_a_plant_that_died_is_started_again_under_its_device_by_the_next_up(hot: HotLab, soaked: dict[str, str]) -> None:
    machine = hot.lab["hot-fan"]
    before, plant = machine.first_pid(), machine.plant.pid()
    assert plant is not None
    os.kill(plant, signal.SIGKILL)
    hot.home.wait_for(lambda: machine.plant.pid() is None or None, "the plant dead")
    hot.up()
    assert machine.first_pid() == before
    assert machine.plant.pid() not in (None, plant)
    ended = hot.home.run("lab", "plant", "hot-fan", "--ambient", "35", "--rest", "--json")
    assert ended.code == 0, ended.stderr
    assert json.loads(ended.stdout)["ambient_c"] == 35.0
    seen = Path(f"/proc/{before}/root{machine.root}/sys/class/thermal/thermal_zone1/temp")
    assert int(seen.read_text()) == 35_000


def test_down_leaves_neither_a_plant_nor_a_control_group(hot: HotLab, soaked: dict[str, str]) -> None:
    plants = [machine.plant for machine in hot.lab.machines]
    assert all(plant.pid() is not None for plant in plants)
    groups = [path.parent for plant in plants for path in plant.group.entrances()]
    assert hot.home.run("lab", "down", "--devices", hot.file).code == 0
    assert [plant.pid() for plant in plants] == [None] * len(plants)
    assert not any(path.exists() for path in (*groups, *(plant.files for plant in plants)))


def measuring(machine: Machine, command: Command) -> Path | None:
    """The queries of a soak that is in its steady part for some seconds, as they grow on the device's disk."""
    assert command.running, command.end()
    folder = machine.folder / "upper" / "root" / "edgematrix-device" / "jobs"
    found = [path for path in folder.glob("*/queries.spool") if not (path.parent / "outcome.json").exists()]
    return found[0] if found and found[0].stat().st_size > 1_000_000 else None


def scalar(story: dict[str, Any], name: str) -> float:
    return float(next(item["value"] for item in story["scalars"] if item["name"] == name))
