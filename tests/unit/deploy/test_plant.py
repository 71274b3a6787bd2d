"""A plant without its process: a group whose use of the CPU the test decides, and files that the agent's own drivers read."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host import HostFiles
from agent.sensors import SENSORS
from agent.sensors.base import SensorContext
from deploy.lab.plant.board import Board
from deploy.lab.plant.journal import COLUMNS, Journal, earlier
from deploy.lab.plant.process import Plant
from deploy.lab.plant.settings import Control, FanStep, Settings, Trip

SECOND = 1_000_000_000
MADE_OF = Settings(
    device="board",
    board="linux",
    ambient_c=25.0,
    idle_watts=2.0,
    core_watts=3.0,
    die_tau_secs=2.0,
    board_tau_secs=60.0,
    die_c_per_watt=2.0,
    board_c_per_watt=12.0,
    trips=(Trip(88.0, 8.0, 0.7), Trip(96.0, 4.0, 0.5)),
    fan=(),
    max_khz=1_800_000,
    resolution_c=0.1,
    quota_period_ms=10.0,
    core=1,
    group="em-test",
    folder="",
    journal="",
)
FAN = (FanStep(60.0, 5.0, 6.0, 2500), FanStep(70.0, 5.0, 4.0, 5000))


class Worked:
    """A control group that has worked as much as the test says, no more than it is granted."""

    def __init__(self) -> None:
        self.ns = 0
        self.limits: list[tuple[float | None, int]] = []

    def usage_ns(self) -> int:
        return self.ns

    def limit(self, cores: float | None, period_us: int) -> None:
        self.limits.append((cores, period_us))

    @property
    def granted(self) -> float:
        return next((cores for cores, _ in self.limits[-1:] if cores is not None), 1.0)


class Bench:
    def __init__(self, folder: Path, made_of: Settings) -> None:
        host = folder / "host" / "devices" / "system" / "cpu"
        host.mkdir(parents=True)
        for name in ("possible", "present", "online"):
            (host / name).write_text("0-3\n")
        self.sys = folder / "sys"
        self.sys.mkdir()
        self.record = folder / "plant.csv"
        self.group = Worked()
        self.now = 0
        self.plant = Plant(made_of, Board(self.sys, made_of, folder / "host"), self.group, Journal(self.record), 0)
        self.run(0.02, busy=0.0)

    def run(self, secs: float, busy: float) -> None:
        """Let the time pass in steps of 20 ms, with so much of a core in use, or what is granted of it."""
        for _ in range(round(secs / 0.02)):
            self.now += SECOND // 50
            self.group.ns += round(min(busy, self.group.granted) * SECOND / 50)
            self.plant.step(self.now)

    def readings(self) -> dict[str, float]:
        """What the agent's drivers read, by channel."""
        found: dict[str, float] = {}
        for kind in SENSORS.values():
            sensor = kind(SensorContext(HostFiles(proc=self.sys / "no-proc", sys=self.sys, system=self.sys / "no-system"), os.getpid()))
            channels = sensor.probe()
            values = [math.nan] * len(channels)
            sensor.read_into(values, 0)
            sensor.close()
            found |= {channel.name: value for channel, value in zip(channels, values, strict=True)}
        return found

    def rows(self) -> list[dict[str, str]]:
        with self.record.open(newline="") as file:
            return list(csv.DictReader(file))


MakeBench = Callable[[Settings], Bench]


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    made: list[Bench] = []

    def make(made_of: Settings) -> Bench:
        made.append(Bench(tmp_path, made_of))
        return made[-1]

    yield make
    for bench in made:
        bench.plant.close()


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    return make_bench(MADE_OF)


def test_work_heats_it_until_it_throttles_and_then_it_is_granted_less(bench: Bench) -> None:
    assert bench.readings()["thermal.cpu_thermal_c"] == pytest.approx(53.0)
    bench.run(115.0, busy=1.0)
    assert bench.plant.ratio == 1.0
    bench.run(15.0, busy=1.0)
    assert bench.group.limits == [(None, 10_000), (0.7, 10_000)]
    now = bench.readings()
    assert now["cooling.cpufreq_cpu0_level"] == 1
    assert now["clock.policy0_khz"] == 1_260_000
    bench.run(600.0, busy=1.0)
    assert bench.plant.die_c == pytest.approx(25.0 + (2.0 + 3.0 * 0.7) * 14.0, abs=0.1)
    bench.run(600.0, busy=0.0)
    assert bench.group.limits[-1] == (None, 10_000)
    assert bench.plant.die_c == pytest.approx(53.0, abs=0.1)


