"""The power rails of a Jetson as tegrastats prints them, where no file can be read: one long-lived process, all generations of lines."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from typing import Dict, List, Optional

from agent import board
from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, Sensor, SensorContext, numbered, word
from agent.sensors.linux import no_temperature
from agent.sensors.rails import board_rails

CAUTION = "printed by tegrastats, so up to 1 s old"

_PERIOD_MS = 1000
_FIRST_LINE_SECS = 4.0
#: So many readings without a line, and what was printed last is no reading any more.
_STALE_READINGS = 3

#: ``VDD_IN 933/933`` or ``VDD_GPU_SOC 2390mW/2390mW``, lately with a third number; RAM and SWAP end in MB instead.
_RAIL = re.compile(r"(?<!\S)([A-Za-z]\w*) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+(?:mW)?)?(?!\S)")
#: ``CPU@23C``, ``CV0@-256C``, lately ``cpu@52.968C/52.968C``.
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C(?:/-?\d+(?:\.\d+)?C)?(?!\S)")
#: ``GR3D_FREQ 5%@1377`` or ``GR3D_FREQ 12%@[1300,1300]``, in MHz; without the clock on the oldest.
_GPU = re.compile(r"(?<!\S)GR3D_FREQ \d+%@\[?(\d+)")


def parse_line(line: str) -> Dict[str, float]:
    """Return the readings of one line by channel: ``power.<rail>_mw``, ``thermal.<zone>_c``, ``clock.gpu_khz``. Placeholders are left
    out.
    """
    found: Dict[str, float] = {}
    for rail, milliwatts in _RAIL.findall(line):
        if rail != "NC":
            found[f"power.{word(rail)}_mw"] = float(milliwatts)
    for zone, celsius in _TEMPERATURE.findall(line):
        name = f"thermal.{word(zone)}_c"
        if no_temperature(name, float(celsius)) is None:
            found[name] = float(celsius)
    clock = _GPU.search(line)
    if clock is not None:
        found["clock.gpu_khz"] = float(clock.group(1)) * 1000
    return found


class Tegrastats(Sensor):
    """The rails; temperatures and the graphics clock only where the kernel's files have none."""

    min_period_secs = _PERIOD_MS / 1000

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._names: List[str] = []
        self._summed: List[str] = []
        self._tail = b""
        self._line = ""
        self._age = 0

    def probe(self) -> List[SensorInfo]:
        host, programs = self.context.host, self.context.programs
        program = programs.find("tegrastats") if board.is_tegra(host) else None
        if program is None:
            return []
        try:
            self._process = subprocess.Popen(
                [program, "--interval", str(_PERIOD_MS)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
            )
            assert self._process.stdout is not None
            os.set_blocking(self._process.stdout.fileno(), False)
            readings = parse_line(self._first_line())
        except OSError as error:
            self.close()
            return [SensorInfo("power.board_mw", "mW", program, f"first reading failed: {error}", quantity="power")]
        has_zones = bool(numbered(host.sys / "class" / "thermal", "thermal_zone"))
        has_devfreq = any((host.sys / "class" / "devfreq").glob("*"))
        wanted = {"power.": True, "thermal.": not has_zones, "clock.": not has_devfreq}
        self._names = [name for name in readings if any(name.startswith(prefix) and want for prefix, want in wanted.items())]
        rails = [name[len("power.") : -len("_mw")] for name in self._names if name.startswith("power.")]
        board_names, caution = board_rails(rails)
        self._summed = [f"power.{rail}_mw" for rail in board_names]
        kinds = {"power.": ("mW", "power"), "thermal.": ("°C", "temperature"), "clock.": ("kHz", "clock")}
        channels = []
        for name in self._names:
            unit, quantity = kinds[name.partition(".")[0] + "."]
            channels.append(SensorInfo(name, unit, program, quantity=quantity, caution=CAUTION))
        if self._summed:
            more = CAUTION if caution is None else f"{CAUTION}; {caution}"
            channels.append(SensorInfo("power.board_mw", "mW", " + ".join(board_names), quantity="power", caution=more))
        return channels

    def read_into(self, values: List[float], offset: int) -> None:
        if not self._names:
            values[offset] = MISSING
            return
        self._drain()
        readings = parse_line(self._line) if self._age < _STALE_READINGS else {}
        self._age += 1
        found = [readings.get(name, MISSING) for name in self._names]
        if self._summed:
            found.append(sum(readings.get(name, MISSING) for name in self._summed))
        values[offset : offset + len(found)] = found

    def close(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def _drain(self) -> None:
        """Keep the last whole line that was printed."""
        if self._process is None or self._process.stdout is None:
            return
        with contextlib.suppress(OSError):
            while True:
                part = os.read(self._process.stdout.fileno(), 65536)
                if not part:
                    break
                lines, _, self._tail = (self._tail + part)[-65536:].rpartition(b"\n")
                if lines:
                    self._line, self._age = lines.rpartition(b"\n")[2].decode("utf-8", "replace"), 0

    def _first_line(self) -> str:
        end = time.monotonic() + _FIRST_LINE_SECS
        while not self._line:
            ended = self._process is None or self._process.poll() is not None
            self._drain()
            if not self._line and (ended or time.monotonic() > end):
                raise OSError(f"tegrastats printed nothing {'and ended' if ended else f'in {_FIRST_LINE_SECS:g} s'}")
            time.sleep(0.01)
        return self._line
