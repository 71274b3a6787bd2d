"""The table of sensors. All of them are asked on every machine; one that finds nothing gives no channels."""

from __future__ import annotations

from typing import Dict, Type

from agent.sensors.base import MISSING, Sensor, SensorContext
from agent.sensors.linux import CpuClocks, HardwareMonitors, HostLoad, ThermalZones

SENSORS: Dict[str, Type[Sensor]] = {
    "thermal_zones": ThermalZones,
    "cpu_clocks": CpuClocks,
    "hardware_monitors": HardwareMonitors,
    "host_load": HostLoad,
}

__all__ = ["MISSING", "SENSORS", "Sensor", "SensorContext"]
