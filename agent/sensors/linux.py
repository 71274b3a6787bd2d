"""What every Linux tells of its heat and clocks: thermal zones, cooling devices and cpufreq.

Formats: the kernel's documentation of thermal sysfs and cpufreq.
"""

from __future__ import annotations

from typing import List, Optional

from agent.host import try_text
from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, numbered, word
from agent.sensors.scaled import ScaledFiles, ScaledPath

#: Colder than this is no temperature but a sign that the block is off (Tegra reports -256 °C).
LOWEST_C = -100.0
#: What the zone of a Tegra's power chip reads when nothing measures it.
PMIC_PLACEHOLDER_C = 100.0

SCALING_CAUTION = "the clock that was asked for last, not one that was measured"
PMIC_CAUTION = "a reading of exactly 100 °C is a placeholder of this board and is left out"


def no_temperature(name: str, celsius: float) -> Optional[str]:
    """Return why a number of a zone is no temperature, None when it is one. ``name`` is the channel's."""
    if celsius < LOWEST_C:
        return f"{celsius:g} °C means that the block is off"
    if celsius == PMIC_PLACEHOLDER_C and name.startswith("thermal.pmic"):
        return PMIC_CAUTION
    return None


class ThermalZones(ScaledFiles):
    """``thermal.<type>_c`` for each thermal zone, ``ambient.<type>_c`` where its type says so. Zone numbers move, types do not."""

    def find(self) -> List[ScaledPath]:
        found = []
        for zone in numbered(self.context.host.sys / "class" / "thermal", "thermal_zone"):
            kind = word(try_text(zone / "type") or zone.name)
            caution = PMIC_CAUTION if kind.startswith("pmic") else None
            place = "ambient" if "ambient" in kind else "thermal"
            info = SensorInfo(f"{place}.{kind}_c", "°C", str(zone / "temp"), quantity="temperature", caution=caution)
            found.append((info, zone / "temp", 0.001))
        return found

    def doubt(self, name: str, value: float) -> Optional[str]:
        return no_temperature(name, value)

    def read_into(self, values: List[float], offset: int) -> None:
        super().read_into(values, offset)
        for index, channel in enumerate(self._channels, offset):
            if values[index] < LOWEST_C or (values[index] == PMIC_PLACEHOLDER_C and no_temperature(channel.name, values[index])):
                values[index] = MISSING


class CoolingDevices(ScaledFiles):
    """``cooling.<type>_level`` for each cooling device: 0 is no cooling, the highest level is in the conditions."""

    def find(self) -> List[ScaledPath]:
        found = []
        for device in numbered(self.context.host.sys / "class" / "thermal", "cooling_device"):
            kind = word(try_text(device / "type") or device.name)
            info = SensorInfo(f"cooling.{kind}_level", "level", str(device / "cur_state"), quantity="state")
            found.append((info, device / "cur_state", 1.0))
        return found


class CpuClocks(ScaledFiles):
    """``clock.policyN_khz``: what the hardware says where that may be read, else what was requested last; ``source`` tells which."""

    def find(self) -> List[ScaledPath]:
        found = []
        for policy in numbered(self.context.host.sys / "devices" / "system" / "cpu" / "cpufreq", "policy"):
            measured = policy / "cpuinfo_cur_freq"
            real = try_text(measured) is not None
            path = measured if real else policy / "scaling_cur_freq"
            caution = None if real else SCALING_CAUTION
            found.append((SensorInfo(f"clock.{policy.name}_khz", "kHz", str(path), quantity="clock", caution=caution), path, 1.0))
        return found
