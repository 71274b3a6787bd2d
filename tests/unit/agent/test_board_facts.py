"""Whether another soak is the same soak depends on cooling, power mode, firmware and supply: each board tells them in its own way."""

from __future__ import annotations

from pathlib import Path

import pytest
from sensor_boards import Board

from agent import board as board_of
from agent import board_facts, conditions
from agent.host import HostFiles


def test_a_power_mode_is_read_also_behind_a_warning(tmp_path: Path) -> None:
    board = Board(tmp_path, "jetson-xavier-nx-jetpack5", "jetson")
    assert conditions.collect(board.host, {}, board.programs)["power_mode"] == "MODE_15W"


@pytest.mark.parametrize(("text", "then"), [("", "exit 1"), ("NVPM ERROR: no access\n", "exit 0")])
def test_a_power_mode_that_cannot_be_read_is_unknown_with_its_cause(tmp_path: Path, text: str, then: str) -> None:
    board = Board(tmp_path, "jetson-xavier-nx-jetpack5")
    board.answer("nvpmodel -q", text, then=then)
    found = conditions.collect(board.host, {}, board.programs)
    assert found["power_mode"] is None
    assert "nvpmodel" in found["unknown"]["power_mode"]


def test_a_machine_that_has_no_power_modes_is_not_asked_for_one(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-5", "jetson")
    found = conditions.collect(board.host, {}, board.programs)
    assert found["power_mode"] is None
    assert "power_mode" not in found["unknown"]


@pytest.mark.parametrize(
    ("tree", "programs", "version"),
    [
        ("raspberry-pi-5", "raspberry-pi-5", "2024/09/23 14:02:56, version 26826259 (release) (embedded)"),
        ("jetson-xavier-nx-jetpack5", "", "R35 (release), REVISION: 4.1"),
        ("android-phone", "android-phone", "maker/phone/phone:14/AP1A.240305.019/11445699:user/release-keys"),
        ("android-phone", "", "maker/phone/phone:14/AP1A.240305.019/11445699:user/release-keys"),
    ],
)
def test_the_firmware_is_named_by_each_kind_of_board(tmp_path: Path, tree: str, programs: str, version: str) -> None:
    board = Board(tmp_path, tree, programs)
    found = conditions.collect(board.host, {}, board.programs)
    assert found["firmware"].startswith(version)
    assert "firmware" not in found["unknown"]


def test_a_pi_that_cannot_ask_its_firmware_says_why(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-4")
    found = conditions.collect(board.host, {}, board.programs)
    assert found["firmware"] is None
    assert found["unknown"]["firmware"]


def test_the_supplys_record_since_boot_is_kept_at_the_start_of_a_run(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-5", "raspberry-pi-5")
    assert conditions.volatile(board.host, board.programs)["throttle_flags"] == {
        "now": ["under_voltage", "throttled"],
        "since_boot": ["under_voltage", "throttled"],
    }
    assert conditions.volatile(Board(tmp_path / "other", "laptop").host)["throttle_flags"] is None


def test_fans_and_cooling_levels_are_told_with_the_highest_level_there_is(tmp_path: Path) -> None:
    board = Board(tmp_path, "raspberry-pi-5")
    assert conditions.collect(board.host, {}, board.programs)["cooling_devices"] == {"pwm-fan": 4}
    now = conditions.volatile(board.host, board.programs)
    assert (now["cooling_levels"], now["fans"]) == ({"pwm-fan": 1}, {"pwmfan_fan1": 2853})


def test_two_cooling_devices_of_one_type_are_two(tmp_path: Path) -> None:
    host = Board(tmp_path, "laptop").host
    assert board_facts.cooling_levels(host) == {"Processor": 0, "Processor #2": 2}


def test_boards_are_recognised_by_what_their_makers_wrote(tmp_path: Path) -> None:
    def kinds(tree: str) -> tuple[bool, bool, bool]:
        host = Board(tmp_path / tree, tree).host
        return board_of.is_raspberry_pi(host), board_of.is_tegra(host), board_of.is_android(host)

    assert kinds("raspberry-pi-4") == (True, False, False)
    assert kinds("jetson-nano-jetpack4") == (False, True, False)
    assert kinds("android-phone") == (False, False, True)
    assert kinds("laptop") == (False, False, False)


def test_a_boot_has_a_name_that_stays_until_the_next(tmp_path: Path) -> None:
    assert conditions.boot_id(HostFiles()) == conditions.boot_id(HostFiles())
    assert conditions.boot_id(HostFiles.below(tmp_path)) is None
    board = Board(tmp_path)
    board.write("proc/sys/kernel/random/boot_id", "5d1f0c1e-9a6d-4a1c-8a38-000000000001\n")
    assert conditions.collect(board.host, {}, board.programs)["boot_id"] == "5d1f0c1e-9a6d-4a1c-8a38-000000000001"
