"""The files that a board's kernel would show: thermal zones, cooling devices, clocks, power, and what each family has of its own.

Formats: FIELD notes of the project on the kernel's sysfs, the Raspberry Pi's firmware and Jetson's INA3221 from JetPack 5 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .held_files import HeldFiles
from .settings import Settings

_MODELS = {"raspberry-pi": "Raspberry Pi 4 Model B Rev 1.4", "jetson": "NVIDIA Jetson Orin Nano Developer Kit"}
_DIE_ZONE = {"linux": "cpu-thermal", "raspberry-pi": "cpu-thermal", "jetson": "CPU-therm"}
_CRITICAL_MILLIDEGREES = 110_000
_MIN_KHZ = 300_000
_RAIL_MILLIVOLTS = 5000
#: Of what the board draws, this share goes through the rail of the CPU, the rest through others.
_CPU_RAIL_SHARE = 0.8
_DIE, _AMBIENT = "class/thermal/thermal_zone0", "class/thermal/thermal_zone1"
_COOLING, _FAN = "class/thermal/cooling_device0", "class/thermal/cooling_device1"
_POLICY = "devices/system/cpu/cpufreq/policy0"
_FLAGS = "devices/platform/soc/soc:firmware/get_throttled"
_RAILS = "bus/i2c/devices/1-0040/hwmon/hwmon3"
_OVER_CURRENT = "class/hwmon/hwmon2/oc1_event_cnt"
#: Files about the CPUs that runtimes read to learn how many there are; the device sees this machine's.
_CPU_LISTS = ("possible", "present", "online")


@dataclass(frozen=True)
class Readings:
    """What the board's sensors say now. ``ratio`` is the clock's; ``fan_level`` and ``rpm`` of a fan, which may have stopped."""

    die_c: float
    ambient_c: float
    watts: float
    level: int
    ratio: float
    fan_level: int
    rpm: int


class Board:
    """The tree below ``root``. Under-voltage is said once by :meth:`under_voltage` and stays in what the family keeps of it."""

    def __init__(self, root: Path, settings: Settings, host_sys: Path = Path("/sys")) -> None:
        self._files = HeldFiles(root)
        self._settings = settings
        self._sticky = 0
        self._under_voltage = False
        self._over_currents = 0
        self._lay_out(host_sys)

    def under_voltage(self, now: bool) -> None:
        """Have too low a supply voltage from now on, or a good one again."""
        if now and not self._under_voltage:
            self._over_currents += 1
        self._under_voltage = now

    def say(self, now: Readings, faults: frozenset[str]) -> None:
        """Rewrite what changed."""
        put, settings = self._files.put, self._settings
        if "vanished-zone" in faults:
            self._files.silence(f"{_DIE}/temp")
        elif "stuck-sensor" not in faults:
            put(f"{_DIE}/temp", _millidegrees(now.die_c, settings.resolution_c))
        put(f"{_AMBIENT}/temp", _millidegrees(now.ambient_c, settings.resolution_c))
        put(f"{_COOLING}/cur_state", now.level)
        khz = round(settings.max_khz * now.ratio)
        for name in ("scaling_cur_freq", "cpuinfo_cur_freq"):
            put(f"{_POLICY}/{name}", khz)
        if settings.fan:
            put(f"{_FAN}/cur_state", now.fan_level)
            put("class/hwmon/hwmon1/fan1_input", now.rpm)
        if settings.board == "raspberry-pi":
            self._say_flags(now.level)
        elif settings.board == "jetson":
            self._say_rails(now)
        else:
            put("class/hwmon/hwmon0/power1_input", round(now.watts * 1e6))

    def close(self) -> None:
        self._files.close()

    def _say_flags(self, level: int) -> None:
        capped_throttled_soft = 0b1110 if level else 0
        flags = capped_throttled_soft | int(self._under_voltage)
        self._sticky |= flags
        self._files.put(_FLAGS, f"{flags | self._sticky << 16:x}")

    def _say_rails(self, now: Readings) -> None:
        milliamperes = now.watts * 1e6 / _RAIL_MILLIVOLTS
        self._files.put(f"{_RAILS}/curr1_input", round(milliamperes))
        self._files.put(f"{_RAILS}/curr2_input", round(milliamperes * _CPU_RAIL_SHARE))
        self._files.put(f"{_RAILS}/curr3_input", round(milliamperes * (1 - _CPU_RAIL_SHARE)))
        self._files.put(_OVER_CURRENT, self._over_currents)
        self._files.put("class/devfreq/17000000.gpu/cur_freq", round(612_000_000 * now.ratio))

    def _lay_out(self, host_sys: Path) -> None:
        fix, settings = self._files.fix, self._settings
        fix(f"{_DIE}/type", _DIE_ZONE[settings.board])
        fix(f"{_AMBIENT}/type", "ambient")
        trips = [(round(trip.at_c * 1000), round(trip.hysteresis_c * 1000), "passive") for trip in settings.trips]
        for number, (at, hysteresis, kind) in enumerate([*trips, (_CRITICAL_MILLIDEGREES, 0, "critical")]):
            fix(f"{_DIE}/trip_point_{number}_temp", str(at))
            fix(f"{_DIE}/trip_point_{number}_hyst", str(hysteresis))
            fix(f"{_DIE}/trip_point_{number}_type", kind)
        fix(f"{_COOLING}/type", "cpufreq-cpu0")
        fix(f"{_COOLING}/max_state", str(len(settings.trips)))
        for name, khz in (("max", settings.max_khz), ("min", _MIN_KHZ)):
            fix(f"{_POLICY}/cpuinfo_{name}_freq", str(khz))
            fix(f"{_POLICY}/scaling_{name}_freq", str(khz))
        fix(f"{_POLICY}/scaling_governor", "performance")
        fix(f"{_POLICY}/related_cpus", str(settings.core))
        for name in _CPU_LISTS:
            fix(f"devices/system/cpu/{name}", (host_sys / "devices" / "system" / "cpu" / name).read_text().strip())
        if settings.fan:
            fix(f"{_FAN}/type", "pwm-fan")
            fix(f"{_FAN}/max_state", str(len(settings.fan)))
            fix("class/hwmon/hwmon1/name", "pwmfan")
        if settings.board in _MODELS:
            fix("firmware/devicetree/base/model", _MODELS[settings.board])
        if settings.board == "jetson":
            self._lay_out_rails()
        elif settings.board == "linux":
            fix("class/hwmon/hwmon0/name", "power_meter")
            fix("class/hwmon/hwmon0/power1_label", "board")

    def _lay_out_rails(self) -> None:
        fix = self._files.fix
        fix(f"{_RAILS}/name", "ina3221")
        for number, label in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), start=1):
            fix(f"{_RAILS}/in{number}_label", label)
            fix(f"{_RAILS}/in{number}_input", str(_RAIL_MILLIVOLTS))
        fix(f"{_RAILS}/in7_label", "sum of shunt voltages")
        fix("class/hwmon/hwmon2/name", "soctherm_oc")


def _millidegrees(celsius: float, resolution_c: float) -> int:
    return round(round(celsius / resolution_c) * resolution_c * 1000)
