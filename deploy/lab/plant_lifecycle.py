"""A device's plant as the lab sees it: its control group, its process, its files, and the orders that it is given."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agent.errors import ConfigurationError
from deploy.lab.errors import LabBroken, LabImpossible
from deploy.lab.plant.groups import ControlGroup, NoControlGroups
from deploy.lab.plant.process import CONTROL_FILE, STATE_FILE, SYS_FOLDER
from deploy.lab.plant.settings import FAN_MODES, FAULTS, Control, Settings, read_control, read_settings
from deploy.lab.plant_definition import PlantDefinition
from deploy.lab.processes import python, remember, remembered

_PROGRAM = Path(__file__).with_name("plant")
#: In memory: the files change fifty times a second.
_FILES = Path("/dev/shm/edgematrix-lab")  # noqa: S108 - a folder of root's own
_START_SECS = 15.0
_OBEY_SECS = 5.0


class OrderRefused(ConfigurationError):
    """A plant cannot do what it is asked."""

    code = "lab_order_refused"


@dataclass(frozen=True)
class PlantProcess:
    """The plant of the device ``device`` of the lab ``lab``; ``folder`` is the machine's, which keeps its configuration and its record."""

    lab: str
    device: str
    folder: Path

    @property
    def files(self) -> Path:
        """Where its orders, its state and the device's sysfs are while it runs."""
        return _FILES / self.lab / self.device

    @property
    def sys(self) -> Path:
        """What the device has as its ``/sys``."""
        return self.files / SYS_FOLDER

    @property
    def journal(self) -> Path:
        """The plant's own record of what was true, as CSV."""
        return self.folder / "plant.csv"

    @property
    def group(self) -> ControlGroup:
        """The device's control group. Raises :class:`LabImpossible` where there is none that can limit CPU time."""
        try:
            return ControlGroup(f"em-{self.lab}-{self.device}")
        except NoControlGroups as error:
            raise LabImpossible(
                f"{self.device} has a plant, and {error}", "use a machine or VM whose root may limit CPU time (cgroup v1 or v2)"
            ) from error

    @property
    def settings(self) -> Settings:
        """What the running plant was made of."""
        return read_settings(self.folder / "plant.json")

    def start(self, about: PlantDefinition, core: int) -> None:
        """Start it unless it runs, and wait until the device's files are there.

        The device may live and hold these files and the group: one after the other is made only where it is missing.
        """
        if self.pid() is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sys.mkdir(parents=True, exist_ok=True)
        for stale in (STATE_FILE, CONTROL_FILE):
            (self.files / stale).unlink(missing_ok=True)
        group = self.group
        try:
            group.make()
        except OSError as error:
            raise LabImpossible(f"{self.device} can have no control group: {error}", "use a machine or VM, not a container") from error
        for hierarchy in group.hierarchies:
            (self.sys / hierarchy.place).mkdir(parents=True, exist_ok=True)
        (self.folder / "plant.json").write_text(json.dumps(self._settings(about, core), indent=1))
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [python(), "-I", str(_PROGRAM), str(self.folder / "plant.json")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        remember(self.folder / "plant.pid", process.pid)
        deadline = time.monotonic() + _START_SECS
        while self._state() is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabBroken(f"the plant of {self.device} does not start", f"see {self.folder}/log")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it, and remove everything of it but its record; only once the device has no process."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            deadline = time.monotonic() + _START_SECS
            while self.pid() is not None and time.monotonic() < deadline:
                time.sleep(0.01)
        (self.folder / "plant.pid").unlink(missing_ok=True)
        with contextlib.suppress(NoControlGroups):
            try:
                ControlGroup(f"em-{self.lab}-{self.device}").remove()
            except OSError as error:
                raise LabBroken(f"the control group of {self.device} is still in use: {error}", "edgematrix lab down again") from error
        shutil.rmtree(self.files, ignore_errors=True)

    def pid(self) -> int | None:
        """The plant's process; None when it does not run."""
        return remembered(self.folder / "plant.pid")

    def state(self) -> dict[str, Any]:
        """What is true now, beside the truth that follows from what it is made of. Raises :class:`LabBroken` when it does not run."""
        found = self._state()
        if self.pid() is None or found is None:
            raise LabBroken(f"the plant of {self.device} does not run", "edgematrix lab up")
        settings = self.settings
        bodies = settings.bodies
        resistances = [(0, settings.board_c_per_watt), *((step.rpm, step.board_c_per_watt) for step in settings.fan)]
        idle, busy = settings.idle_watts, settings.idle_watts + settings.core_watts
        truth = [
            {
                "rpm": rpm,
                "time_constants_secs": bodies.time_constants(value),
                "idle_c": bodies.steady(idle, found["ambient_c"], value)[0],
                "busy_c": bodies.steady(busy, found["ambient_c"], value)[0],
            }
            for rpm, value in resistances
        ]
        return {**found, "core": settings.core, "board": settings.board, "journal": str(self.journal), "truth": truth}

    def order(self, ambient_c: float | None, fan: str | None, faults: Sequence[str] | None, rest: bool) -> None:
        """Change what is given, and return when the plant has followed. Raises :class:`OrderRefused` and :class:`LabBroken`."""
        self.state()
        self._refuse_nonsense(self.settings, fan, faults)
        before = read_control(self.files / CONTROL_FILE)
        new = replace(before, number=before.number + 1, rest=before.rest + rest)
        if ambient_c is not None:
            new = replace(new, ambient_c=ambient_c)
        if fan is not None:
            new = replace(new, fan=fan)
        if faults is not None:
            new = replace(new, faults=tuple(sorted(set(faults))))
        self._write(new)
        deadline = time.monotonic() + _OBEY_SECS
        while self.state()["control"] != new.number:
            if time.monotonic() > deadline:
                raise LabBroken(f"the plant of {self.device} does not follow", "edgematrix lab down, then up again")
            time.sleep(0.02)

    # --- below -----------------------------------------------------------------------------------------------

    def _settings(self, about: PlantDefinition, core: int) -> dict[str, Any]:
        """As :func:`read_settings` reads it."""
        places = {"device": self.device, "group": self.group.name, "folder": str(self.files), "journal": str(self.journal)}
        return {**about.model_dump(mode="json"), "core": core, **places}

    def _refuse_nonsense(self, settings: Settings, fan: str | None, faults: Sequence[str] | None) -> None:
        if fan is not None and fan not in FAN_MODES:
            raise OrderRefused(f"a fan is not {fan!r}", f"one of {', '.join(FAN_MODES)}")
        unknown = sorted(set(faults or ()) - set(FAULTS))
        if unknown:
            raise OrderRefused(f"there is no fault {', '.join(unknown)}", f"one of {', '.join(FAULTS)}, none")
        if (fan is not None or "fan-stop" in (faults or ())) and not settings.fan:
            raise OrderRefused(f"{self.device} has no fan", "a device with one has 'fan:' in its plant: docs/lab.md")
        if "under-voltage" in (faults or ()) and settings.board == "linux":
            raise OrderRefused(f"{self.device} has nothing that could tell of under-voltage", "its board must be raspberry-pi or jetson")

    def _write(self, control: Control) -> None:
        new = self.files / f"{CONTROL_FILE}.new"
        new.write_text(json.dumps(asdict(control)))
        os.replace(new, self.files / CONTROL_FILE)

    def _state(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.files / STATE_FILE).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def forget_files(lab: str) -> None:
    """Remove the folder that held the files of a lab's plants, once none of them runs."""
    for folder in (_FILES / lab, _FILES):
        with contextlib.suppress(OSError):
            folder.rmdir()


def plants_in(home: Path) -> list[PlantProcess]:
    """Every plant that was started below a lab's folder and not stopped since, also those of devices of an earlier definition."""
    return [PlantProcess(home.name, path.parent.name, path.parent) for path in sorted(home.glob("*/plant.pid"))]


def plant_of(device: str, folder: Path) -> PlantProcess:
    """The plant of a device of any lab in ``folder``. Raises :class:`OrderRefused` when there is none of that name, or more than one."""
    found = [path.parent for path in sorted((folder / "labs").glob("*/*/plant.json")) if path.parent.name == device]
    if len(found) == 1:
        return PlantProcess(found[0].parent.name, device, found[0])
    if found:
        labs = ", ".join(path.parent.name for path in found)
        raise OrderRefused(f"{device} is in more than one lab: {labs}", "purge those that are not needed: edgematrix lab down --purge")
    raise OrderRefused(f"no device {device} has a plant here", "edgematrix lab up --devices deploy/lab/heat.yaml makes some: docs/lab.md")
