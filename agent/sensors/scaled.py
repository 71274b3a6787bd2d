"""Channels that are each one whole number in one file, times a factor: the shape of nearly everything in sysfs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, Sensor, SensorContext

#: Channel, file, and factor to the channel's unit.
ScaledPath = Tuple[SensorInfo, Path, float]

#: After so many failures in a row a file is looked for anew, and again after as many more: a zone that was moved has another number then.
LOOK_AGAIN_AFTER = 20


@dataclass
class _Channel:
    """One open file. ``descriptor`` is -1 while it cannot be opened: reading that fails like any other file. ``kind`` is the name that
    it shares with others of its type.
    """

    name: str
    kind: str
    path: Path
    factor: float
    descriptor: int = -1
    failures: int = 0


class ScaledFiles(Sensor):
    """A sensor that says which files to read and, where a number can be nonsense, which to believe."""

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._channels: List[_Channel] = []

    def find(self) -> List[ScaledPath]:
        """Return what there is to read now."""
        raise NotImplementedError

    def doubt(self, name: str, value: float) -> Optional[str]:
        """Return why this value of this channel is no reading, None when it is one."""
        return None

    def probe(self) -> List[SensorInfo]:
        infos: List[SensorInfo] = []
        found = self.find()
        for (plain, _, _), (info, path, factor) in zip(found, _named(found)):  # noqa: B905 (Python 3.9 has no strict)
            channel = _Channel(info.name, plain.name, path, factor)
            error = None
            try:
                channel.descriptor = _open(path)
                error = self.doubt(info.name, int(os.pread(channel.descriptor, 64, 0)) * factor)
            except (OSError, ValueError) as failure:
                error = str(failure)
            self._channels.append(channel)
            infos.append(replace(info, error=None if error is None else f"first reading failed: {error}"))
        return infos

    def read_into(self, values: List[float], offset: int) -> None:
        pread = os.pread
        failed = False
        for index, channel in enumerate(self._channels, offset):
            try:
                values[index] = int(pread(channel.descriptor, 64, 0)) * channel.factor
                channel.failures = 0
            except (OSError, ValueError):
                values[index] = MISSING
                channel.failures += 1
                failed = failed or channel.failures % LOOK_AGAIN_AFTER == 0
        if failed:
            self._look_again()

    def close(self) -> None:
        for channel in self._channels:
            _close(channel)
        self._channels = []

    def _look_again(self) -> None:
        # By its type, and never what another channel reads: of two zones of one type only one may have gone. Nor another file of the same
        # thing: a clock that was measured must not turn into one that was asked for.
        held = {channel.path for channel in self._channels if channel.failures < LOOK_AGAIN_AFTER}
        free = [(info.name, path) for info, path, _ in self.find() if path not in held]
        for channel in self._channels:
            if not channel.failures or channel.failures % LOOK_AGAIN_AFTER:
                continue
            path = next((path for kind, path in free if kind == channel.kind and path.name == channel.path.name), None)
            if path is None:
                continue
            free.remove((channel.kind, path))
            _close(channel)
            channel.path = path
            try:
                channel.descriptor = _open(path)
            except OSError:
                continue


def _named(found: List[ScaledPath]) -> List[ScaledPath]:
    """Tell channels of one name apart by numbers: two zones may share a type."""
    seen: Dict[str, int] = {}
    told = []
    for info, path, factor in found:
        seen[info.name] = seen.get(info.name, 0) + 1
        if seen[info.name] > 1:
            stem, underscore, unit = info.name.rpartition("_")
            info = replace(info, name=f"{stem}{seen[info.name]}{underscore}{unit}")
        told.append((info, path, factor))
    return told


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _close(channel: _Channel) -> None:
    if channel.descriptor >= 0:
        os.close(channel.descriptor)
        channel.descriptor = -1
