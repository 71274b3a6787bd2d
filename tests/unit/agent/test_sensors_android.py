"""Android tells its heat and its battery through services and files that every vendor fills in another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sensor_boards import Board, captured, read, read_until, readings

from agent.sensors import SENSORS
from agent.sensors.android import BatteryService, ThermalHeadroom, ThermalService, parse_battery, parse_thermalservice
from agent.sensors.linux import CpuClocks
from agent.sensors.power_supply import PowerSupply

THERMAL, BATTERY = "dumpsys thermalservice", "dumpsys battery"


@pytest.fixture
def phone(tmp_path: Path) -> Board:
    return Board(tmp_path, "android-phone", "android-phone")


# --- temperatures --------------------------------------------------------------------------------------------


def test_temperatures_are_those_of_the_hal_and_never_of_the_cache(phone: Board) -> None:
    found = read(ThermalService(phone.context()))
    assert found["thermal.ap_c"] == 25.6
    assert found["thermal.virtual_skin_c"] == 38.25, "the cached 21.0 is stale"
    assert not any("usb_gone" in name for name in found), "it is in the cache alone"
    assert found["thermal_status.android"] == 2.0


def test_only_what_is_in_degrees_is_a_temperature(phone: Board) -> None:
    found = read(ThermalService(phone.context()))
    assert not {"thermal.soc_c", "thermal.vbat_c"} & set(found), "types 6 to 8 are limits of the battery"
    assert not {"thermal.thermal_cpufreq_0_c", "thermal.battery_c"} & set(found), "a cooling device; the battery service's own"
    assert found["ambient.room_c"] == 23.9


def test_zero_degrees_is_a_placeholder_and_a_gap(phone: Board) -> None:
    channels = {channel.name: channel for channel in ThermalService(phone.context()).probe()}
    assert "placeholder" in (channels["thermal.tpu_c"].error or "")
    assert np.isnan(read(ThermalService(phone.context()))["thermal.tpu_c"])


def test_a_sensor_of_unknown_type_comes_with_a_caution(phone: Board) -> None:
    channels = {channel.name: channel for channel in ThermalService(phone.context()).probe()}
    assert "does not say" in (channels["thermal.quiet_therm_c"].caution or "")
    assert "does not say" not in (channels["thermal.ap_c"].caution or "")


def test_a_hal_that_is_not_ready_has_no_temperatures_and_says_so(phone: Board) -> None:
    text = captured("android-phone")[THERMAL].replace("HAL Ready: true", "HAL Ready: false")
    phone.answer(THERMAL, text)
    channels = {channel.name: channel for channel in ThermalService(phone.context()).probe()}
    assert set(channels) == {"thermal_status.android", "thermal.android_c"}
    assert "HAL Ready: false" in (channels["thermal.android_c"].error or "")
    assert "no HAL" in (channels["thermal_status.android"].error or "")
    found = read(ThermalService(phone.context()))
    assert np.isnan([found["thermal.android_c"], found["thermal_status.android"]]).all(), "its 0 would be nobody's word"


def test_a_hal_that_gets_unready_makes_gaps_and_comes_back(phone: Board) -> None:
    sensor = ThermalService(phone.context())
    names = [channel.name for channel in sensor.probe()]
    skin = names.index("thermal.virtual_skin_c")
    good = captured("android-phone")[THERMAL]
    assert readings(sensor, len(names))[skin] == 38.25
    unready = good.replace("HAL Ready: true", "HAL Ready: false")
    told = parse_thermalservice(unready)
    assert (told.status, told.temperatures) == (None, {})
    phone.answer(THERMAL, unready)
    status = names.index("thermal_status.android")
    read_until(sensor, len(names), lambda found: bool(np.isnan([found[skin], found[status]]).all()))
    phone.answer(THERMAL, good.replace("38.25", "41.5"))
    read_until(sensor, len(names), lambda found: found[skin] == 41.5)
    sensor.close()


def test_a_status_that_was_overridden_by_hand_is_no_reading() -> None:
    text = captured("android-phone")[THERMAL].replace("IsStatusOverride: false", "IsStatusOverride: true")
    assert parse_thermalservice(text).status is None


def test_headroom_is_asked_no_more_often_than_the_service_answers(phone: Board) -> None:
    assert ThermalHeadroom(phone.context()).min_period_secs >= 10.0
    assert read(ThermalHeadroom(phone.context())) == {"headroom.android": 0.8125}
    phone.answer("cmd thermalservice headroom 10", "Headroom in 10 seconds: NaN\n")
    assert read(ThermalHeadroom(phone.context())) == {}


@pytest.mark.parametrize("text", ["", "Can't find service: thermalservice\n", "Thermal Status: \nHAL Ready: true\nTemperature{mValue=x"])
def test_an_answer_that_makes_no_sense_holds_nothing(text: str) -> None:
    told = parse_thermalservice(text)
    assert (told.status, told.temperatures) == (None, {})
    assert parse_battery(text) == {}


# --- battery -------------------------------------------------------------------------------------------------


def test_the_battery_service_tells_level_temperature_and_that_a_cable_feeds_the_phone(phone: Board) -> None:
    channels = {channel.name: channel for channel in BatteryService(phone.context()).probe()}
    assert "powered from outside" in (channels["battery.charging"].caution or "")
    assert read(BatteryService(phone.context())) == {
        "battery.level_percent": 81.0,
        "battery.charging": 1.0,
        "thermal.battery_c": 31.4,
        "voltage.battery_mv": 4123.0,
    }


def test_a_phone_without_a_cable_is_not_charging() -> None:
    text = captured("android-phone")[BATTERY].replace("USB powered: true", "USB powered: false")
    assert parse_battery(text)["battery.charging"] == 0.0


def test_a_battery_service_that_was_frozen_by_hand_tells_nothing(phone: Board) -> None:
    phone.answer(BATTERY, "Current Battery Service state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n  level: 100\n")
    (channel,) = BatteryService(phone.context()).probe()
    assert "reset" in (channel.error or "")


@pytest.mark.parametrize(
    ("status", "current", "milliamperes", "milliwatts"),
    [
        ("Discharging", -412000, 412.0, 1698.676),
        ("Discharging", 412000, 412.0, 1698.676),
        ("Discharging", -412, 412.0, 1698.676),
        ("Discharging", 412, 412.0, 1698.676),
        ("Charging", 900000, -900.0, None),
        ("Charging", -900000, -900.0, None),
        ("Full", 15000, 15.0, None),
        ("Unknown", -412000, -412.0, None),
    ],
)
def test_current_that_leaves_the_battery_is_positive_whatever_sign_and_unit_the_vendor_chose(
    phone: Board, status: str, current: int, milliamperes: float, milliwatts: float | None
) -> None:
    phone.write("sys/class/power_supply/battery/status", f"{status}\n")
    phone.write("sys/class/power_supply/battery/current_now", f"{current}\n")
    found = read(PowerSupply(phone.context()))
    assert found["current.battery_ma"] == pytest.approx(milliamperes)
    if milliwatts is None:
        assert np.isnan(found["power.board_mw"]), "what flows then is not what the phone draws"
    else:
        assert found["power.board_mw"] == pytest.approx(milliwatts)


def test_currents_that_were_taken_for_milliamperes_are_marked(phone: Board) -> None:
    def caution() -> str:
        sensor = PowerSupply(phone.context())
        channels = {channel.name: channel.caution or "" for channel in sensor.probe()}
        sensor.close()
        return channels["current.battery_ma"]

    assert "mA" not in caution()
    phone.write("sys/class/power_supply/battery/current_now", "412\n")
    assert "taken for mA" in caution()


def test_a_vendor_that_counts_in_microamperes_is_known_after_its_first_real_current(phone: Board) -> None:
    sensor = PowerSupply(phone.context())
    names = [channel.name for channel in sensor.probe()]
    current = names.index("current.battery_ma")
    phone.write("sys/class/power_supply/battery/current_now", "-9000\n")
    assert readings(sensor, len(names))[current] == 9.0
    sensor.close()


def test_voltage_in_millivolts_is_recognised(phone: Board) -> None:
    phone.write("sys/class/power_supply/battery/voltage_now", "4123\n")
    assert read(PowerSupply(phone.context()))["power.board_mw"] == pytest.approx(1698.676)


def test_power_is_said_to_be_the_boards_only_while_the_battery_feeds_it(phone: Board) -> None:
    sensor = PowerSupply(phone.context())
    channels = {channel.name: channel for channel in sensor.probe()}
    sensor.close()
    assert "powered from outside" in (channels["power.board_mw"].caution or "")
    assert set(channels) == {"power.board_mw", "current.battery_ma"}, "the rest is the battery service's"


def test_files_that_android_does_not_let_be_read_are_told_with_the_cause(phone: Board) -> None:
    file = phone.root / "sys/class/power_supply/battery/current_now"
    file.unlink()
    file.mkdir()  # which opens and cannot be read, also for root
    sensor = PowerSupply(phone.context())
    channels = {channel.name: channel for channel in sensor.probe()}
    assert "first reading failed" in (channels["current.battery_ma"].error or "")
    assert "first reading failed" in (channels["power.board_mw"].error or "")
    assert np.isnan(readings(sensor, len(channels))).all()
    sensor.close()


# --- the whole phone -----------------------------------------------------------------------------------------


def test_clocks_are_the_kernels_on_a_phone_too(phone: Board) -> None:
    assert read(CpuClocks(phone.context())) == {"clock.policy0_khz": 300000.0, "clock.policy6_khz": 2850000.0}


def test_services_are_asked_on_android_alone(tmp_path: Path) -> None:
    board = Board(tmp_path, "laptop", "android-phone")
    for kind in (ThermalService, ThermalHeadroom, BatteryService):
        assert read(kind(board.context())) == {}


def test_a_phone_without_the_programs_says_what_is_missing(tmp_path: Path) -> None:
    board = Board(tmp_path, "android-phone")
    for kind in (ThermalService, BatteryService):
        (channel,) = kind(board.context()).probe()
        assert channel.error == "there is no dumpsys"


def test_whatever_starts_a_program_is_asked_once_a_second_at_most(phone: Board) -> None:
    for kind in SENSORS.values():
        sensor = kind(phone.context())
        channels = sensor.probe()
        sensor.close()
        if any("dumpsys" in channel.source or "cmd " in channel.source for channel in channels):
            assert sensor.min_period_secs >= 1.0


def test_all_names_of_all_sensors_of_a_phone_are_different(phone: Board) -> None:
    names = []
    for kind in SENSORS.values():
        sensor = kind(phone.context())
        names += [channel.name for channel in sensor.probe()]
        sensor.close()
    assert len(set(names)) == len(names)
