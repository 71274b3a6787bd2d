"""What a sensor does not tell is a gap that is said once, and what sampling did late is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.host import HostFiles
from agent.protocol import SensorInfo
from agent.sensors import MISSING, Sensor, SensorContext
from agent.telemetry import Sampler

SECOND = 1_000_000_000


class Readings:
    def __init__(self) -> None:
        self.rows: list[tuple[int, int, float]] = []

    def write(self, columns: Mapping[str, Any]) -> None:
        self.rows += zip(columns["time_ns"].tolist(), columns["sensor"].tolist(), columns["value"].tolist())  # noqa: B905 (Python 3.9 has no strict)


class Scripted(Sensor):
    """Two channels that read what they are told to; the second could not be read when it was opened."""

    now = (MISSING, MISSING)

    def probe(self) -> list[SensorInfo]:
        return [SensorInfo("thermal.cpu_c", "°C", "script"), SensorInfo("runner_rss_mb", "MB", "script", error="not yet")]

    def read_into(self, values: list[float], offset: int) -> None:
        values[offset : offset + 2] = self.now

    def close(self) -> None:
        pass


class Sampled:
    """A sampler at 1 Hz and what it told."""

    def __init__(self) -> None:
        self.readings, self.told = Readings(), list[tuple[str, int]]()
        self.sensor = Scripted(SensorContext(HostFiles(), 1))
        self.sampler = Sampler([self.sensor], 1.0, self.readings, 0, lambda name, channel: self.told.append((name, channel)))
        self.now_ns = 0

    def read(self, first: float, second: float = MISSING, after_secs: float = 1.0) -> None:
        self.sensor.now = (first, second)
        self.sampler.sample(self.now_ns)
        self.now_ns += int(after_secs * SECOND)


def test_a_channel_that_fails_is_told_once_and_once_when_it_speaks_again() -> None:
    sampled = Sampled()
    for value in (40.0, MISSING, MISSING, MISSING, 41.0, 42.0, MISSING):
        sampled.read(value)
    assert sampled.told == [("sensor_failed", 0), ("sensor_recovered", 0), ("sensor_failed", 0)]
    sampled.sampler.flush(sampled.now_ns)
    assert [value for _, sensor, value in sampled.readings.rows if sensor == 0] == [40.0, 41.0, 42.0], "a gap, never a zero"


def test_a_channel_that_was_silent_from_the_start_is_told_by_its_error_and_by_its_first_word() -> None:
    sampled = Sampled()
    for value in (MISSING, MISSING, 12.0, 13.0):
        sampled.read(40.0, value)
    assert sampled.told == [("sensor_recovered", 1)]
    assert sampled.sampler.channels()[1].error is None
    never = Sampled()
    never.read(MISSING)
    assert never.told == []
    assert [info.error for info in never.sampler.channels()] == ["no reading succeeded", "not yet"]


def test_rounds_and_late_rounds_are_counted_with_the_longest() -> None:
    sampled = Sampled()
    for after_secs in (1.0, 1.5, 3.25, 1.0):
        sampled.read(40.0, after_secs=after_secs)
    sampled.read(40.0)
    sampler = sampled.sampler
    assert (sampler.rounds, sampler.late_rounds) == (5, 1)
    assert sampler.longest_late_ns == 2.75 * SECOND


def test_what_tells_of_a_runner_that_has_ended_is_left_out_and_no_failure() -> None:
    sampled = Sampled()
    sampled.read(40.0, 12.0)
    sampled.told.clear()
    sampled.sampler.leave_out("runner_")
    sampled.read(41.0)
    sampled.read(42.0, 99.0)
    sampled.sampler.flush(sampled.now_ns)
    assert sampled.told == []
    assert [value for _, sensor, value in sampled.readings.rows if sensor == 1] == [12.0]
    assert (sampled.sampler.channels()[1].readings, sampled.sampler.channels()[1].missing) == (1, 0)
    assert sampled.sampler.channels()[0].readings == 3


def test_listeners_hear_every_reading_the_failed_ones_too() -> None:
    sampled = Sampled()
    heard: list[tuple[int, int, int, float]] = []
    sampled.sampler.listen(lambda now_ns, first, end, values: heard.append((now_ns, first, end, values[first])))
    sampled.read(40.0)
    sampled.read(MISSING)
    assert heard[0] == (0, 0, 2, 40.0)
    assert heard[1][3] != heard[1][3]
