"""The table of sensors. All of them are asked on every machine; one that finds nothing gives no channels."""

from __future__ import annotations

from typing import Dict, Type

from agent.sensors.base import MISSING, Sensor, SensorContext
from agent.sensors.hwmon import HardwareMonitors
from agent.sensors.linux import CoolingDevices, CpuClocks, ThermalZones
from agent.sensors.load import ControlGroup, HostLoad, Pressure, RunnerTime

SENSORS: Dict[str, Type[Sensor]] = {
    "thermal_zones": ThermalZones,
    "cooling_devices": CoolingDevices,
    "cpu_clocks": CpuClocks,
    "hardware_monitors": HardwareMonitors,
    "host_load": HostLoad,
    "runner_time": RunnerTime,
    "pressure": Pressure,
    "control_group": ControlGroup,
}

#: Those that tell a temperature, a fan or a battery: what is worth asking before a run starts.
THERMAL_SENSORS = ("thermal_zones", "hardware_monitors")

__all__ = ["MISSING", "SENSORS", "THERMAL_SENSORS", "Sensor", "SensorContext"]
