"""The systemd units as a host of a lab runs them: their commands and variables, read from the files under ``deploy/systemd``."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.running import REPOSITORY

UNITS = REPOSITORY / "deploy" / "systemd"
INSTALLED_AT = "/opt/edgematrix/.venv/bin/edgematrix"
STATE_FOLDER = "/var/lib/edgematrix"


@dataclass(frozen=True)
class Unit:
    """One unit, for an instance if it is a template."""

    command: list[str]
    variables: dict[str, str]
    options: Mapping[str, str]

    @property
    def stop_secs(self) -> float:
        return float(self.options["TimeoutStopSec"])


def read_unit(file: str, instance: str = "") -> Unit:
    """Read a unit as systemd does: ``%i`` is the instance, a variable is ``NAME=value``."""
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((UNITS / file).read_text())
    options = {name: value.replace("%i", instance) for name, value in parser["Service"].items()}
    variables = dict(pair.split("=", 1) for pair in shlex.split(options["Environment"]))
    return Unit(shlex.split(options["ExecStart"]), variables, options)


@dataclass
class Service:
    """A unit that was started: its process is restarted only by hand, so that a test sees what it does without."""

    unit: Unit
    home: Path
    settings: Mapping[str, str]
    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> Service:
        program, *arguments = self.unit.command
        assert program == INSTALLED_AT
        state = {name: value.replace(STATE_FOLDER, str(self.home)) for name, value in self.unit.variables.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EDGEMATRIX_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).parent / Path(program).name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**inherited, "NO_COLOR": "1", **state, **self.settings},
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> tuple[int, float]:
        """Stop it as systemd does, but without its last resort; return the exit code and how long it took, in seconds."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(self.unit.stop_secs)
        return code, time.monotonic() - began

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
