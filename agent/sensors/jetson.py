"""What a Jetson tells beside its thermal zones: power rails, over-current events, and the clock of a graphics processor.

Sources: NVIDIA's Jetson Linux developer guide, releases of JetPack 4 to 7. Tried on trees and texts written after it, not on a board.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from agent.host import try_int, try_text
from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, HeldFile, Sensor, SensorContext, numbered, word
from agent.sensors.rails import board_rails
from agent.sensors.scaled import ScaledFiles, ScaledPath
from agent.sensors.tegrastats import Tegrastats

OVER_CURRENT_CAUTION = "counts since boot; a slowdown that comes with it is not one of heat"

#: Names of a graphics processor among the devices with a changing clock, and of what merely belongs to one.
_GPU_WORDS = ("gpu", "ga10b", "gv11b", "gp10b", "gm20b", "mali", "kgsl", "v3d")
_NO_GPU_WORDS = ("bw", "bus", "mem", "nvd")


@dataclass
class _Rail:
    """One rail: its power in mW in a file, or its voltage in mV and current in mA in two."""

    name: str
    files: Tuple[Path, ...]
    held: Tuple[HeldFile, ...] = ()
    error: Optional[str] = None

    def open(self) -> None:
        held: List[HeldFile] = []
        try:
            for path in self.files:
                held.append(HeldFile(path))
                int(held[-1].read())
        except (OSError, ValueError) as error:
            self.error = f"first reading failed: {error}"
        self.held = tuple(held) if len(held) == len(self.files) else ()
        for file in held if not self.held else ():
            file.close()

    def read(self) -> List[float]:
        """Return power, voltage and current of two files, power alone of one; MISSING where it fails."""
        try:
            numbers = [float(int(held.read())) for held in self.held]
        except (OSError, ValueError):
            numbers = []
        if len(numbers) != len(self.files):
            return [MISSING] * (3 if len(self.files) == 2 else 1)
        return [numbers[0] * numbers[1] / 1000, *numbers] if len(numbers) == 2 else numbers


class Ina3221(Sensor):
    """``power.<rail>_mw`` and ``power.board_mw``, with voltage and current where the chip gives no power; both layouts of the kernels."""

    # The chip is asked over I²C, two transfers for each rail.
    min_period_secs = 0.1

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._rails: List[_Rail] = []
        self._summed: List[int] = []

    def probe(self) -> List[SensorInfo]:
        self._rails = _old_layout(self.context.host.sys) or _new_layout(self.context.host.sys)
        channels: List[SensorInfo] = []
        for rail in self._rails:
            rail.open()
            source = str(rail.files[0].parent)
            channels.append(SensorInfo(f"power.{rail.name}_mw", "mW", source, rail.error, quantity="power"))
            if len(rail.files) == 2:
                channels.append(SensorInfo(f"voltage.{rail.name}_mv", "mV", source, rail.error, quantity="voltage"))
                channels.append(SensorInfo(f"current.{rail.name}_ma", "mA", source, rail.error, quantity="current"))
        names = [rail.name for rail in self._rails]
        board, caution = board_rails(names)
        self._summed = [names.index(name) for name in board]
        if board:
            error = next((self._rails[index].error for index in self._summed if self._rails[index].error), None)
            channels.append(SensorInfo("power.board_mw", "mW", " + ".join(board), error, quantity="power", caution=caution))
        return channels

    def read_into(self, values: List[float], offset: int) -> None:
        if not self._rails:
            return
        readings = [rail.read() for rail in self._rails]
        index = offset
        for reading in readings:
            values[index : index + len(reading)] = reading
            index += len(reading)
        # Not-a-number stays so in adding: a sum without one of its parts is no sum.
        values[index] = sum(readings[part][0] for part in self._summed)

    def close(self) -> None:
        for rail in self._rails:
            for held in rail.held:
                held.close()
        self._rails = []


class JetsonPower(Sensor):
    """The rails as the kernel's files tell them; as tegrastats prints them where none of those can be read."""

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._source: Optional[Sensor] = None

    def probe(self) -> List[SensorInfo]:
        files = Ina3221(self.context)
        channels = files.probe()
        self._source = files
        if not any(channel.error is None for channel in channels):
            program = Tegrastats(self.context)
            printed = program.probe()
            if printed:
                files.close()
                self._source, channels = program, printed
        self.min_period_secs = self._source.min_period_secs if channels else 0.0
        return channels

    def read_into(self, values: List[float], offset: int) -> None:
        if self._source is not None:
            self._source.read_into(values, offset)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None


class GpuClock(ScaledFiles):
    """``clock.gpu_khz`` from devfreq, which counts in Hz."""

    def find(self) -> List[ScaledPath]:
        folder = self.context.host.sys / "class" / "devfreq"
        for device in sorted(folder.glob("*")):
            name = device.name.lower()
            if any(part in name for part in _GPU_WORDS) and not any(part in name for part in _NO_GPU_WORDS):
                return [(SensorInfo("clock.gpu_khz", "kHz", str(device / "cur_freq"), quantity="clock"), device / "cur_freq", 0.001)]
        return []


class OverCurrent(ScaledFiles):
    """``over_current.ocN_events``: how often the power supply's protection asked for a slowdown."""

    def find(self) -> List[ScaledPath]:
        found = []
        for chip in numbered(self.context.host.sys / "class" / "hwmon", "hwmon"):
            if try_text(chip / "name") != "soctherm_oc":
                continue
            for path in sorted(chip.glob("oc[0-9]_event_cnt")):
                name = f"over_current.{path.name.partition('_')[0]}_events"
                found.append((SensorInfo(name, "events", str(path), quantity="counter", caution=OVER_CURRENT_CAUTION), path, 1.0))
        return found


def _old_layout(sysfs: Path) -> List[_Rail]:
    """Up to JetPack 4: an industrial-I/O device with three rails, counted from 0."""
    rails: Dict[str, _Rail] = {}
    for device in sorted((sysfs / "bus" / "i2c" / "drivers" / "ina3221x").glob("*/iio:device*")):
        for number in range(3):
            _add(rails, try_text(device / f"rail_name_{number}"), (device / f"in_power{number}_input",))
    return list(rails.values())


def _new_layout(sysfs: Path) -> List[_Rail]:
    """From JetPack 5: a hwmon chip with three inputs, counted from 1; 4 to 6 are the shunts' voltages and 7 is their sum."""
    rails: Dict[str, _Rail] = {}
    chips = sorted((sysfs / "bus" / "i2c" / "devices").glob("*/hwmon/hwmon*")) or numbered(sysfs / "class" / "hwmon", "hwmon")
    for chip in chips:
        if try_text(chip / "name") != "ina3221":
            continue
        for number in range(1, 4):
            # A channel that was switched off cannot be read at all.
            if try_int(chip / f"in{number}_enable") != 0:
                _add(rails, try_text(chip / f"in{number}_label"), (chip / f"in{number}_input", chip / f"curr{number}_input"))
    return list(rails.values())


def _add(rails: Dict[str, _Rail], label: Optional[str], files: Tuple[Path, ...]) -> None:
    if label is None or label == "NC":
        return
    name = word(label)
    if name in rails:
        name = f"{name}{sum(known.startswith(name) for known in rails) + 1}"
    rails[name] = _Rail(name, files)
