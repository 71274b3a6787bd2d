"""Samples the sensors beside a run and writes the ``telemetry`` stream."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import Any, List, Mapping, Protocol, Sequence

from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, Sensor

_FLUSH_ROWS = 4096
_FLUSH_NS = 2_000_000_000


class BlockWriter(Protocol):
    """What the sampler needs of a spool: writing one block of columns."""

    def write(self, columns: Mapping[str, Any]) -> None: ...


@dataclass
class _Group:
    """One sensor, where its channels begin, and when it is due."""

    sensor: Sensor
    offset: int
    count: int
    period_ns: int
    due_ns: int


class Sampler:
    """Reads every sensor at ``hertz`` (or slower, where the sensor asks for it). ``hertz`` 0 reads nothing.

    Times are the clock's own nanoseconds; the clock is whatever the caller passes as ``now_ns``.
    """

    def __init__(self, sensors: Sequence[Sensor], hertz: float, spool: BlockWriter, now_ns: int) -> None:
        self._spool = spool
        self._channels: List[SensorInfo] = []
        self._groups: List[_Group] = []
        self._times, self._indices, self._readings = array("Q"), array("H"), array("d")
        self._flushed_ns = now_ns
        for sensor in sensors if hertz > 0 else ():
            found = sensor.probe()
            period_ns = int(max(1 / hertz, sensor.min_period_secs) * 1e9)
            # A slow sensor tells about the time since it was opened, so its first reading comes one period later.
            due_ns = now_ns + period_ns if sensor.min_period_secs else now_ns
            self._groups.append(_Group(sensor, len(self._channels), len(found), period_ns, due_ns))
            self._channels += found
        self._values = [MISSING] * len(self._channels)
        self._asked = [0] * len(self._channels)
        self._missing = [0] * len(self._channels)

    def next_due_ns(self) -> int:
        """Return when the next reading is due, the far future when there is none."""
        return min((group.due_ns for group in self._groups), default=2**63)

    def sample(self, now_ns: int) -> float:
        """Read what is due and return by how many seconds the latest of it was late beyond one whole period (0 when in time).

        Raises OSError when the spool cannot be written.
        """
        late_ns = 0
        for group in self._groups:
            if now_ns < group.due_ns:
                continue
            delay_ns = now_ns - group.due_ns
            if delay_ns >= group.period_ns:
                late_ns = max(late_ns, delay_ns)
            # Missed readings are not made up for: the grid goes on from the next point in the future.
            group.due_ns += (delay_ns // group.period_ns + 1) * group.period_ns
            group.sensor.read_into(self._values, group.offset)
            self._keep(group, now_ns)
        if len(self._times) >= _FLUSH_ROWS or now_ns - self._flushed_ns >= _FLUSH_NS:
            self.flush(now_ns)
        return late_ns / 1e9

    def flush(self, now_ns: int) -> None:
        """Write what was read to the spool."""
        self._flushed_ns = now_ns
        if not self._times:
            return
        import numpy

        columns = {
            "time_ns": numpy.frombuffer(self._times, dtype="<u8"),
            "sensor": numpy.frombuffer(self._indices, dtype="<u2"),
            "value": numpy.frombuffer(self._readings, dtype="<f8"),
        }
        self._times, self._indices, self._readings = array("Q"), array("H"), array("d")
        self._spool.write(columns)

    def channels(self) -> List[SensorInfo]:
        """Return the channels as they turned out: one that answered at least once has no ``error``, only a count of what is missing."""
        found = []
        for channel, asked, missing in zip(self._channels, self._asked, self._missing):  # noqa: B905 (Python 3.9 has no strict)
            error = channel.error
            if asked:
                error = None if missing < asked else error or "no reading succeeded"
            found.append(replace(channel, error=error, readings=asked, missing=missing))
        return found

    def close(self) -> None:
        """Close the sensors."""
        for group in self._groups:
            group.sensor.close()
        self._groups = []

    def _keep(self, group: _Group, now_ns: int) -> None:
        for index in range(group.offset, group.offset + group.count):
            value = self._values[index]
            self._asked[index] += 1
            if value == value:  # MISSING is NaN, the only value unequal to itself
                self._times.append(now_ns)
                self._indices.append(index)
                self._readings.append(value)
            else:
                self._missing[index] += 1
