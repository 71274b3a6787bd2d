"""Samples the sensors beside a run and writes the ``telemetry`` stream."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import Any, Callable, List, Mapping, Protocol, Sequence

from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, Sensor

_FLUSH_ROWS = 4096
_FLUSH_NS = 2_000_000_000

#: What is known of a channel: nothing yet, that it answers, or that it does not, which was said.
_UNHEARD, _SPEAKS, _SILENT = 0, 1, 2

#: Told of ``sensor_failed`` and ``sensor_recovered`` with the channel's index.
Teller = Callable[[str, int], None]
#: Given the time (ns), and of which channels (first, one beyond the last) the values are new.
Listener = Callable[[int, int, int, Sequence[float]], None]


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


def _tell_nobody(name: str, channel: int) -> None:
    pass


class Sampler:
    """Reads every sensor at ``hertz`` (or slower, where the sensor asks for it). ``hertz`` 0 reads nothing.

    Times are the clock's own nanoseconds; the clock is whatever the caller passes as ``now_ns``. A channel that falls silent is told to
    ``tell`` once, and once when it speaks again; one that could not be read from the start says so in its ``error``. ``rounds`` counts how
    often anything was read, ``late_rounds`` how often that was later than a whole period after it was due, ``longest_late_ns`` by how much.
    """

    def __init__(self, sensors: Sequence[Sensor], hertz: float, spool: BlockWriter, now_ns: int, tell: Teller = _tell_nobody) -> None:
        self.rounds = 0
        self.late_rounds = 0
        self.longest_late_ns = 0
        self._spool = spool
        self._tell = tell
        self._listeners: List[Listener] = []
        self._channels: List[SensorInfo] = []
        self._groups: List[_Group] = []
        self._times, self._indices, self._readings = array("Q"), array("H"), array("d")
        self._flushed_ns = now_ns
        for sensor in sensors if hertz > 0 else ():
            found = sensor.probe()
            if not found:
                # Most kinds of boards are not this one: what found nothing is not asked again and again.
                sensor.close()
                continue
            period_ns = int(max(1 / hertz, sensor.min_period_secs) * 1e9)
            # A slow sensor tells about the time since it was opened, so its first reading comes one period later.
            due_ns = now_ns + period_ns if sensor.min_period_secs else now_ns
            self._groups.append(_Group(sensor, len(self._channels), len(found), period_ns, due_ns))
            self._channels += found
        self._values = [MISSING] * len(self._channels)
        self._voices = [_UNHEARD if channel.error is None else _SILENT for channel in self._channels]
        self._left_out = [False] * len(self._channels)
        self._asked = [0] * len(self._channels)
        self._missing = [0] * len(self._channels)

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` whenever a sensor was read, failed channels being MISSING."""
        self._listeners.append(listener)

    def next_due_ns(self) -> int:
        """Return when the next reading is due, the far future when there is none."""
        return min((group.due_ns for group in self._groups), default=2**63)

    def sample(self, now_ns: int) -> float:
        """Read what is due and return by how many seconds the latest of it was late beyond one whole period (0 when in time).

        Raises OSError when the spool cannot be written.
        """
        late_ns = 0
        is_read = False
        for group in self._groups:
            if now_ns < group.due_ns:
                continue
            is_read = True
            delay_ns = now_ns - group.due_ns
            if delay_ns >= group.period_ns:
                late_ns = max(late_ns, delay_ns)
            # Missed readings are not made up for: the grid goes on from the next point in the future.
            group.due_ns += (delay_ns // group.period_ns + 1) * group.period_ns
            group.sensor.read_into(self._values, group.offset)
            self._keep(group, now_ns)
        if is_read:
            self.rounds += 1
        if late_ns:
            self.late_rounds += 1
            self.longest_late_ns = max(self.longest_late_ns, late_ns)
        if len(self._times) >= _FLUSH_ROWS or now_ns - self._flushed_ns >= _FLUSH_NS:
            self.flush(now_ns)
        return late_ns / 1e9

    def leave_out(self, prefix: str) -> None:
        """Keep nothing more of the channels whose names begin so: what they tell about is gone, which is no failure."""
        self._left_out = [left or info.name.startswith(prefix) for left, info in zip(self._left_out, self._channels)]  # noqa: B905 (Python 3.9 has no strict)

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
        end = group.offset + group.count
        for index in range(group.offset, end):
            if self._left_out[index]:
                continue
            value = self._values[index]
            self._asked[index] += 1
            if value == value:  # MISSING is NaN, the only value unequal to itself
                self._times.append(now_ns)
                self._indices.append(index)
                self._readings.append(value)
                if self._voices[index] != _SPEAKS:
                    self._hear(index, _SPEAKS)
            else:
                self._missing[index] += 1
                if self._voices[index] == _SPEAKS:
                    self._hear(index, _SILENT)
        for listener in self._listeners:
            listener(now_ns, group.offset, end, self._values)

    def _hear(self, index: int, voice: int) -> None:
        before, self._voices[index] = self._voices[index], voice
        if voice == _SILENT:
            self._tell("sensor_failed", index)
        elif before == _SILENT:
            self._tell("sensor_recovered", index)
