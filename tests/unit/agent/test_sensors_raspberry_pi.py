"""A Raspberry Pi tells by its firmware why it slowed down, how fast it really runs, and on a Pi 5 what it draws."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sensor_boards import Board, read, read_until, readings, write

from agent.sensors.hwmon import HardwareMonitors
from agent.sensors.linux import CpuClocks, ThermalZones
from agent.sensors.pi_firmware import Mailbox, flags_of, open_firmware, parse_answers, parse_rails
from agent.sensors.raspberry_pi import PiFirmware, PiRails


def test_the_flags_tell_what_is_true_now_apart_from_what_was_true_since_boot(tmp_path: Path) -> None:
    found = read(PiFirmware(Board(tmp_path, "raspberry-pi-5", "raspberry-pi-5").context()))
    assert found == {
        "under_voltage.firmware": 1.0,
        "frequency_capped.firmware": 0.0,
        "throttled.firmware": 1.0,
        "soft_temperature_limit.firmware": 0.0,
        "sticky.under_voltage": 1.0,
        "sticky.frequency_capped": 0.0,
        "sticky.throttled": 1.0,
        "sticky.soft_temperature_limit": 0.0,
        "clock.arm_khz": pytest.approx(2400033.792),
        "voltage.core_mv": pytest.approx(876.8),
    }


@pytest.mark.parametrize(
    ("bits", "now", "since_boot"),
    [
        (0x0, [], []),
        (0x50005, ["under_voltage", "throttled"], ["under_voltage", "throttled"]),
        (0x80008, ["soft_temperature_limit"], ["soft_temperature_limit"]),
        (0x20002, ["frequency_capped"], ["frequency_capped"]),
        (0xF0000, [], ["under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"]),
    ],
)
def test_each_bit_has_its_meaning(bits: int, now: list[str], since_boot: list[str]) -> None:
    assert flags_of(bits) == (now, since_boot)


def test_the_firmware_gives_the_temperature_only_where_no_zone_does(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-5", "raspberry-pi-5")
    assert "thermal.soc_c" not in read(PiFirmware(board.context()))
    assert read(ThermalZones(board.context())) == {"thermal.cpu_thermal_c": pytest.approx(51.8)}
    board.remove("sys/class/thermal/thermal_zone0/temp")
    assert read(PiFirmware(board.context()))["thermal.soc_c"] == pytest.approx(51.8)


def test_the_clock_of_the_kernel_is_said_to_be_the_request(tmp_path: Path) -> None:
    (channel,) = CpuClocks(Board(tmp_path, "raspberry-pi-5").context()).probe()
    assert channel.caution is not None
    assert "asked for" in channel.caution


def test_the_fan_is_told_and_the_monitor_that_repeats_the_zone_is_not(tmp_path: Path) -> None:
    assert read(HardwareMonitors(Board(tmp_path, "raspberry-pi-5").context())) == {
        "fan.pwmfan_fan1_rpm": 2853.0,
        "hwmon.rp1_adc.in1_mv": 1477.0,
    }


def test_a_pi_5_gives_the_power_of_each_rail_paired_by_name(tmp_path: Path) -> None:
    sensor = PiRails(Board(tmp_path, "raspberry-pi-5", "raspberry-pi-5").context())
    channels = {channel.name: channel for channel in sensor.probe()}
    sensor.close()
    board = channels["power.board_mw"]
    assert board.caution is not None
    assert "EXT5V" in board.caution
    found = read(PiRails(Board(tmp_path, "raspberry-pi-5", "raspberry-pi-5").context()))
    core = 1428.8 * 0.9065925
    assert found == {
        "power.3v3_sys_mw": pytest.approx(165.0),
        "power.ddr_vddq_mw": 0.0,
        "power.vdd_core_mw": pytest.approx(core),
        "power.hdmi_mw": pytest.approx(50.0),
        "power.board_mw": pytest.approx(core + 215.0),
        "voltage.ext5v_mv": pytest.approx(5057.16),
        "voltage.batt_mv": pytest.approx(4.883),
    }


def test_a_rail_that_is_missing_once_makes_no_smaller_sum(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-5", "raspberry-pi-5")
    sensor = PiRails(board.context())
    names = [channel.name for channel in sensor.probe()]
    board.answer("vcgencmd pmic_read_adc", "VDD_CORE_A current(7)=1.0A\nVDD_CORE_V volt(15)=1.0V\n")
    core, total = names.index("power.vdd_core_mw"), names.index("power.board_mw")
    values = read_until(sensor, len(names), lambda found: found[core] == 1000.0)
    sensor.close()
    assert np.isnan(values[total])


def test_a_pi_4_has_flags_and_clock_and_no_power(tmp_path: Path) -> None:
    context = Board(tmp_path, "raspberry-pi-4", "raspberry-pi-4").context()
    found = read(PiFirmware(context))
    assert (found["soft_temperature_limit.firmware"], found["throttled.firmware"], found["sticky.throttled"]) == (1.0, 0.0, 1.0)
    assert (found["thermal.soc_c"], found["clock.arm_khz"], found["voltage.core_mv"]) == (48.8, 600000.0, pytest.approx(835.0))
    assert read(PiRails(context)) == {}


def test_without_the_firmware_the_kernels_copy_of_the_flags_is_read_and_said_to_be_old(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-4")
    sensor = PiFirmware(board.context())
    channels = sensor.probe()
    assert {channel.name for channel in channels} == {
        *("throttled.firmware", "under_voltage.firmware", "frequency_capped.firmware", "soft_temperature_limit.firmware"),
        *("sticky.throttled", "sticky.under_voltage", "sticky.frequency_capped", "sticky.soft_temperature_limit"),
    }
    assert all(channel.error is None and "copy" in (channel.caution or "") for channel in channels)
    names = [channel.name for channel in channels]
    assert readings(sensor, 8)[names.index("soft_temperature_limit.firmware")] == 1.0
    board.write("sys/devices/platform/soc/soc:firmware/get_throttled", "f0004\n")
    later = readings(sensor, 8)
    assert (later[names.index("soft_temperature_limit.firmware")], later[names.index("throttled.firmware")]) == (0.0, 1.0)
    board.write("sys/devices/platform/soc/soc:firmware/get_throttled", "")
    assert np.isnan(readings(sensor, 8)).all()
    sensor.close()


def test_flags_that_nobody_tells_say_what_to_do(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    channels = PiFirmware(board.context()).probe()
    assert [channel.name for channel in channels if channel.error] == [channel.name for channel in channels]
    assert all("video" in (channel.error or "") for channel in channels)


def test_the_board_may_say_its_name_below_sys_alone(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.write("sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    board.write("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n")
    assert read(PiFirmware(board.context()))["throttled.firmware"] == 0.0


def test_no_other_board_is_asked(tmp_path: Path) -> None:
    board = Board(tmp_path, "jetson-nano-jetpack4", "raspberry-pi-5")
    assert read(PiFirmware(board.context())) == {}
    assert read(PiRails(board.context())) == {}


# --- ways to the firmware ------------------------------------------------------------------------------------


def firmware_that_answers(texts: dict[str, str], error: int = 0) -> Callable[[int, int, bytearray], int]:
    """Do what the kernel does with a property message: check it, and put the answer in its place."""

    def ioctl(descriptor: int, request: int, message: bytearray) -> int:
        assert request == (3 << 30) | (8 << 16) | (100 << 8)
        size, code, tag, room, _, _ = struct.unpack_from("=6I", message)
        assert (size, code, tag) == (len(message), 0, 0x00030080)
        assert size == 6 * 4 + room + 4
        command = bytes(message[24:-4]).split(b"\0", 1)[0].decode()
        answer = texts.get(command, 'error=1 error_msg="Command not registered"').encode() + b"\0"
        struct.pack_into("=6I", message, 0, size, 0x80000000, tag, room, len(answer), error)
        message[24 : 24 + len(answer)] = answer
        return 0

    return ioctl


def test_the_mailbox_is_asked_in_the_firmwares_own_form(tmp_path: Path) -> None:
    write(tmp_path / "vcio", "")
    texts = {"measure_temp": "temp=48.8'C", "measure_clock arm": "frequency(45)=600000000", "get_throttled": "throttled=0x50005"}
    mailbox = Mailbox(tmp_path / "vcio", firmware_that_answers(texts))
    assert parse_answers(mailbox.ask([*texts, "no_such_command"])) == {"temp_c": 48.8, "arm_khz": 600000.0, "throttled": 0x50005}
    mailbox.close()


def test_a_mailbox_that_answers_with_an_error_gives_nothing(tmp_path: Path) -> None:
    write(tmp_path / "vcio", "")
    mailbox = Mailbox(tmp_path / "vcio", firmware_that_answers({"get_throttled": "throttled=0x0"}, error=1))
    with pytest.raises(OSError, match="answered nothing"):
        mailbox.ask(["get_throttled"])
    mailbox.close()


def test_ways_that_do_not_work_are_passed_over_and_remembered(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-4")
    board.write("dev/vcio", "a file is no mailbox")
    board.answer("vcgencmd get_throttled", "", then="exit 255")
    firmware, complaint = open_firmware(board.host, board.programs)
    assert firmware is not None
    assert firmware.source.endswith("get_throttled")
    assert "vcgencmd" in complaint
    firmware.close()


def test_vcgencmd_is_never_waited_for_and_a_hanging_one_is_a_gap(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-5", "raspberry-pi-5")
    sensor = PiFirmware(board.context())
    channels = [channel.name for channel in sensor.probe()]
    throttled = channels.index("throttled.firmware")
    assert sensor.min_period_secs == 1.0
    assert readings(sensor, len(channels))[throttled] == 1.0
    board.answer("vcgencmd get_throttled", "throttled=0x0\n")
    read_until(sensor, len(channels), lambda found: found[throttled] == 0.0)
    board.answer("vcgencmd get_throttled", "", then=f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo throttled=0x4")
    read_until(sensor, len(channels), lambda found: np.isnan(found[throttled]))
    write(tmp_path / "go", "")
    read_until(sensor, len(channels), lambda found: found[throttled] == 1.0)
    sensor.close()


@pytest.mark.parametrize("text", ["", "VCHI initialization failed", "temp=", "throttled=0xzz", "frequency(45)=", "volt=V", "\0\ufffd=\n="])
def test_answers_that_make_no_sense_hold_nothing(text: str) -> None:
    assert parse_answers(text) == {}
    assert parse_rails(text) == ({}, {})


def test_closing_gives_every_descriptor_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    context = Board(tmp_path, "raspberry-pi-5", "raspberry-pi-5").context()
    for sensor in (PiFirmware(context), PiRails(context)):
        readings(sensor, len(sensor.probe()))
        sensor.close()
    assert len(os.listdir("/proc/self/fd")) == before
