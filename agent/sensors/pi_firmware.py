"""Asking the firmware of a Raspberry Pi: through its mailbox, through vcgencmd, or at least what the kernel remembers of it.

Sources: Raspberry Pi documentation of vcgencmd; the mailbox property interface of the firmware (tag 0x00030080, "get command result").
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import struct
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from agent.host import HostFiles, exists
from agent.programs import Polled, Programs
from agent.sensors.base import HeldFile

#: The bits of get_throttled for now; sixteen higher is the same since boot.
FLAGS = {0: "under_voltage", 1: "frequency_capped", 2: "throttled", 3: "soft_temperature_limit"}
STICKY_SHIFT = 16

CACHED_CAUTION = "the kernel's copy of the flags, which it renews every few seconds; the firmware itself could not be asked"

_TIMEOUT_SECS = 10.0
_ANSWER_BYTES = 1024
_TAG_COMMAND_RESULT = 0x00030080
_REQUEST, _ANSWERED = 0, 0x80000000
#: Size, request code, tag, size of the tag's room, length, error; then the text's room and the end tag.
_HEADER = struct.Struct("=6I")
#: _IOWR(100, 0, char *) on a 64-bit kernel.
_PROPERTY_IOCTL = 0xC0086400

_PMIC_LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)


class Firmware(ABC):
    """Somebody who answers the firmware's commands. ``min_period_secs`` is how often it may be asked."""

    source = ""
    min_period_secs = 0.0
    caution: Optional[str] = None

    @abstractmethod
    def ask(self, commands: Sequence[str]) -> str:
        """Return the answers, one under the other; a command that fails has none. Raises OSError when nobody answers."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""


class Mailbox(Firmware):
    """The firmware's own mailbox: one system call for each question."""

    # Each question interrupts the firmware, which also drives the clocks that are being watched.
    min_period_secs = 0.1

    def __init__(self, path: Path, ioctl: Callable[[int, int, bytearray], object] = fcntl.ioctl) -> None:
        self.source = str(path)
        self._ioctl = ioctl
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def ask(self, commands: Sequence[str]) -> str:
        answers = [self._ask(command) for command in commands]
        if not any(answers):
            raise OSError(f"{self.source} answered nothing")
        return "\n".join(answers)

    def close(self) -> None:
        os.close(self._descriptor)

    def _ask(self, command: str) -> str:
        text = command.encode("ascii")
        buffer = bytearray(_HEADER.size + _ANSWER_BYTES + 4)
        _HEADER.pack_into(buffer, 0, len(buffer), _REQUEST, _TAG_COMMAND_RESULT, _ANSWER_BYTES, 0, 0)
        buffer[_HEADER.size : _HEADER.size + len(text)] = text
        self._ioctl(self._descriptor, _PROPERTY_IOCTL, buffer)
        _, code, _, _, _, error = _HEADER.unpack_from(buffer)
        if code != _ANSWERED or error != 0:
            return ""
        return bytes(buffer[_HEADER.size : -4]).split(b"\0", 1)[0].decode("utf-8", "replace")


class Vcgencmd(Firmware):
    """The program vcgencmd. All commands go to one shell, so that a round of questions is one new process."""

    min_period_secs = 1.0
    caution = "asked through vcgencmd, so up to 1 s old"

    def __init__(self, programs: Programs, path: str) -> None:
        self.source = path
        self._programs = programs
        self._polled: Dict[Tuple[str, ...], Polled] = {}

    def ask(self, commands: Sequence[str]) -> str:
        key = tuple(commands)
        if key in self._polled:
            return self._polled[key].read()
        script = "; ".join(f"{shlex.quote(self.source)} {command}" for command in commands)
        polled = Polled(self._programs, ["/bin/sh", "-c", f"{script}; true"])
        text = polled.wait_first(_TIMEOUT_SECS)
        self._polled[key] = polled
        return text

    def close(self) -> None:
        for polled in self._polled.values():
            polled.close()


class KernelCopy(Firmware):
    """The flags as the kernel last heard them: hexadecimal digits in a file that anybody may read."""

    caution = CACHED_CAUTION

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        self._held = HeldFile(path)

    def ask(self, commands: Sequence[str]) -> str:
        if "get_throttled" not in commands:
            raise OSError(f"{self.source} holds the flags alone")
        return f"throttled=0x{int(self._held.read(), 16):x}"

    def close(self) -> None:
        self._held.close()


def open_firmware(host: HostFiles, programs: Programs) -> Tuple[Optional[Firmware], str]:
    """Return the best of the ways that answers at all, with what was wrong with the better ones."""
    complaints: List[str] = []
    for way in _ways(host, programs):
        firmware: Optional[Firmware] = None
        try:
            firmware = way()
            if "throttled" in parse_answers(firmware.ask(["get_throttled"])):
                return firmware, "; ".join(complaints)
            complaints.append(f"{firmware.source} does not know get_throttled")
        except (OSError, ValueError) as error:
            complaints.append(str(error))
        if firmware is not None:
            firmware.close()
    return None, "; ".join(complaints) or "there is no /dev/vcio, no vcgencmd and no get_throttled in sysfs"


def _ways(host: HostFiles, programs: Programs) -> List[Callable[[], Firmware]]:
    ways: List[Callable[[], Firmware]] = []
    ways += [partial(Mailbox, path) for path in (host.dev / "vcio_gencmd", host.dev / "vcio") if exists(path)]
    program = programs.find("vcgencmd")
    if program is not None:
        ways.append(partial(Vcgencmd, programs, program))
    ways += [partial(KernelCopy, path) for path in sorted((host.sys / "devices" / "platform").glob("*/*firmware*/get_throttled"))]
    return ways


def parse_answers(text: str) -> Dict[str, float]:
    """Return what the answers hold: temp_c, arm_khz, core_mv, throttled (the bits). What is not understood is left out."""
    found: Dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        with contextlib.suppress(ValueError):
            if name == "temp":
                found["temp_c"] = float(value.rstrip("'C"))
            elif name.startswith("frequency("):
                found["arm_khz"] = int(value) / 1000
            elif name == "throttled":
                found["throttled"] = int(value, 16)
            elif name == "volt":
                found["core_mv"] = float(value.rstrip("V")) * 1000
    return found


def parse_rails(text: str) -> Tuple[Dict[str, float], Dict[str, float]]:
    """Return power in mW of each rail with a current, and voltage in mV of each without one, from pmic_read_adc.

    Current and voltage belong together by the rail's name; the numbers in brackets are those of the converter's inputs and differ.
    """
    read: Dict[str, Dict[str, float]] = {"A": {}, "V": {}}
    for rail, kind, value in _PMIC_LINE.findall(text):
        with contextlib.suppress(ValueError):
            read[kind][rail.lower()] = float(value)
    amperes, volts = read["A"], read["V"]
    power = {rail: amperes[rail] * volts[rail] * 1000 for rail in amperes if rail in volts}
    return power, {rail: volts[rail] * 1000 for rail in volts if rail not in amperes}


def flags_of(bits: int) -> Tuple[List[str], List[str]]:
    """Return the flags that are set now and those that were set since boot."""
    now = [name for bit, name in FLAGS.items() if bits >> bit & 1]
    return now, [name for bit, name in FLAGS.items() if bits >> (bit + STICKY_SHIFT) & 1]
