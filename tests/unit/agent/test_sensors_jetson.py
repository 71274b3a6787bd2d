"""A Jetson tells its power in the layout of its JetPack, its zones with their oddities, and slowdowns that are not of heat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sensor_boards import FIXTURES, Board, read, read_until, readings

from agent.sensors.hwmon import HardwareMonitors
from agent.sensors.jetson import GpuClock, JetsonPower, OverCurrent
from agent.sensors.linux import ThermalZones
from agent.sensors.tegrastats import parse_line


def test_up_to_jetpack_4_the_chip_gives_power_and_the_boards_input_is_one_of_its_rails(tmp_path: Path) -> None:
    assert read(JetsonPower(Board(tmp_path, "jetson-nano-jetpack4").context())) == {
        "power.pom_5v_in_mw": 933.0,
        "power.pom_5v_gpu_mw": 0.0,
        "power.pom_5v_cpu_mw": 84.0,
        "power.board_mw": 933.0,
    }


def test_from_jetpack_5_power_is_voltage_times_current_and_shunts_are_no_rails(tmp_path: Path) -> None:
    found = read(JetsonPower(Board(tmp_path, "jetson-xavier-nx-jetpack5").context()))
    assert {name for name in found if name.startswith("power.")} == {
        *("power.vdd_in_mw", "power.vdd_cpu_gpu_cv_mw", "power.vdd_soc_mw", "power.board_mw"),
    }
    assert found["power.vdd_in_mw"] == found["power.board_mw"] == pytest.approx(5026.56)
    assert (found["voltage.vdd_soc_mv"], found["current.vdd_soc_ma"]) == (4920.0, 250.0)


def test_without_an_input_rail_the_board_is_the_sum_of_two_chips_and_says_so(tmp_path: Path) -> None:
    board = Board(tmp_path, "jetson-agx-orin-jetpack6")
    channels = {channel.name: channel for channel in JetsonPower(board.context()).probe()}
    assert "sum" in (channels["power.board_mw"].caution or "")
    found = read(JetsonPower(board.context()))
    assert {name for name in found if name.startswith("power.")} == {
        *("power.vdd_gpu_soc_mw", "power.vdd_cpu_cv_mw", "power.vin_sys_5v0_mw", "power.vddq_vdd2_1v8ao_mw", "power.board_mw"),
    }, "what is not connected or switched off is no rail"
    assert found["power.board_mw"] == pytest.approx(2400 + 800 + 3500 + 600)


def test_the_sum_is_missing_when_one_of_its_rails_is(tmp_path: Path) -> None:
    board = Board(tmp_path, "jetson-agx-orin-jetpack6")
    sensor = JetsonPower(board.context())
    names = [channel.name for channel in sensor.probe()]
    board.write("sys/bus/i2c/devices/1-0041/hwmon/hwmon3/curr2_input", "")
    found = dict(zip(names, readings(sensor, len(names))))  # noqa: B905 (Python 3.9 has no strict)
    sensor.close()
    assert np.isnan(found["power.vddq_vdd2_1v8ao_mw"])
    assert np.isnan(found["power.board_mw"])
    assert found["power.vin_sys_5v0_mw"] == 3500.0


def test_the_chip_is_found_where_only_the_class_of_monitors_shows_it(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for name, text in {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "800"}.items():
        board.write(f"sys/class/hwmon/hwmon1/{name}", text)
    assert read(JetsonPower(board.context()))["power.board_mw"] == 4000.0


def test_the_general_monitor_driver_leaves_jetsons_chips_alone(tmp_path: Path) -> None:
    assert read(HardwareMonitors(Board(tmp_path, "jetson-xavier-nx-jetpack5").context())) == {}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("jetson-nano-jetpack4", {"thermal.ao_therm_c": 31.5, "thermal.cpu_therm_c": 23.0, "thermal.pmic_die_c": None}),
        ("jetson-xavier-nx-jetpack5", {"thermal.cpu_therm_c": 41.437, "thermal.cv0_therm_c": None}),
        ("jetson-agx-orin-jetpack6", {"thermal.cpu_thermal_c": 41.437, "thermal.tj_thermal_c": 41.656}),
    ],
)
def test_zones_that_are_off_and_placeholders_are_gaps_in_every_generation(tmp_path: Path, tree: str, expected: dict[str, float]) -> None:
    sensor = ThermalZones(Board(tmp_path, tree).context())
    errors = {channel.name for channel in sensor.probe() if channel.error}
    sensor.close()
    assert errors == {name for name, value in expected.items() if value is None}, "a zone that told nothing says why"
    found = read(ThermalZones(Board(tmp_path, tree).context()))
    assert {name: None if np.isnan(value) else pytest.approx(value) for name, value in found.items()} == expected


def test_the_power_chips_zone_is_left_out_with_a_caution_and_real_values_of_it_are_not(tmp_path: Path) -> None:
    board = Board(tmp_path, "jetson-nano-jetpack4")
    sensor = ThermalZones(board.context())
    channels = sensor.probe()
    index = [channel.name for channel in channels].index("thermal.pmic_die_c")
    assert "placeholder" in (channels[index].caution or "")
    board.write("sys/class/thermal/thermal_zone4/temp", "47500\n")
    assert readings(sensor, len(channels))[index] == 47.5
    sensor.close()


def test_a_processor_at_one_hundred_degrees_is_believed(tmp_path: Path) -> None:
    board = Board(tmp_path, "jetson-nano-jetpack4")
    board.write("sys/class/thermal/thermal_zone1/temp", "100000\n")
    assert read(ThermalZones(board.context()))["thermal.cpu_therm_c"] == 100.0


@pytest.mark.parametrize(
    ("tree", "kilohertz"),
    [("jetson-nano-jetpack4", 76800.0), ("jetson-xavier-nx-jetpack5", 1109250.0), ("jetson-agx-orin-jetpack6", 306000.0)],
)
def test_the_graphics_clock_is_found_by_each_generations_name(tmp_path: Path, tree: str, kilohertz: float) -> None:
    assert read(GpuClock(Board(tmp_path, tree).context())) == {"clock.gpu_khz": kilohertz}


def test_a_memory_bus_is_no_graphics_clock(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("sys/class/devfreq/1d84000.qcom,gpubw/cur_freq", "1")
    board.write("sys/class/devfreq/3d00000.qcom,kgsl-3d0/cur_freq", "587000000")
    assert read(GpuClock(board.context())) == {"clock.gpu_khz": 587000.0}


def test_over_current_events_are_counted_since_boot(tmp_path: Path) -> None:
    board = Board(tmp_path, "jetson-xavier-nx-jetpack5")
    channels = OverCurrent(board.context()).probe()
    assert {channel.quantity for channel in channels} == {"counter"}
    assert all("not one of heat" in (channel.caution or "") for channel in channels)
    assert read(OverCurrent(board.context())) == {
        "over_current.oc1_events": 0.0,
        "over_current.oc2_events": 17.0,
        "over_current.oc3_events": 3.0,
    }


# --- tegrastats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generation", "power", "thermal", "clock"),
    [
        (
            "nano",
            {"pom_5v_in": 933, "pom_5v_gpu": 0, "pom_5v_cpu": 84},
            {"pll": 20.5, "cpu": 23.0, "gpu": 23.5, "ao": 31.0, "thermal": 23.25},
            None,
        ),
        (
            "xavier",
            {"gpu": 1155, "cpu": 385, "soc": 2502, "cv": 0, "vddrq": 577, "sys5v": 2692},
            {"ao": 28.5, "gpu": 28.0, "tdiode": 31.25, "aux": 28.0, "cpu": 29.5, "thermal": 28.4, "tboard": 29.0},
            1377000,
        ),
        (
            "orin",
            {"vdd_gpu_soc": 2390, "vdd_cpu_cv": 0, "vin_sys_5v0": 3522, "vddq_vdd2_1v8ao": 503},
            {"cpu": 41.437, "tboard": 33.0, "soc2": 38.25, "tdiode": 33.5, "soc0": 38.781, "tj": 41.656, "soc1": 38.062},
            0,
        ),
        (
            "jetpack7",
            {"vdd_gpu_soc": 5139, "vdd_cpu_soc_mss": 6718, "vin_sys_5v0": 4990},
            {"cpu": 52.968, "tj": 53.281, "soc012": 51.968},
            1300000,
        ),
    ],
)
def test_lines_of_every_generation_are_understood(
    generation: str, power: dict[str, float], thermal: dict[str, float], clock: float | None
) -> None:
    expected = {f"power.{rail}_mw": float(value) for rail, value in power.items()}
    expected.update({f"thermal.{zone}_c": value for zone, value in thermal.items()})
    if clock is not None:
        expected["clock.gpu_khz"] = float(clock)
    assert parse_line((FIXTURES / f"tegrastats-{generation}.txt").read_text()) == expected


def stats(board: Board, generation: str) -> None:
    """A tegrastats that prints its line, and another one as soon as it is told to."""
    line = (FIXTURES / f"tegrastats-{generation}.txt").read_text()
    then = f"while [ ! -e {board.root}/go ]; do sleep 0.01; done; cat {board.root}/go; while sleep 0.1; do :; done"
    board.answer("tegrastats --interval 1000", line, then=then)


def test_where_no_file_of_the_chip_can_be_read_one_long_lived_tegrastats_is_asked(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/device-tree/compatible", "nvidia,p3449-0000\0nvidia,tegra194\0")
    stats(board, "xavier")
    sensor = JetsonPower(board.context())
    channels = {channel.name: channel for channel in sensor.probe()}
    assert {"power.board_mw", "power.gpu_mw", "thermal.cpu_c", "clock.gpu_khz"} <= set(channels)
    assert "tegrastats" in (channels["power.board_mw"].caution or "")
    assert "sum" in (channels["power.board_mw"].caution or "")
    names = list(channels)
    total = names.index("power.board_mw")
    assert readings(sensor, len(names))[total] == 1155 + 385 + 2502 + 0 + 577 + 2692
    board.write("go", "VDD_IN 1/1 GPU 1/1 CPU 1/1 SOC 1/1 CV 1/1 VDDRQ 1/1 SYS5V 1/1\n")
    read_until(sensor, len(names), lambda found: found[total] == 6.0)
    assert readings(sensor, len(names))[total] == 6.0, "a line holds until the next is due"
    read_until(sensor, len(names), lambda found: bool(np.isnan(found).all()))
    sensor.close()


def test_tegrastats_is_not_started_where_the_files_can_be_read(tmp_path: Path) -> None:
    board = Board(tmp_path, "jetson-xavier-nx-jetpack5")
    board.answer("tegrastats --interval 1000", "VDD_IN 1/1\n", then=f"touch {tmp_path}/was-started")
    read(JetsonPower(board.context()))
    assert not (tmp_path / "was-started").exists()


def test_a_tegrastats_that_cannot_work_says_so_once_and_gives_gaps(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/device-tree/compatible", "nvidia,tegra194\0")
    board.answer("tegrastats --interval 1000", "", then="exit 1")
    sensor = JetsonPower(board.context())
    (channel,) = sensor.probe()
    assert channel.error is not None
    assert np.isnan(readings(sensor, 1)).all()
    sensor.close()
