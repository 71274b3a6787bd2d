"""The table of sensors. All of them are asked on every machine; one that finds nothing gives no channels."""

from __future__ import annotations

from typing import Dict, Type

from agent.sensors.android import BatteryService, ThermalHeadroom, ThermalService
from agent.sensors.base import MISSING, Sensor, SensorContext
from agent.sensors.hwmon import HardwareMonitors
from agent.sensors.jetson import GpuClock, JetsonPower, OverCurrent
from agent.sensors.linux import CoolingDevices, CpuClocks, ThermalZones
from agent.sensors.load import ControlGroup, HostLoad, Pressure, RunnerTime
from agent.sensors.power_supply import PowerSupply
from agent.sensors.raspberry_pi import PiFirmware, PiRails

SENSORS: Dict[str, Type[Sensor]] = {
    "thermal_zones": ThermalZones,
    "cooling_devices": CoolingDevices,
    "cpu_clocks": CpuClocks,
    "hardware_monitors": HardwareMonitors,
    "host_load": HostLoad,
    "runner_time": RunnerTime,
    "pressure": Pressure,
    "control_group": ControlGroup,
    "raspberry_pi_firmware": PiFirmware,
    "raspberry_pi_rails": PiRails,
    "jetson_power": JetsonPower,
    "jetson_over_current": OverCurrent,
    "gpu_clock": GpuClock,
    "power_supply": PowerSupply,
    "android_thermal": ThermalService,
    "android_headroom": ThermalHeadroom,
    "android_battery": BatteryService,
}

#: Those that tell a temperature, a fan or a battery: what is worth asking before a run starts.
THERMAL_SENSORS = ("thermal_zones", "hardware_monitors", "raspberry_pi_firmware", "power_supply", "android_thermal", "android_battery")

__all__ = ["MISSING", "SENSORS", "THERMAL_SENSORS", "Sensor", "SensorContext"]
