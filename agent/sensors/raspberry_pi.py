"""What only the firmware of a Raspberry Pi knows: the true Arm clock, why it slowed down, and on a Pi 5 the power of its rails.

Source: Raspberry Pi documentation of vcgencmd and of frequency management. Tried on captured texts, not on a board.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

from agent import board
from agent.host import try_int, try_text
from agent.protocol import SensorInfo
from agent.sensors.base import MISSING, Sensor, SensorContext, numbered, word
from agent.sensors.pi_firmware import FLAGS, STICKY_SHIFT, Firmware, open_firmware, parse_answers, parse_rails

REMEDY = "let the agent's user read /dev/vcio (group video)"
BOARD_POWER_CAUTION = "without the 5 V loads: the rail EXT5V has no current"

_COMMANDS = ("measure_temp", "measure_clock arm", "get_throttled", "measure_volts core")
_RAIL_COMMANDS = ("pmic_read_adc",)


class PiFirmware(Sensor):
    """``throttled``, ``under_voltage``, ``frequency_capped`` and ``soft_temperature_limit`` ``.firmware`` as they are now,
    ``sticky.<same>`` since boot, ``clock.arm_khz``, ``voltage.core_mv``, and ``thermal.soc_c`` where no thermal zone gives it.
    """

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._firmware: Optional[Firmware] = None
        self._commands: List[str] = []
        self._keys: List[str] = []

    def probe(self) -> List[SensorInfo]:
        if not board.is_raspberry_pi(self.context.host):
            return []
        self._firmware, complaint = open_firmware(self.context.host, self.context.programs)
        now = [SensorInfo(f"{name}.firmware", "flag", "get_throttled", quantity="flag") for name in FLAGS.values()]
        if self._firmware is None:
            error = f"the firmware cannot be asked: {complaint} | {REMEDY}"
            self._keys = [""] * len(now)
            return [SensorInfo(info.name, info.unit, info.source, error, quantity="flag") for info in now]
        self.min_period_secs = self._firmware.min_period_secs
        zone = _zone_of_processor(self.context)
        self._commands = [command for command in _COMMANDS if not (zone and command == "measure_temp")]
        answers = self._answers(self._commands)
        caution = self._firmware.caution
        if caution is not None and complaint:
            caution = f"{caution} ({complaint})"
        channels = {f"now {bit}": info for bit, info in zip(FLAGS, now)}  # noqa: B905 (Python 3.9 has no strict)
        channels.update({f"sticky {bit}": SensorInfo(f"sticky.{name}", "flag", "", quantity="flag") for bit, name in FLAGS.items()})
        channels["arm_khz"] = SensorInfo("clock.arm_khz", "kHz", "measure_clock arm", quantity="clock")
        channels["core_mv"] = SensorInfo("voltage.core_mv", "mV", "measure_volts core", quantity="voltage")
        channels["temp_c"] = SensorInfo("thermal.soc_c", "°C", "measure_temp", quantity="temperature")
        self._keys = [key for key in channels if key in answers]
        source = self._firmware.source
        return [
            SensorInfo(item.name, item.unit, f"{source} {item.source}".strip(), quantity=item.quantity, caution=caution)
            for item in (channels[key] for key in self._keys)
        ]

    def read_into(self, values: List[float], offset: int) -> None:
        answers = self._answers(self._commands)
        for index, key in enumerate(self._keys, offset):
            values[index] = answers.get(key, MISSING)

    def close(self) -> None:
        if self._firmware is not None:
            self._firmware.close()
            self._firmware = None

    def _answers(self, commands: Sequence[str]) -> Dict[str, float]:
        try:
            answers = parse_answers(self._firmware.ask(commands)) if self._firmware is not None else {}
        except (OSError, ValueError):
            return {}
        bits = answers.pop("throttled", None)
        if bits is not None:
            for bit in FLAGS:
                answers[f"now {bit}"] = float(int(bits) >> bit & 1)
                answers[f"sticky {bit}"] = float(int(bits) >> (bit + STICKY_SHIFT) & 1)
        return answers


class PiRails(Sensor):
    """``power.<rail>_mw`` of each rail of a Pi 5, ``power.board_mw`` as their sum, ``voltage.<rail>_mv`` of rails without a current. Older
    boards measure no current and have none of these channels.
    """

    def __init__(self, context: SensorContext) -> None:
        super().__init__(context)
        self._firmware: Optional[Firmware] = None
        self._powered: List[str] = []
        self._others: List[str] = []

    def probe(self) -> List[SensorInfo]:
        if not board.is_raspberry_pi(self.context.host):
            return []
        self._firmware, _ = open_firmware(self.context.host, self.context.programs)
        if self._firmware is None:
            return []
        # The converter needs its time for two dozen values.
        self.min_period_secs = max(0.2, self._firmware.min_period_secs)
        try:
            power, volts = parse_rails(self._firmware.ask(_RAIL_COMMANDS))
        except (OSError, ValueError):
            power, volts = {}, {}
        source, caution = f"{self._firmware.source} pmic_read_adc", self._firmware.caution
        if power:
            self._powered, self._others = list(power), list(volts)
        channels = [SensorInfo(f"power.{rail}_mw", "mW", source, quantity="power", caution=caution) for rail in self._powered]
        if self._powered:
            channels.append(SensorInfo("power.board_mw", "mW", source, quantity="power", caution=BOARD_POWER_CAUTION))
        return channels + [SensorInfo(f"voltage.{rail}_mv", "mV", source, quantity="voltage", caution=caution) for rail in self._others]

    def read_into(self, values: List[float], offset: int) -> None:
        if self._firmware is None or not self._powered:
            return
        try:
            power, volts = parse_rails(self._firmware.ask(_RAIL_COMMANDS))
        except (OSError, ValueError):
            power, volts = {}, {}
        readings = [power.get(rail, MISSING) for rail in self._powered]
        # A sum without one of its parts is no sum: not-a-number stays so in adding.
        readings.append(sum(readings))
        readings += [volts.get(rail, MISSING) for rail in self._others]
        values[offset : offset + len(readings)] = readings

    def close(self) -> None:
        if self._firmware is not None:
            self._firmware.close()
            self._firmware = None


def _zone_of_processor(context: SensorContext) -> bool:
    for zone in numbered(context.host.sys / "class" / "thermal", "thermal_zone"):
        if word(try_text(zone / "type") or "").startswith(("cpu", "soc")) and try_int(zone / "temp") is not None:
            return True
    return False
