"""What a device says of itself when it is asked whether it is fit: room, other work, sensors and its power supply."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional

from agent.errors import storage_error
from agent.host import HostFiles, try_text
from agent.protocol import SensorInfo
from agent.sensors import SENSORS, THERMAL_SENSORS, SensorContext

#: Long enough to average over the scheduler's ticks, short enough that a check stays quick.
_LOAD_SECS = 0.5
_POWER_FLAGS = ("under_voltage", "throttled")
#: Channels that tell how warm a device is and what decides how warm it will be, whatever they measure.
_THERMAL_NAMES = ("ambient.", "battery.", "fan.")


def health(root: Path, host: HostFiles) -> Dict[str, Any]:
    """Return free bytes below ``root``, how busy all CPUs are with other work (percent, None when unknown), every sensor channel with its
    first reading or why it has none, and the power flags that are set now.

    Takes half a second. Raises DiskFull or FolderUnwritable when the root cannot be made.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.statvfs(root)
    except OSError as error:
        raise storage_error(error, root) from error
    channels = _channels(host, SENSORS)
    return {
        "free_bytes": found.f_bavail * found.f_frsize,
        "busy_percent": _busy_percent(host, _LOAD_SECS),
        "sensors": channels,
        "power_flags": [item["name"] for item in channels if str(item["name"]).startswith(_POWER_FLAGS) and (item["value"] or 0) > 0],
    }


def thermals(host: HostFiles) -> Dict[str, Any]:
    """Return one reading of every channel of temperature, fan or battery, with both clocks; quick, so that it can be asked often.

    ``channels`` holds name, quantity, unit, value (None without one) and error of each.
    """
    channels = [item for item in _channels(host, THERMAL_SENSORS) if item["unit"] == "°C" or item["name"].startswith(_THERMAL_NAMES)]
    return {"channels": channels, "monotonic_ns": time.monotonic_ns(), "utc_unix_secs": time.time()}


def _channels(host: HostFiles, names: Iterable[str]) -> List[Dict[str, Any]]:
    told: List[Dict[str, Any]] = []
    for name in names:
        sensor = SENSORS[name](SensorContext(host, os.getpid()))
        infos = sensor.probe()
        values = [float("nan")] * len(infos)
        sensor.read_into(values, 0)
        sensor.close()
        for info, value in zip(infos, values):  # noqa: B905 (Python 3.9 has no strict=)
            # Not-a-number compares unequal to itself.
            told.append(_told(info, value if value == value else None))
    return told


def _told(info: SensorInfo, value: Optional[float]) -> Dict[str, Any]:
    return {"name": info.name, "quantity": info.quantity, "unit": info.unit, "value": value, "error": info.error}


def _busy_percent(host: HostFiles, over_secs: float) -> Optional[float]:
    before = _cpu_times(host)
    time.sleep(over_secs)
    after = _cpu_times(host)
    if before is None or after is None or after[1] <= before[1]:
        return None
    return round(100.0 * (1.0 - (after[0] - before[0]) / (after[1] - before[1])), 1)


def _cpu_times(host: HostFiles) -> Optional[List[int]]:
    """Idle and total ticks of all CPUs since boot."""
    words = (try_text(host.proc / "stat") or "").split("\n", 1)[0].split()[1:9]
    try:
        ticks = [int(word) for word in words]
    except ValueError:
        return None
    return [ticks[3] + ticks[4], sum(ticks)] if len(ticks) >= 5 else None
