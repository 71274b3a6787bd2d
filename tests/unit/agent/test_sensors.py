"""Telemetry reads what a board tells, by names that survive a reboot, and no failing sensor ever stops a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.host import HostFiles
from agent.sensors import MISSING, SENSORS, Sensor, SensorContext
from agent.sensors.hwmon import HardwareMonitors
from agent.sensors.linux import CoolingDevices, CpuClocks, ThermalZones
from agent.sensors.load import HostLoad
from agent.telemetry import Sampler

SECOND = 1_000_000_000


def write(tree: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # In place, as the kernel's files change: a descriptor that is held open sees it.
        with open(path, "w") as file:
            file.write(text)


def read(sensor: Sensor) -> dict[str, float]:
    channels = sensor.probe()
    values = [MISSING] * len(channels)
    sensor.read_into(values, 0)
    return {channel.name: value for channel, value in zip(channels, values)}  # noqa: B905 (Python 3.9 has no strict)


@pytest.fixture
def context(tmp_path: Path) -> SensorContext:
    return SensorContext(HostFiles(proc=tmp_path / "proc", sys=tmp_path / "sys", etc=tmp_path / "etc"), 42)


def test_thermal_zones_go_by_their_type_and_not_by_their_number(context: SensorContext) -> None:
    thermal = {
        "thermal_zone10/type": "GPU-therm\n",
        "thermal_zone10/temp": "48812\n",
        "thermal_zone2/type": "cpu-thermal",
        "thermal_zone2/temp": "51000",
    }
    cooling = {"cooling_device0/type": "pwm-fan\n", "cooling_device0/cur_state": "3\n"}
    write(context.host.sys / "class" / "thermal", {**thermal, **cooling})
    assert read(ThermalZones(context)) == {"thermal.cpu_thermal_c": 51.0, "thermal.gpu_therm_c": pytest.approx(48.812)}
    assert read(CoolingDevices(context)) == {"cooling.pwm_fan_level": 3.0}


def test_two_zones_of_one_type_are_two_channels(context: SensorContext) -> None:
    zones = {f"thermal_zone{n}/{name}": text for n in (0, 1) for name, text in (("type", "x86_pkg_temp"), ("temp", f"{40 + n}000"))}
    write(context.host.sys / "class" / "thermal", zones)
    assert read(ThermalZones(context)) == {"thermal.x86_pkg_temp_c": 40.0, "thermal.x86_pkg_temp2_c": 41.0}


def test_a_block_that_is_off_has_no_temperature(context: SensorContext) -> None:
    write(context.host.sys / "class" / "thermal", {"thermal_zone0/type": "CV0", "thermal_zone0/temp": "-256000"})
    assert np.isnan(read(ThermalZones(context))["thermal.cv0_c"])


def test_a_clock_is_what_the_hardware_says_where_that_can_be_read(context: SensorContext) -> None:
    folder = context.host.sys / "devices" / "system" / "cpu" / "cpufreq"
    write(folder, {"policy0/scaling_cur_freq": "1800000", "policy0/cpuinfo_cur_freq": "600000", "policy4/scaling_cur_freq": "2400000"})
    sensor = CpuClocks(context)
    sources = {channel.name: channel.source for channel in sensor.probe()}
    assert sources["clock.policy0_khz"].endswith("cpuinfo_cur_freq")
    assert sources["clock.policy4_khz"].endswith("scaling_cur_freq")
    assert read(CpuClocks(context)) == {"clock.policy0_khz": 600000.0, "clock.policy4_khz": 2400000.0}


def test_hardware_monitors_give_celsius_and_milliwatts(context: SensorContext) -> None:
    chip = {"name": "nvme", "temp1_input": "38850", "temp1_label": "Composite", "power1_input": "2500000"}
    write(context.host.sys / "class" / "hwmon" / "hwmon3", chip)
    assert read(HardwareMonitors(context)) == {"hwmon.nvme.composite_c": pytest.approx(38.85), "hwmon.nvme.power1_mw": 2500.0}


def stat_line(busy: int, idle: int) -> str:
    return f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3 4\nintr 5\n"


def process_line(ticks: int, rss_pages: int) -> str:
    fields = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 8, str(rss_pages), "0"]
    return f"42 (a ) name) {' '.join(fields)}\n"


def test_load_is_the_share_of_all_cpus_since_the_reading_before(context: SensorContext) -> None:
    meminfo = "MemTotal: 4000000 kB\nMemFree: 1 kB\nMemAvailable:    2000000 kB\n"
    write(context.host.proc, {"stat": stat_line(1000, 9000), "meminfo": meminfo, "42/stat": process_line(100, 10)})
    sensor = HostLoad(context)
    names = [channel.name for channel in sensor.probe()]
    write(context.host.proc, {"stat": stat_line(1060, 9140), "42/stat": process_line(150, 20)})
    values = [MISSING] * 4
    sensor.read_into(values, 0)
    found = dict(zip(names, values))  # noqa: B905 (Python 3.9 has no strict)
    assert found["cpu_busy_percent"] == pytest.approx(30.0)
    assert found["runner_cpu_percent"] == pytest.approx(25.0)
    assert found["memory_available_mb"] == pytest.approx(2048.0)
    assert found["runner_rss_mb"] == pytest.approx(20 * os.sysconf("SC_PAGE_SIZE") / 1e6)
    sensor.close()


@pytest.mark.parametrize("damage", ["", "garbage", "cpu \n", "\x00\xff"])
def test_damaged_kernel_files_are_missing_readings(context: SensorContext, damage: str) -> None:
    write(context.host.proc, {"stat": damage, "meminfo": damage, "42/stat": damage})
    write(context.host.sys / "class" / "thermal", {"thermal_zone0/type": "cpu", "thermal_zone0/temp": damage})
    for kind in (HostLoad, ThermalZones):
        assert all(np.isnan(value) for value in read(kind(context)).values())


def test_a_machine_without_sensors_has_no_channels_but_says_why_load_cannot_be_read(context: SensorContext) -> None:
    for kind in (ThermalZones, CpuClocks, HardwareMonitors):
        assert read(kind(context)) == {}
    assert all(channel.error for channel in HostLoad(context).probe())


def test_every_sensor_of_the_table_works_on_the_machine_that_runs_this_test() -> None:
    for kind in SENSORS.values():
        sensor = kind(SensorContext(HostFiles(), os.getpid()))
        values = [MISSING] * len(sensor.probe())
        sensor.read_into(values, 0)
        sensor.close()
    busy = HostLoad(SensorContext(HostFiles(), os.getpid()))
    assert [channel.error for channel in busy.probe()] == [None] * 4


class Blocks:
    """Keeps what a spool would get."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def write(self, columns: Mapping[str, Any]) -> None:
        self.rows += zip(columns["time_ns"].tolist(), columns["sensor"].tolist(), columns["value"].tolist())  # noqa: B905 (Python 3.9 has no strict)


