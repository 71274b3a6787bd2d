"""Follows temperature and battery of a soak: tells the runner how warm it is, and decides when it must stop and when it has cooled down."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from agent.errors import SensorUnavailable, storage_error
from agent.protocol import CONTROL, SensorInfo, SoakSettings

#: A limit counts as passed when so many readings of one channel in a row say so: a single one may be noise.
_IN_A_ROW = 2
#: An older temperature is none.
_STALE_NS = 5_000_000_000
#: A soak with a safety temperature is not driven on blindly for longer than this.
_BLIND_NS = 30_000_000_000

SAFETY_STOP, BATTERY_STOP = "safety_stop", "battery_stop"
#: Event of a stop: the word of STOPS that the outcome says.
STOP_WORDS = {SAFETY_STOP: "safety_temperature", BATTERY_STOP: "battery"}


class ControlFile:
    """The file ``control``, rewritten in place: when the control temperature was read, and its °C."""

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, path) from error

    def write(self, time_ns: int, temperature_c: float) -> None:
        """Replace what it says. Raises OSError."""
        os.pwrite(self._descriptor, CONTROL.pack(time_ns, temperature_c), 0)

    def close(self) -> None:
        os.close(self._descriptor)


class SoakWatch:
    """The rules of one soak over the readings of its sampler. The control temperature is the highest of the control channels.

    Raises :class:`SensorUnavailable` for a rule that no channel of this device can keep.
    """

    def __init__(self, settings: SoakSettings, channels: Sequence[SensorInfo], control: ControlFile, now_ns: int) -> None:
        self.settings = settings
        self._control = control
        self._temperatures = _control_channels(settings, channels)
        self._batteries = [index for index, info in enumerate(channels) if info.name == "battery.level_percent"]
        self._latest: Dict[int, float] = {}
        self._above: Dict[int, int] = dict.fromkeys(self._temperatures, 0)
        self._below: Dict[int, int] = dict.fromkeys(self._batteries, 0)
        self._read_ns = now_ns
        self._stop: Optional[str] = None
        self._cool_down: Optional[CoolDown] = None
        if settings.stop_above_c is not None:
            _need(self._temperatures, channels, "a safety temperature", "temperature")
        if settings.pattern.kind == "thermal_cycle":
            _need(self._temperatures, channels, "a thermal cycle", "temperature")
        if settings.stop_below_battery_percent is not None:
            _need(self._batteries, channels, "a stop on a dying battery", "battery level")
        control.write(now_ns, math.nan)

    def heard(self, now_ns: int, first: int, end: int, values: Sequence[float]) -> None:
        """Take the readings of one sensor (a Listener of the sampler)."""
        changed = False
        for index in self._temperatures:
            if first <= index < end:
                changed = True
                self._hear_temperature(index, values[index])
        if changed:
            self._read_ns = now_ns if self._latest else self._read_ns
            self._control.write(now_ns, self._highest())
            if self._cool_down is not None:
                self._cool_down.hear(self._highest())
        for index in self._batteries:
            limit = self.settings.stop_below_battery_percent
            if first <= index < end and limit is not None and values[index] == values[index]:
                self._below[index] = self._below[index] + 1 if values[index] < limit else 0
                if self._below[index] >= _IN_A_ROW:
                    self._stop = self._stop or BATTERY_STOP

    def stop(self, now_ns: int) -> Optional[str]:
        """Return the event of the rule that ends this soak, None as long as it may go on.

        A safety temperature that nobody could read for half a minute counts as passed.
        """
        if self._stop is None and self.settings.stop_above_c is not None and now_ns - self._read_ns > _BLIND_NS:
            self._stop = SAFETY_STOP
        return self._stop

    def temperature_c(self, now_ns: int) -> float:
        """Return the control temperature, not-a-number when it is unknown or older than five seconds."""
        return self._highest() if now_ns - self._read_ns <= _STALE_NS else math.nan

    def begin_cool_down(self, now_ns: int) -> CoolDown:
        """Return the cool-down that begins now; it hears every reading from here on."""
        self._cool_down = CoolDown(now_ns, self.settings.cooldown_secs, self.settings.cooldown_until_c)
        return self._cool_down

    def close(self) -> None:
        self._control.close()

    def _hear_temperature(self, index: int, value: float) -> None:
        if value != value:
            self._latest.pop(index, None)
            return
        self._latest[index] = value
        limit = self.settings.stop_above_c
        if limit is not None:
            self._above[index] = self._above[index] + 1 if value > limit else 0
            if self._above[index] >= _IN_A_ROW:
                self._stop = self._stop or SAFETY_STOP

    def _highest(self) -> float:
        return max(self._latest.values(), default=math.nan)


@dataclass
class CoolDown:
    """The time after the load: ``most_secs``, less when two readings in a row are at ``until_c`` or below."""

    started_ns: int
    most_secs: float
    until_c: Optional[float] = None
    _cool: int = 0

    def hear(self, temperature_c: float) -> None:
        """Take the control temperature as it was just read."""
        if self.until_c is not None:
            self._cool = self._cool + 1 if temperature_c <= self.until_c else 0

    def passed_secs(self, now_ns: int) -> float:
        return (now_ns - self.started_ns) / 1e9

    def is_over(self, now_ns: int) -> bool:
        return self._cool >= _IN_A_ROW or self.passed_secs(now_ns) >= self.most_secs


def _control_channels(settings: SoakSettings, channels: Sequence[SensorInfo]) -> List[int]:
    if settings.control_sensor is not None:
        found = [index for index, info in enumerate(channels) if info.name == settings.control_sensor]
        _need(found, channels, f"control_sensor {settings.control_sensor}", "temperature")
        return found
    return [index for index, info in enumerate(channels) if info.name.startswith("thermal.") and "battery" not in info.name]


def _need(indices: Sequence[int], channels: Sequence[SensorInfo], asked: str, what: str) -> None:
    if any(channels[index].error is None for index in indices):
        return
    if indices:
        first = channels[indices[0]]
        raise SensorUnavailable(
            f"{asked} is asked for, and {first.name} cannot be read: {first.error}", "see to the sensor, or leave that out of the spec"
        )
    names = ", ".join(info.name for info in channels[:40]) or "none"
    raise SensorUnavailable(
        f"{asked} is asked for, and this device has no such {what}; its channels: {names}",
        "leave that out of the spec, name another channel, or raise telemetry_hz above 0",
    )
