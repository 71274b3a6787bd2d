"""The telemetry stream by channel: what each sensor read, and when. Sensor names are a contract with ``agent.sensors``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import DeviceReplyInvalid
from agent.protocol import SensorInfo
from orchestrator.analysis.statistics import FloatArray


@dataclass(frozen=True)
class Channel:
    """Readings of one sensor, ascending in time (nanoseconds from the runner's origin); arrays of shape (n,); readings that
    failed are not here.
    """

    time_ns: NDArray[np.int64]
    value: FloatArray

    def between(self, start_ns: int, end_ns: int) -> Channel:
        """Return the readings of a part of the run, both ends included."""
        inside = (self.time_ns >= start_ns) & (self.time_ns <= end_ns)
        return Channel(self.time_ns[inside], self.value[inside])


def split_channels(telemetry: Mapping[str, Any] | None, sensors: Sequence[SensorInfo]) -> dict[str, Channel]:
    """Split the ``telemetry`` stream, its times brought to the runner's origin, by sensor name; a sensor without one finite
    reading is absent.

    Raises DeviceReplyInvalid for a reading of a sensor that the outcome does not name.
    """
    if telemetry is None:
        return {}
    index = np.asarray(telemetry["sensor"])
    if index.size and int(index.max()) >= len(sensors):
        raise DeviceReplyInvalid(
            f"a telemetry row names sensor {int(index.max())} and the outcome lists {len(sensors)}",
            "check the agent on the device, then run again",
        )
    time_ns, value = np.asarray(telemetry["time_ns"]), np.asarray(telemetry["value"])
    channels = {}
    for number, sensor in enumerate(sensors):
        rows = np.flatnonzero((index == number) & np.isfinite(value))
        if rows.size:
            rows = rows[np.argsort(time_ns[rows], kind="stable")]
            channels[sensor.name] = Channel(time_ns[rows], value[rows])
    return channels
