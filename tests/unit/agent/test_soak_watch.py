"""A soak stops where its rules say so, not for a reading's noise, and never goes on blindly beside a safety temperature."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from agent.errors import SensorUnavailable
from agent.protocol import CONTROL, LoadPattern, SensorInfo, SoakSettings
from agent.soak_watch import ControlFile, SoakWatch

SECOND = 1_000_000_000
CHANNELS = [
    SensorInfo("cpu_busy_percent", "%", "stat"),
    SensorInfo("thermal.cpu_c", "°C", "zone0"),
    SensorInfo("thermal.gpu_c", "°C", "zone1"),
    SensorInfo("thermal.battery_c", "°C", "zone2"),
    SensorInfo("battery.level_percent", "%", "battery"),
]


class Watched:
    """A watch whose sensor is read once a second."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.path = folder / "control"
        self.now_ns = 0
        self.watch = SoakWatch(SoakSettings(60.0, **settings), CHANNELS, ControlFile(self.path), 0)

    def read(self, cpu_c: float = 50.0, gpu_c: float = 50.0, battery_c: float = 30.0, level: float = 80.0) -> str | None:
        self.now_ns += SECOND
        self.watch.heard(self.now_ns, 1, 5, [10.0, cpu_c, gpu_c, battery_c, level])
        return self.watch.stop(self.now_ns)


def test_the_runner_is_told_the_hottest_zone_that_is_no_battery(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    assert math.isnan(CONTROL.unpack(watched.path.read_bytes())[1]), "unknown until it was read"
    watched.read(cpu_c=61.5, gpu_c=48.0, battery_c=70.0)
    assert CONTROL.unpack(watched.path.read_bytes()) == (SECOND, 61.5)
    watched.read(cpu_c=math.nan, gpu_c=48.0)
    assert CONTROL.unpack(watched.path.read_bytes()) == (2 * SECOND, 48.0)
    watched.read(cpu_c=math.nan, gpu_c=math.nan)
    assert math.isnan(CONTROL.unpack(watched.path.read_bytes())[1])


def test_a_channel_that_is_named_is_the_one_that_decides(tmp_path: Path) -> None:
    watched = Watched(tmp_path, control_sensor="thermal.gpu_c", stop_above_c=60.0)
    for _ in range(3):
        assert watched.read(cpu_c=90.0, gpu_c=41.0) is None
    assert watched.watch.temperature_c(watched.now_ns) == 41.0


def test_a_soak_stops_at_the_second_reading_in_a_row_above_its_safety_temperature(tmp_path: Path) -> None:
    watched = Watched(tmp_path, stop_above_c=80.0)
    assert watched.read(cpu_c=95.0) is None
    assert watched.read(cpu_c=79.0) is None, "the first was noise"
    assert watched.read(cpu_c=80.0) is None
    assert watched.read(cpu_c=80.1) is None
    assert watched.read(gpu_c=99.0, cpu_c=80.0) is None, "another zone's first"
    assert watched.read(gpu_c=99.0) == "safety_stop"
    assert watched.read() == "safety_stop", "a stop is not taken back"


def test_a_reading_that_fails_between_two_hot_ones_does_not_hide_them(tmp_path: Path) -> None:
    watched = Watched(tmp_path, stop_above_c=80.0)
    watched.read(cpu_c=95.0)
    watched.read(cpu_c=math.nan)
    assert watched.read(cpu_c=95.0) == "safety_stop"


def test_a_soak_with_a_safety_temperature_that_nobody_can_read_any_more_stops(tmp_path: Path) -> None:
    watched = Watched(tmp_path, stop_above_c=80.0)
    watched.read()
    for _ in range(30):
        assert watched.read(cpu_c=math.nan, gpu_c=math.nan) is None
    assert watched.read(cpu_c=math.nan, gpu_c=math.nan) == "safety_stop"
    assert math.isnan(watched.watch.temperature_c(watched.now_ns))
    without = Watched(tmp_path)
    for _ in range(60):
        assert without.read(cpu_c=math.nan, gpu_c=math.nan) is None, "no rule, no stop"


def test_a_dying_battery_stops_a_soak(tmp_path: Path) -> None:
    watched = Watched(tmp_path, stop_below_battery_percent=20.0)
    assert watched.read(level=19.0) is None
    assert watched.read(level=20.0) is None
    assert watched.read(level=19.0) is None
    assert watched.read(level=18.0) == "battery_stop"


@pytest.mark.parametrize(
    ("settings", "channels", "word"),
    [
        ({"stop_above_c": 80.0}, CHANNELS[:1], "no such temperature; its channels: cpu_busy_percent"),
        ({"stop_above_c": 80.0}, [], "its channels: none"),
        ({"stop_above_c": 80.0}, [SensorInfo("thermal.cpu_c", "°C", "zone0", error="EINVAL")], "thermal.cpu_c cannot be read: EINVAL"),
        ({"control_sensor": "thermal.soc_c"}, CHANNELS, "control_sensor thermal.soc_c"),
        ({"pattern": LoadPattern("thermal_cycle", low_c=40.0, high_c=60.0)}, CHANNELS[:1], "a thermal cycle"),
        ({"stop_below_battery_percent": 10.0}, CHANNELS[:3], "battery level"),
    ],
)
def test_a_rule_that_no_channel_can_keep_is_refused_by_name(tmp_path: Path, settings: Any, channels: list[SensorInfo], word: str) -> None:
    with pytest.raises(SensorUnavailable, match=word):
        SoakWatch(SoakSettings(60.0, **settings), channels, ControlFile(tmp_path / "control"), 0)


def test_a_cool_down_ends_at_its_temperature_or_its_time(tmp_path: Path) -> None:
    watched = Watched(tmp_path, cooldown_secs=100.0, cooldown_until_c=40.0)
    cool_down = watched.watch.begin_cool_down(0)
    ended = []
    for cpu_c in (60.0, 40.0, 41.0, 40.0, 39.0):
        watched.read(cpu_c=cpu_c, gpu_c=30.0)
        ended.append(cool_down.is_over(watched.now_ns))
    assert ended == [False, False, False, False, True], "two readings in a row"
    again = watched.watch.begin_cool_down(0)
    assert not again.is_over(99 * SECOND)
    assert again.is_over(100 * SECOND)
