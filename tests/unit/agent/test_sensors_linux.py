"""What any Linux tells: zones that move and fail, monitors, stalls, and the CPU time a control group was granted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sensor_boards import FIXTURES, Board, read, readings

from agent.host import HostFiles
from agent.protocol import QUANTITIES
from agent.sensors import SENSORS, THERMAL_SENSORS, SensorContext
from agent.sensors.hwmon import HardwareMonitors
from agent.sensors.linux import CoolingDevices, CpuClocks, ThermalZones
from agent.sensors.load import ControlGroup, HostLoad, Pressure, RunnerTime
from agent.sensors.power_supply import PowerSupply

TREES = sorted(path.stem for path in FIXTURES.glob("*.tree"))
THERMAL = "sys/class/thermal"


def zone(board: Board, number: int, kind: str, millidegrees: str) -> None:
    board.write(f"{THERMAL}/thermal_zone{number}/type", f"{kind}\n")
    board.write(f"{THERMAL}/thermal_zone{number}/temp", f"{millidegrees}\n")


# --- every board ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tree", TREES)
def test_every_channel_of_every_board_has_a_name_of_its_own_a_known_quantity_a_unit_and_a_source(tmp_path: Path, tree: str) -> None:
    names = []
    for kind in SENSORS.values():
        sensor = kind(Board(tmp_path, tree).context(os.getpid()))
        for channel in sensor.probe():
            names.append(channel.name)
            assert channel.quantity in QUANTITIES
            assert channel.quantity != "other", channel.name
            assert channel.unit
            assert channel.source
        sensor.close()
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("tree", TREES)
def test_no_sensor_of_any_board_reports_zero_for_what_it_could_not_read(tmp_path: Path, tree: str) -> None:
    board = Board(tmp_path, tree)
    sensors = [kind(board.context(2**22 + 1)) for kind in SENSORS.values()]
    counts = [len(sensor.probe()) for sensor in sensors]
    for path in (path for path in board.root.rglob("*") if path.is_file()):
        path.write_text("")
    for sensor, count in zip(sensors, counts):  # noqa: B905 (Python 3.9 has no strict)
        assert np.isnan(readings(sensor, count)).all()
        sensor.close()


@pytest.mark.parametrize("damage", ["NaN", "-1", "9" * 2000, "\x00\ufffd", "some total=\nthrottled=0x\n", "\n" * 500])
@pytest.mark.parametrize("tree", TREES)
def test_no_damaged_file_of_any_board_stops_a_run(tmp_path: Path, tree: str, damage: str) -> None:
    board = Board(tmp_path, tree)
    for path in [path for path in (board.root / "sys").rglob("*") if path.is_file() and path.name not in ("type", "name")]:
        path.write_text(damage)
    for name in ("proc/pressure/cpu", "sys/fs/cgroup/cpu.stat", "proc/self/cgroup"):
        board.write(name, damage)
    for kind in SENSORS.values():
        sensor = kind(board.context(2**22 + 1))
        channels = sensor.probe()
        assert len(readings(sensor, len(channels))) == len(channels), "nothing is written beyond the sensor's own channels"
        sensor.close()


def test_the_sensors_worth_asking_before_a_run_are_those_of_heat_fans_and_batteries(tmp_path: Path) -> None:
    board = Board(tmp_path, "laptop")
    told = {channel.quantity for name in THERMAL_SENSORS for channel in SENSORS[name](board.context()).probe()}
    assert {"temperature", "fan_speed", "share"} <= told
    assert not any(SENSORS[name] in (HostLoad, RunnerTime) for name in THERMAL_SENSORS)


# --- zones ---------------------------------------------------------------------------------------------------


def test_zones_of_one_type_are_numbered_and_the_air_around_is_told_apart(tmp_path: Path) -> None:
    assert read(ThermalZones(Board(tmp_path, "laptop").context())) == {
        "thermal.acpitz_c": pytest.approx(27.8),
        "thermal.x86_pkg_temp_c": 47.0,
        "thermal.x86_pkg_temp2_c": 48.0,
        "ambient.board_ambient_c": 23.5,
    }


def test_a_zone_that_answers_einval_is_a_gap_and_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(tmp_path)
    zone(board, 0, "modem", "30000")
    zone(board, 1, "cpu", "50000")
    sensor = ThermalZones(board.context())
    sensor.probe()
    answers = iter([OSError(errno.EINVAL, os.strerror(errno.EINVAL))])
    real = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        for answer in answers:
            raise answer
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    first = readings(sensor, 2)
    assert np.isnan(first[0])
    assert first[1] == 50.0
    assert readings(sensor, 2) == [30.0, 50.0]
    sensor.close()


def test_a_zone_that_fails_from_the_start_says_why_and_hides_no_other(tmp_path: Path) -> None:
    board = Board(tmp_path)
    zone(board, 0, "modem", "")
    zone(board, 1, "cpu", "50000")
    sensor = ThermalZones(board.context())
    bad, good = sensor.probe()
    sensor.close()
    assert "first reading failed" in (bad.error or "")
    assert good.error is None
    found = read(ThermalZones(board.context()))
    assert np.isnan(found["thermal.modem_c"])
    assert found["thermal.cpu_c"] == 50.0


def test_a_zone_that_vanishes_is_a_gap_and_is_found_again_under_another_number(tmp_path: Path) -> None:
    board = Board(tmp_path)
    zone(board, 0, "cpu-thermal", "50000")
    sensor = ThermalZones(board.context())
    sensor.probe()
    board.remove(f"{THERMAL}/thermal_zone0/temp")
    board.remove(f"{THERMAL}/thermal_zone0/type")
    assert np.isnan([readings(sensor, 1)[0] for _ in range(50)]).all()
    zone(board, 7, "cpu-thermal", "61000")
    values = [readings(sensor, 1)[0] for _ in range(50)]
    assert values[-1] == 61.0
    sensor.close()


def test_another_zone_that_takes_the_number_of_a_vanished_one_is_not_taken_for_it(tmp_path: Path) -> None:
    board = Board(tmp_path)
    zone(board, 0, "cpu-thermal", "50000")
    sensor = ThermalZones(board.context())
    sensor.probe()
    board.remove(f"{THERMAL}/thermal_zone0/temp")
    board.remove(f"{THERMAL}/thermal_zone0/type")
    zone(board, 0, "wifi", "33000")
    assert np.isnan([readings(sensor, 1)[0] for _ in range(50)]).all()
    sensor.close()


def test_of_two_zones_of_one_type_the_one_that_stays_is_not_taken_for_the_one_that_vanished(tmp_path: Path) -> None:
    board = Board(tmp_path)
    zone(board, 0, "cpu-thermal", "71000")
    zone(board, 1, "cpu-thermal", "45000")
    sensor = ThermalZones(board.context())
    sensor.probe()
    board.remove(f"{THERMAL}/thermal_zone0/temp")
    board.remove(f"{THERMAL}/thermal_zone0/type")
    told = np.array([readings(sensor, 2) for _ in range(50)])
    assert np.isnan(told[:, 0]).all()
    assert (told[:, 1] == 45.0).all()
    zone(board, 7, "cpu-thermal", "61000")
    assert [readings(sensor, 2) for _ in range(50)][-1] == [61.0, 45.0]
    sensor.close()


def test_cooling_devices_tell_their_level(tmp_path: Path) -> None:
    assert read(CoolingDevices(Board(tmp_path, "laptop").context())) == {"cooling.processor_level": 0.0, "cooling.processor2_level": 2.0}


def test_a_measured_clock_that_falls_silent_is_no_requested_one(tmp_path: Path) -> None:
    board = Board(tmp_path)
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    board.write(f"{policy}/scaling_cur_freq", "1800000")
    board.write(f"{policy}/cpuinfo_cur_freq", "600000")
    sensor = CpuClocks(board.context())
    sensor.probe()
    assert readings(sensor, 1) == [600000.0]
    board.remove(f"{policy}/cpuinfo_cur_freq")
    assert np.isnan([readings(sensor, 1)[0] for _ in range(50)]).all()
    sensor.close()


def test_a_clock_that_is_only_the_request_says_so_and_a_measured_one_does_not(tmp_path: Path) -> None:
    board = Board(tmp_path)
    folder = "sys/devices/system/cpu/cpufreq"
    board.write(f"{folder}/policy0/scaling_cur_freq", "1800000")
    board.write(f"{folder}/policy0/cpuinfo_cur_freq", "600000")
    board.write(f"{folder}/policy4/scaling_cur_freq", "2400000")
    measured, requested = CpuClocks(board.context()).probe()
    assert measured.caution is None
    assert "asked for" in (requested.caution or "")


# --- monitors and batteries ----------------------------------------------------------------------------------


def test_monitors_give_celsius_millivolts_milliamperes_milliwatts_and_revolutions(tmp_path: Path) -> None:
    assert read(HardwareMonitors(Board(tmp_path, "laptop").context())) == {
        "hwmon.nct6775.vcore_mv": 1096.0,
        "hwmon.nct6775.cputin_c": pytest.approx(38.85),
        "hwmon.nct6775.curr1_ma": 640.0,
        "fan.nct6775_fan2_rpm": 871.0,
        "hwmon.power_meter.power1_mw": 2500.0,
    }


def test_the_battery_is_the_machines_own_and_not_the_mouses(tmp_path: Path) -> None:
    assert read(PowerSupply(Board(tmp_path, "laptop").context())) == {
        "power.board_mw": 9876.0,
        "voltage.battery_mv": 11400.0,
        "battery.level_percent": 64.0,
        "battery.charging": 0.0,
    }


# --- counters ------------------------------------------------------------------------------------------------


def test_stalls_are_counted_in_seconds(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for kind, total in (("cpu", 5978135904), ("memory", 0), ("io", 1500000)):
        lines = f"some avg10=2.55 avg60=0.87 avg300=0.92 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=77\n"
        board.write(f"proc/pressure/{kind}", lines)
    assert read(Pressure(board.context())) == {
        "pressure.cpu_some_secs": pytest.approx(5978.135904),
        "pressure.memory_some_secs": 0.0,
        "pressure.io_some_secs": 1.5,
    }


def test_a_kernel_without_stall_accounting_has_no_such_channels(tmp_path: Path) -> None:
    assert read(Pressure(Board(tmp_path).context())) == {}


V1_STAT = "nr_periods 298\nnr_throttled 296\nthrottled_time 2134006942\nnr_bursts 0\nburst_time 0\n"
V2_STAT = "usage_usec 1500000\nuser_usec 1\nsystem_usec 2\nnr_periods 5\nnr_throttled 3\nthrottled_usec 250000\n"


def test_version_1_groups_tell_granted_and_withheld_time_in_two_places(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/self/cgroup", "9:name=systemd:/\n2:cpuacct:/lab/one\n1:cpu:/lab/one\n0::/\n")
    board.write("sys/fs/cgroup/cpuacct/lab/one/cpuacct.usage", "890595106\n")
    board.write("sys/fs/cgroup/cpu/lab/one/cpu.stat", V1_STAT)
    board.write("sys/fs/cgroup/cpuacct/cpuacct.usage", "99999999999999\n")
    board.write("sys/fs/cgroup/cpu/cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")
    assert read(ControlGroup(board.context())) == {
        "cgroup.cpu_secs": pytest.approx(0.890595106),
        "cgroup.throttled_secs": pytest.approx(2.134006942),
    }


def test_version_1_controllers_that_share_a_folder_are_found(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/self/cgroup", "4:cpu,cpuacct:/user.slice\n")
    board.write("sys/fs/cgroup/cpu,cpuacct/user.slice/cpuacct.usage", "1000000000\n")
    board.write("sys/fs/cgroup/cpu,cpuacct/user.slice/cpu.stat", V1_STAT)
    assert read(ControlGroup(board.context())) == {"cgroup.cpu_secs": 1.0, "cgroup.throttled_secs": pytest.approx(2.134006942)}


def test_version_2_groups_tell_both_in_one(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/self/cgroup", "0::/system.slice/agent.service\n")
    board.write("sys/fs/cgroup/system.slice/agent.service/cpu.stat", V2_STAT)
    assert read(ControlGroup(board.context())) == {"cgroup.cpu_secs": 1.5, "cgroup.throttled_secs": 0.25}


def test_version_2_without_the_cpu_controller_tells_the_time_and_no_quota(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/self/cgroup", "0::/a\n")
    board.write("sys/fs/cgroup/a/cpu.stat", "usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n")
    assert read(ControlGroup(board.context())) == {"cgroup.cpu_secs": 1.5}


@pytest.mark.parametrize("own", ["1:cpu:/docker/abc\n2:cpuacct:/docker/abc\n", "1:cpu:/\n2:cpuacct:/\n"])
def test_where_the_groups_path_is_not_visible_its_top_is_the_group(tmp_path: Path, own: str) -> None:
    board = Board(tmp_path)
    board.write("proc/self/cgroup", own)
    board.write("sys/fs/cgroup/cpu/cpu.stat", V1_STAT)
    board.write("sys/fs/cgroup/cpuacct/cpuacct.usage", "890595106\n")
    assert read(ControlGroup(board.context())) == {
        "cgroup.cpu_secs": pytest.approx(0.890595106),
        "cgroup.throttled_secs": pytest.approx(2.134006942),
    }


def test_version_2_hidden_behind_a_namespace_is_found_at_its_top(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/self/cgroup", "0::/../../elsewhere\n")
    board.write("sys/fs/cgroup/cpu.stat", V2_STAT)
    assert read(ControlGroup(board.context())) == {"cgroup.cpu_secs": 1.5, "cgroup.throttled_secs": 0.25}


def test_the_whole_machines_group_is_nobodys_own(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/self/cgroup", "0::/\n")
    board.write("sys/fs/cgroup/cpu.stat", V2_STAT)
    board.write("sys/fs/cgroup/cgroup.controllers", "cpu io\n")
    assert read(ControlGroup(board.context())) == {}
    board.write("sys/fs/cgroup/cgroup.type", "domain\n")
    assert read(ControlGroup(board.context()))["cgroup.cpu_secs"] == 1.5, "the top that a container sees is its own group"


def test_the_whole_machines_group_of_version_1_is_nobodys_own_either(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/self/cgroup", "2:cpuacct:/\n1:cpu:/\n0::/user.slice\n")
    for controller, file, text in (("cpu", "cpu.stat", V1_STAT), ("cpuacct", "cpuacct.usage", "890595106\n")):
        board.write(f"sys/fs/cgroup/{controller}/{file}", text)
        board.write(f"sys/fs/cgroup/{controller}/release_agent", "\n")
    assert read(ControlGroup(board.context())) == {}
    board.write("sys/fs/cgroup/unified/user.slice/cpu.stat", "usage_usec 1500000\n")
    assert read(ControlGroup(board.context())) == {"cgroup.cpu_secs": 1.5}, "version 2 beside it knows the group"


def test_the_runners_cpu_time_counts_all_of_its_threads() -> None:
    code = (
        "import threading, time\n"
        "def spin():\n"
        "    end = time.thread_time() + 0.2\n"
        "    while time.thread_time() < end: pass\n"
        "threads = [threading.Thread(target=spin) for _ in range(3)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(time.process_time(), flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        own = float(process.stdout.readline())
        sensor = RunnerTime(SensorContext(HostFiles(), process.pid))
        (channel,) = sensor.probe()
        assert (channel.error, channel.quantity, channel.unit) == (None, "counter", "s")
        (value,) = readings(sensor, 1)
        process.communicate("\n")
    assert own >= 0.6
    assert own <= value < own + 0.5, "since its own reading it has done next to nothing"
    deadline = time.monotonic() + 20
    while not np.isnan(readings(sensor, 1)).all():
        assert time.monotonic() < deadline, "a process that is gone has no CPU time"


def test_a_runner_that_never_was_has_no_cpu_time(tmp_path: Path) -> None:
    sensor = RunnerTime(Board(tmp_path).context(2**22 + 1))
    (channel,) = sensor.probe()
    assert "cannot be read" in (channel.error or "")
    assert np.isnan(readings(sensor, 1)).all()