def test_with_a_fan_the_same_work_does_not_throttle_it(make_bench: MakeBench) -> None:
    bench = make_bench(replace(MADE_OF, fan=FAN))
    bench.run(600.0, busy=1.0)
    assert bench.plant.ratio == 1.0
    now = bench.readings()
    assert now["cooling.pwm_fan_level"] == 1
    assert next(value for name, value in now.items() if name.endswith("_rpm")) == 2500
    bench.plant.obey(Control(number=1, faults=("fan-stop",)))
    bench.run(600.0, busy=1.0)
    assert bench.plant.ratio == 0.7
    assert next(value for name, value in bench.readings().items() if name.endswith("_rpm")) == 0


def test_another_air_moves_it_by_as_much(bench: Bench) -> None:
    bench.plant.obey(Control(number=1, ambient_c=35.0, rest=1))
    bench.run(0.02, busy=0.0)
    assert bench.plant.die_c == pytest.approx(63.0, abs=0.01)
    now = bench.readings()
    assert (now["ambient.ambient_c"], now["thermal.cpu_thermal_c"]) == (35.0, 63.0)


def test_a_stuck_sensor_goes_on_saying_the_same_while_the_plant_knows_better(bench: Bench) -> None:
    bench.plant.obey(Control(number=1, faults=("stuck-sensor",)))
    bench.run(60.0, busy=1.0)
    assert bench.readings()["thermal.cpu_thermal_c"] == 53.0
    assert bench.plant.die_c > 70.0


def test_a_zone_that_vanished_gives_no_number_to_who_holds_its_file_open_and_is_there_again_when_it_comes_back(bench: Bench) -> None:
    with (bench.sys / "class/thermal/thermal_zone0/temp").open("rb", buffering=0) as held:
        bench.plant.obey(Control(number=1, faults=("vanished-zone",)))
        bench.run(1.0, busy=1.0)
        assert held.read() == b""
        bench.plant.obey(Control(number=2))
        bench.run(1.0, busy=1.0)
        held.seek(0)
        assert int(held.read()) > 53_000


def test_the_pi_like_board_tells_throttling_and_under_voltage_now_and_since_boot(make_bench: MakeBench) -> None:
    bench = make_bench(replace(MADE_OF, board="raspberry-pi"))
    bench.plant.obey(Control(number=1, faults=("under-voltage",)))
    bench.run(1.0, busy=0.0)
    now = bench.readings()
    assert (now["under_voltage.firmware"], now["sticky.under_voltage"], now["throttled.firmware"]) == (1, 1, 0)
    bench.plant.obey(Control(number=2))
    bench.run(200.0, busy=1.0)
    now = bench.readings()
    assert (now["under_voltage.firmware"], now["sticky.under_voltage"], now["throttled.firmware"]) == (0, 1, 1)


def test_the_jetson_like_board_tells_its_power_and_counts_what_its_supply_did(make_bench: MakeBench) -> None:
    bench = make_bench(replace(MADE_OF, board="jetson"))
    bench.run(1.0, busy=1.0)
    now = bench.readings()
    assert now["power.board_mw"] == pytest.approx(5000, abs=5)
    assert now["over_current.oc1_events"] == 0
    bench.plant.obey(Control(number=1, faults=("under-voltage",)))
    bench.run(1.0, busy=1.0)
    assert bench.readings()["over_current.oc1_events"] == 1


def test_its_record_holds_the_moment_of_throttling_to_a_step(bench: Bench) -> None:
    bench.run(130.0, busy=1.0)
    rows = bench.rows()
    assert tuple(rows[0]) == COLUMNS
    first = next(row for row in rows if row["level"] == "1")
    assert 88.0 <= float(first["die_c"]) < 88.01
    assert float(rows[rows.index(first) - 1]["die_c"]) < 88.0


def test_its_record_is_bounded(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "plant.csv", max_bytes=2000)
    for number in range(1000):
        journal.note(number, *[1.5] * (len(COLUMNS) - 1))
    journal.close()
    assert max((tmp_path / "plant.csv").stat().st_size, earlier(tmp_path / "plant.csv").stat().st_size) < 2200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plant.csv", "plant.csv.1"]
    assert (tmp_path / "plant.csv").read_text().startswith("time_ns,")