def zone(context: SensorContext, number: int, millidegrees: str) -> None:
    write(context.host.sys / "class" / "thermal", {f"thermal_zone{number}/type": f"z{number}", f"thermal_zone{number}/temp": millidegrees})


def test_readings_keep_their_grid_and_a_late_one_is_told_and_not_made_up_for(context: SensorContext) -> None:
    zone(context, 0, "40000")
    blocks = Blocks()
    sampler = Sampler([ThermalZones(context)], 10.0, blocks, 0)
    assert sampler.next_due_ns() == 0
    assert sampler.sample(0) == 0
    zone(context, 0, "41000")
    assert sampler.sample(SECOND // 20) == 0, "nothing is due in between"
    assert sampler.sample(SECOND // 10 + 7) == 0
    assert sampler.sample(SECOND) == pytest.approx(0.8)
    assert sampler.next_due_ns() == SECOND + SECOND // 10
    sampler.flush(SECOND)
    assert blocks.rows == [(0, 0, 40.0), (SECOND // 10 + 7, 0, 41.0), (SECOND, 0, 41.0)]


def test_a_failing_reading_has_no_row_and_is_counted(context: SensorContext) -> None:
    zone(context, 0, "40000")
    zone(context, 1, "driver says EINVAL")
    blocks = Blocks()
    sampler = Sampler([ThermalZones(context)], 1.0, blocks, 0)
    sampler.sample(0)
    zone(context, 0, "")
    sampler.sample(SECOND)
    sampler.flush(SECOND)
    assert blocks.rows == [(0, 0, 40.0)]
    good, bad = sampler.channels()
    assert (good.error, good.readings, good.missing) == (None, 2, 1)
    assert (bad.readings, bad.missing) == (2, 2)
    assert bad.error is not None


def test_rows_reach_the_spool_within_seconds_of_a_run_that_may_die(context: SensorContext) -> None:
    zone(context, 0, "40000")
    blocks = Blocks()
    sampler = Sampler([ThermalZones(context)], 10.0, blocks, 0)
    for tenth in range(21):
        sampler.sample(tenth * SECOND // 10)
    assert len(blocks.rows) == 21


def test_a_rate_of_zero_reads_nothing(context: SensorContext) -> None:
    zone(context, 0, "40000")
    sampler = Sampler([ThermalZones(context)], 0.0, Blocks(), 0)
    assert sampler.channels() == []
    assert sampler.next_due_ns() > 10**18


def test_closing_gives_every_descriptor_back(context: SensorContext) -> None:
    zone(context, 0, "40000")
    before = len(os.listdir("/proc/self/fd"))
    sampler = Sampler([ThermalZones(context), HostLoad(SensorContext(HostFiles(), os.getpid()))], 10.0, Blocks(), 0)
    assert len(os.listdir("/proc/self/fd")) == before + 4
    sampler.close()
    assert len(os.listdir("/proc/self/fd")) == before
