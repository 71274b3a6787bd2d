"""The battery, by the kernel's power_supply files: on phones (where the level comes from dumpsys) and on anything else that has one.

Format: the kernel's documentation of power_supply sysfs, and what vendors make of it: the sign of the current differs, some count in mA.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from agent import board
from agent.host import exists, try_text
from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, HeldFile, Sensor, SensorContext

#: A machine that runs draws more than 10 mA: a smaller number than this is in mA and not, as the kernel asks, in µA.
SMALLEST_MICROAMPERES = 10_000
#: No cell has 0.1 V: a smaller number than this is in mV and not in µV.
SMALLEST_MICROVOLTS = 100_000

POWER_CAUTION = "what the battery gives; while it is charged or powered from outside this is not the board's power and is left out"
SIGN_CAUTION = "positive leaves the battery; the sign is taken from the battery's status, because vendors differ"
UNIT_CAUTION = "its numbers are so small that they were taken for mA"


@dataclass(frozen=True)
class _Channel:
    """One channel, the sets of files that can give it, and whether Android's battery service tells it better."""

    name: str
    unit: str
    quantity: str
    files: Tuple[Tuple[str, ...], ...]
    by_service: bool = False
    caution: Optional[str] = None


_CHANNELS = (
    _Channel("power.board_mw", "mW", "power", (("power_now",), ("current_now", "voltage_now")), caution=POWER_CAUTION),
    _Channel("current.battery_ma", "mA", "current", (("current_now",),), caution=SIGN_CAUTION),
    _Channel("voltage.battery_mv", "mV", "voltage", (("voltage_now",),), by_service=True),
    _Channel("battery.level_percent", "%", "share", (("capacity",),), by_service=True),
    _Channel("battery.charging", "flag", "flag", (("status",),), by_service=True),
    _Channel("thermal.battery_c", "°C", "temperature", (("temp",),), by_service=True),
)
_FILES = ("status", "capacity", "temp", "current_now", "voltage_now", "power_now")


class PowerSupply(Sensor):
    """``power.board_mw`` while the battery feeds the machine, ``current.battery_ma``, ``voltage.battery_mv``; without Android also
    ``battery.level_percent``, ``battery.charging`` and ``thermal.battery_c``.
    """

    # Fuel gauges renew their values about once a second.
    min_period_secs = 1.0

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._held: Dict[str, HeldFile] = {}
        self._names: List[str] = []
        self._in_microamperes = False

    def probe(self) -> List[SensorInfo]:
        folder = _battery(self.context.host.sys / "class" / "power_supply")
        if folder is None:
            return []
        errors: Dict[str, str] = {}
        for name in _FILES:
            try:
                self._held[name] = HeldFile(folder / name)
                self._held[name].read()
            except FileNotFoundError:
                continue
            except OSError as failure:
                errors[name] = f"first reading failed: {failure}"
        there = {name for name in _FILES if name in self._held or name in errors}
        readings = self._readings()
        # Those boards tell their power themselves; a battery beside them is one of several supplies.
        own_rails = board.is_tegra(self.context.host) or board.is_raspberry_pi(self.context.host)
        told = []
        for channel in _CHANNELS:
            if own_rails and channel.name == "power.board_mw":
                continue
            files = next((files for files in channel.files if there.issuperset(files)), None)
            if files is None or (channel.by_service and board.is_android(self.context.host)):
                continue
            error = next((errors[name] for name in files if name in errors), None)
            # No power is told while the battery is charged, which is no failure.
            if error is None and channel.name not in readings and channel.name != "power.board_mw":
                error = "first reading failed: it holds no number"
            caution = channel.caution
            if channel.name == "current.battery_ma" and not self._in_microamperes:
                caution = f"{caution}; {UNIT_CAUTION}"
            told.append(SensorInfo(channel.name, channel.unit, str(folder), error, quantity=channel.quantity, caution=caution))
        self._names = [info.name for info in told]
        return told

    def read_into(self, values: List[float], offset: int) -> None:
        if not self._names:
            return
        readings = self._readings()
        for index, name in enumerate(self._names, offset):
            values[index] = readings.get(name, MISSING)

    def close(self) -> None:
        for held in self._held.values():
            held.close()
        self._held = {}

    def _readings(self) -> Dict[str, float]:
        found: Dict[str, float] = {}
        status = self._text("status").lower()
        if status in ("charging", "discharging", "full", "not charging"):
            found["battery.charging"] = float(status == "charging")
        current, voltage, power = (self._number(name) for name in ("current_now", "voltage_now", "power_now"))
        if voltage is not None:
            found["voltage.battery_mv"] = voltage / 1000 if abs(voltage) >= SMALLEST_MICROVOLTS else voltage
        if current is not None:
            self._in_microamperes = self._in_microamperes or abs(current) >= SMALLEST_MICROAMPERES
            milliamperes = current / 1000 if self._in_microamperes else current
            found["current.battery_ma"] = _outward(milliamperes, status)
        if status == "discharging":
            if power is not None:
                found["power.board_mw"] = abs(power) / 1000
            elif "current.battery_ma" in found and "voltage.battery_mv" in found:
                found["power.board_mw"] = found["current.battery_ma"] * found["voltage.battery_mv"] / 1000
        level, tenths = self._number("capacity"), self._number("temp")
        if level is not None:
            found["battery.level_percent"] = level
        if tenths is not None:
            found["thermal.battery_c"] = tenths / 10
        return found

    def _text(self, name: str) -> str:
        try:
            return self._held[name].read().decode("ascii", "replace").strip() if name in self._held else ""
        except OSError:
            return ""

    def _number(self, name: str) -> Optional[float]:
        try:
            return float(int(self._text(name)))
        except ValueError:
            return None


def _outward(milliamperes: float, status: str) -> float:
    """Return the current as positive when it leaves the battery; as the vendor tells it where the status does not say which way it goes."""
    if status == "discharging":
        return abs(milliamperes)
    if status == "charging":
        return -abs(milliamperes)
    return milliamperes


def _battery(folder: Path) -> Optional[Path]:
    """Return the machine's own battery: not that of a mouse, whose scope is the device."""
    found = [
        supply for supply in sorted(folder.glob("*")) if try_text(supply / "type") == "Battery" and try_text(supply / "scope") != "Device"
    ]
    named = [supply for supply in found if supply.name.lower() == "battery"]
    return next(iter(named or found), folder / "battery" if exists(folder / "battery") else None)
