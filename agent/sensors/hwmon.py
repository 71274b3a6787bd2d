"""What monitoring chips tell through hwmon: temperatures, voltages, currents, power and fans.

Format: the kernel's documentation of the hwmon sysfs interface.
"""

from __future__ import annotations

from typing import List

from agent.host import exists, try_text
from agent.protocol import SensorInfo
from agent.sensors.base import numbered, word
from agent.sensors.scaled import ScaledFiles, ScaledPath

#: Chips that a driver of their own reads (``agent.sensors.jetson``).
CLAIMED_CHIPS = ("ina3221", "soctherm_oc")

#: Kind in sysfs: suffix of the channel, unit, factor to it, quantity. hwmon gives m°C, mV, mA and µW.
_KINDS = {
    "temp": ("c", "°C", 0.001, "temperature"),
    "in": ("mv", "mV", 1.0, "voltage"),
    "curr": ("ma", "mA", 1.0, "current"),
    "power": ("mw", "mW", 0.001, "power"),
}


class HardwareMonitors(ScaledFiles):
    """``hwmon.<chip>.<label>_{c,mv,ma,mw}`` and ``fan.<chip>_<label>_rpm``, a temperature of the air around
    it as ``ambient.<chip>_<label>_c``. The twin that hwmon makes of a thermal zone is left out.
    """

    def find(self) -> List[ScaledPath]:
        found = []
        for chip in numbered(self.context.host.sys / "class" / "hwmon", "hwmon"):
            name = word(try_text(chip / "name") or chip.name)
            if name in CLAIMED_CHIPS or exists(chip / "device" / "trip_point_0_type") or exists(chip / "device" / "cdev0"):
                continue
            for kind, (suffix, unit, factor, quantity) in _KINDS.items():
                for path in numbered(chip, kind):
                    channel, _, what = path.name.partition("_")
                    # An average only where there is no momentary value.
                    if what == "input" or (what == "average" and not exists(chip / f"{channel}_input")):
                        label = word(try_text(chip / f"{channel}_label") or channel)
                        stem = f"ambient.{name}_{label}" if suffix == "c" and "ambient" in label else f"hwmon.{name}.{label}"
                        found.append((SensorInfo(f"{stem}_{suffix}", unit, str(path), quantity=quantity), path, factor))
            for path in sorted(chip.glob("fan[0-9]*_input")):
                channel = path.name.partition("_")[0]
                label = word(try_text(chip / f"{channel}_label") or channel)
                found.append((SensorInfo(f"fan.{name}_{label}_rpm", "1/min", str(path), quantity="fan_speed"), path, 1.0))
        return found
