"""Boards out of ``fixtures/sensors``: their kernel's files as a tree, their programs as scripts that print what was captured."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.host import HostFiles
from agent.programs import Programs
from agent.sensors import MISSING, Sensor, SensorContext

FIXTURES = Path(__file__).parent / "fixtures" / "sensors"


def write(path: Path, content: str) -> None:
    """In place, as the kernel's files change: a descriptor that is held open sees it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)


class Board:
    """A machine whose files lie below ``root`` and whose programs lie in ``root/programs``."""

    def __init__(self, root: Path, tree: str = "", programs: str = "") -> None:
        self.root = root
        self.host = HostFiles.below(root)
        self.programs = Programs([str(root / "programs")])
        for line in (FIXTURES / f"{tree}.tree").read_text().splitlines() if tree else ():
            path, equals, content = line.partition(" = ")
            if equals and not line.startswith("#"):
                self.write(path, codecs.decode(content, "unicode_escape"))
        for command, text in captured(programs).items() if programs else ():
            self.answer(command, text)

    def write(self, path: str, content: str) -> None:
        write(self.root / path, content)

    def remove(self, path: str) -> None:
        """As the kernel does: who holds the file open reads nothing from it any more."""
        self.write(path, "")
        (self.root / path).unlink()

    def answer(self, command: str, text: str, then: str = "exit 0") -> None:
        """Let a program print this text when it is called in this way, and nothing, with a failure, in any other it was not told of."""
        name, _, arguments = command.partition(" ")
        texts = self.root / "programs" / "texts"
        write(texts / f"{name} {arguments}".replace("/", "_"), text)
        write(texts / f"{name} {arguments}.then".replace("/", "_"), then)
        script = self.root / "programs" / name
        write(script, f'#!/bin/sh\n[ -f "{texts}/{name} $*" ] || exit 1\ncat "{texts}/{name} $*"\n. "{texts}/{name} $*.then"\n')
        script.chmod(0o755)

    def context(self, pid: int = 42) -> SensorContext:
        return SensorContext(self.host, pid, self.programs)


def captured(name: str) -> Mapping[str, str]:
    texts: dict[str, str] = {}
    for block in ("\n" + (FIXTURES / f"{name}.programs").read_text()).split("\n$ ")[1:]:
        command, _, text = block.partition("\n")
        texts[command] = text.rstrip("\n") + "\n"
    return texts


def readings(sensor: Sensor, count: int) -> list[float]:
    values = [MISSING] * count
    sensor.read_into(values, 0)
    return values


def read(sensor: Sensor) -> dict[str, float]:
    """Probe and read once."""
    names = [channel.name for channel in sensor.probe()]
    found = dict(zip(names, readings(sensor, len(names))))  # noqa: B905 (Python 3.9 has no strict)
    assert len(found) == len(names), f"a name stands for two channels: {names}"
    sensor.close()
    return found


def read_until(sensor: Sensor, count: int, satisfied: Callable[[list[float]], bool]) -> list[float]:
    """Read again and again, as the sampler would, until the readings are as they should be."""
    end = time.monotonic() + 20
    while True:
        values = readings(sensor, count)
        if satisfied(values):
            return values
        assert time.monotonic() < end, f"the readings stay {values}"
        time.sleep(0.02)
