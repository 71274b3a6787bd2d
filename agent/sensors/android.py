"""What Android's services tell without root: temperatures, thermal status and headroom, and the battery.

Source: the Android Open Source Project, ThermalManagerService and BatteryService. Tried on captured texts, not on a phone. The services
are asked through programs, once a second at most, and a reading never waits for one: what it gives is up to a second old.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from agent import board
from agent.programs import Polled
from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, Sensor, SensorContext, word

POLLED_CAUTION = "asked through a program, so up to 1 s old"
UNKNOWN_TYPE_CAUTION = "the thermal service does not say what this sensor measures"
CHARGING_CAUTION = "1 while charged or powered from outside: the battery then tells nothing of the power that is drawn"

_TIMEOUT_SECS = 5.0
_UNKNOWN, _BATTERY, _AMBIENT = -1, 2, 18
#: Limits of voltage, current and charge of the battery: percentages and the like, no temperatures.
_NOT_CELSIUS = (6, 7, 8)

_TEMPERATURE = re.compile(r"Temperature\{mValue=([^,]+), mType=(-?\d+), mName=([^,}]*), mStatus=(-?\d+)")
_NUMBER = re.compile(r"NaN|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class ThermalText:
    """What the thermal service said: its status (None when it is overridden or its HAL not ready), whether its HAL is ready, and °C by
    (type, name), None for a placeholder.
    """

    status: Optional[int]
    hal_ready: bool
    temperatures: Dict[Tuple[int, str], Optional[float]]


def parse_thermalservice(text: str) -> ThermalText:
    """Read ``dumpsys thermalservice``. Only the block from the HAL counts, since the cached one may be stale; 0.0 is a placeholder."""
    status: Optional[int] = None
    hal_ready = overridden = in_hal = False
    temperatures: Dict[Tuple[int, str], Optional[float]] = {}
    for line in (line.strip() for line in text.splitlines()):
        name, _, value = line.partition(":")
        found = _TEMPERATURE.search(line)
        if found is not None:
            celsius = _float(found.group(1))
            if in_hal:
                temperatures[(int(found.group(2)), found.group(3))] = celsius or None
            continue
        in_hal = name == "Current temperatures from HAL"
        if name == "Thermal Status":
            status = int(value) if value.strip().isdigit() else None
        elif name == "HAL Ready":
            hal_ready = value.strip() == "true"
        elif name == "IsStatusOverride":
            overridden = value.strip() == "true"
    # Without its HAL the service says 0, none, because nobody has told it anything.
    return ThermalText(None if overridden or not hal_ready else status, hal_ready, temperatures if hal_ready else {})


def parse_battery(text: str) -> Dict[str, float]:
    """Read ``dumpsys battery`` into channels. Nothing is told of a battery whose updates were stopped by hand."""
    if "UPDATES STOPPED" in text:
        return {}
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    found: Dict[str, float] = {}
    level, scale = _float(fields.get("level", "")), _float(fields.get("scale", "100"))
    if level is not None and scale:
        found["battery.level_percent"] = 100 * level / scale
    powered = [value for name, value in fields.items() if name.endswith(" powered")]
    # Status 2 is charging, 3 is discharging.
    if powered or "status" in fields:
        found["battery.charging"] = float("true" in powered or fields.get("status") == "2")
    tenths, millivolts = _float(fields.get("temperature", "")), _float(fields.get("voltage", ""))
    if tenths is not None:
        found["thermal.battery_c"] = tenths / 10
    if millivolts is not None and millivolts > 0:
        found["voltage.battery_mv"] = millivolts / 1000 if millivolts >= 100_000 else millivolts
    return found


class _Service(Sensor):
    """A service that is asked through a program."""

    min_period_secs = 1.0

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._polled: Optional[Polled] = None
        self._names: List[str] = []

    @abstractmethod
    def argv(self) -> Sequence[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def channels(self, text: str) -> List[SensorInfo]:
        """Return the channels that the first answer promises. Raises OSError when it holds none."""

    @abstractmethod
    def parse(self, text: str) -> Dict[str, float]:
        """Return the readings of an answer by channel."""

    def unreachable(self, error: str) -> List[SensorInfo]:
        """Return the channels, with the error, that stand for what could not be asked."""
        return []

    def probe(self) -> List[SensorInfo]:
        if not board.is_android(self.context.host):
            return []
        program, *arguments = self.argv()
        path = self.context.programs.find(program)
        if path is None:
            return self.unreachable(f"there is no {program}")
        polled = Polled(self.context.programs, [path, *arguments])
        try:
            channels = self.channels(polled.wait_first(_TIMEOUT_SECS))
        except OSError as error:
            channels = self.unreachable(f"first reading failed: {error}")
        # Also after a failure: the service may get ready later.
        self._polled = polled if channels else None
        self._names = [channel.name for channel in channels]
        return channels

    def read_into(self, values: List[float], offset: int) -> None:
        if self._polled is None:
            return
        try:
            readings = self.parse(self._polled.read())
        except OSError:
            readings = {}
        for index, name in enumerate(self._names, offset):
            values[index] = readings.get(name, MISSING)

    def close(self) -> None:
        if self._polled is not None:
            self._polled.close()
            self._polled = None


class ThermalService(_Service):
    """``thermal.<name>_c`` (``ambient.<name>_c``) of the HAL's sensors, ``thermal_status.android`` from 0, none, to 6, shutdown. The
    battery's temperature comes from the battery service.
    """

    def argv(self) -> Sequence[str]:
        return ("dumpsys", "thermalservice")

    def channels(self, text: str) -> List[SensorInfo]:
        told = parse_thermalservice(text)
        source = "dumpsys thermalservice"
        error = None if told.status is not None else "first reading failed: no status, one that was overridden by hand, or no HAL"
        found = [SensorInfo("thermal_status.android", "level", source, error, quantity="state", caution=POLLED_CAUTION)]
        if not told.hal_ready:
            found.append(
                SensorInfo("thermal.android_c", "°C", source, "the thermal HAL is not ready (HAL Ready: false)", quantity="temperature")
            )
        for name, kind in _channel_names(told).items():
            caution = f"{UNKNOWN_TYPE_CAUTION}; {POLLED_CAUTION}" if kind[0] == _UNKNOWN else POLLED_CAUTION
            error = None if told.temperatures[kind] is not None else "first reading failed: 0.0 is a placeholder"
            found.append(SensorInfo(name, "°C", f"{source} {kind[1]}", error, quantity="temperature", caution=caution))
        return found

    def parse(self, text: str) -> Dict[str, float]:
        told = parse_thermalservice(text)
        found = {name: told.temperatures[kind] for name, kind in _channel_names(told).items()}
        readings = {name: celsius for name, celsius in found.items() if celsius is not None}
        if told.status is not None:
            readings["thermal_status.android"] = float(told.status)
        return readings

    def unreachable(self, error: str) -> List[SensorInfo]:
        return [SensorInfo("thermal_status.android", "level", "dumpsys thermalservice", error, quantity="state")]


class ThermalHeadroom(_Service):
    """``headroom.android``: how near to severe throttling the device will be in 10 s; 1 is there."""

    # The service answers callers that ask more often with not-a-number.
    min_period_secs = 10.0

    def argv(self) -> Sequence[str]:
        return ("cmd", "thermalservice", "headroom", "10")

    def channels(self, text: str) -> List[SensorInfo]:
        caution = "a forecast over 10 s, 1 is severe throttling; up to 10 s old"
        found = [SensorInfo("headroom.android", "of the severe limit", "cmd thermalservice headroom 10", quantity="other", caution=caution)]
        return found if self.parse(text) else []

    def parse(self, text: str) -> Dict[str, float]:
        numbers = _NUMBER.findall(text)
        value = _float(numbers[-1]) if numbers else None
        return {} if value is None else {"headroom.android": value}


#: Unit, quantity and caution.
_BATTERY_CHANNELS = {
    "battery.level_percent": ("%", "share", POLLED_CAUTION),
    "battery.charging": ("flag", "flag", CHARGING_CAUTION),
    "thermal.battery_c": ("°C", "temperature", POLLED_CAUTION),
    "voltage.battery_mv": ("mV", "voltage", POLLED_CAUTION),
}


class BatteryService(_Service):
    """``battery.level_percent``, ``battery.charging``, ``thermal.battery_c`` and ``voltage.battery_mv``."""

    def argv(self) -> Sequence[str]:
        return ("dumpsys", "battery")

    def channels(self, text: str) -> List[SensorInfo]:
        readings = self.parse(text)
        if not readings:
            raise OSError("the battery service told nothing, or its updates were stopped | dumpsys battery reset")
        return [
            SensorInfo(name, unit, "dumpsys battery", quantity=quantity, caution=caution)
            for name, (unit, quantity, caution) in _BATTERY_CHANNELS.items()
            if name in readings
        ]

    def parse(self, text: str) -> Dict[str, float]:
        return parse_battery(text)

    def unreachable(self, error: str) -> List[SensorInfo]:
        return [SensorInfo("battery.level_percent", "%", "dumpsys battery", error, quantity="share")]


def _channel_names(told: ThermalText) -> Dict[str, Tuple[int, str]]:
    names: Dict[str, Tuple[int, str]] = {}
    for kind, label in told.temperatures:
        if kind in _NOT_CELSIUS or kind == _BATTERY:
            continue
        stem = f"{'ambient' if kind == _AMBIENT else 'thermal'}.{word(label)}"
        same = sum(name.startswith(stem) and known[1] == label for name, known in names.items())
        names[f"{stem}{same + 1 if same else ''}_c"] = (kind, label)
    return names


def _float(text: str) -> Optional[float]:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
