"""One emulated device: its folder, its processes, its SSH server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.lab import faulty_package
from deploy.lab.commands import run
from deploy.lab.definition import LabDevice
from deploy.lab.errors import LabBroken
from deploy.lab.kinds import KINDS, Kind
from deploy.lab.network import Network
from deploy.lab.plant_definition import PlantDefinition
from deploy.lab.plant_lifecycle import PlantProcess
from deploy.lab.processes import children, python, remember, remembered

_INIT = Path(__file__).with_name("init.py")
#: Enters groups, given how many and their entrances, and becomes the command after them.
_ENTER = 'count=$1; shift; while [ "$count" -gt 0 ]; do echo $$ > "$1" || exit 1; shift; count=$((count - 1)); done; exec "$@"'
_START_SECS = 30.0
_STOP_SECS = 10.0


@dataclass(frozen=True)
class Machine:
    """``number`` decides the address; ``folder`` keeps its disk, its keys and its log, also while it is down."""

    about: LabDevice
    number: int
    folder: Path
    network: Network

    @property
    def name(self) -> str:
        return self.about.name

    @property
    def kind(self) -> Kind:
        return KINDS[self.about.kind]

    @property
    def address(self) -> str:
        return self.network.address(self.number)

    @property
    def root(self) -> Path:
        """Where its root is mounted; only its own processes see anything there."""
        return self.folder / "root"

    @property
    def plant(self) -> PlantProcess:
        """The device's plant, for those that have one."""
        return PlantProcess(self.network.lab, self.name, self.folder)

    @property
    def core(self) -> int:
        """The core of this machine that a device with a plant is held on: another one for each, the first one last."""
        asked = self.about.plant.core if self.about.plant is not None else None
        usable = sorted(os.sched_getaffinity(0))
        return asked if asked is not None else usable[(self.number + 1) % len(usable)]

    @property
    def host_key(self) -> str:
        """The host's public key, as it is pinned."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def marked_new(self) -> bool:
        """Whether its disk is empty since the last :meth:`forget_new`: what was installed there is gone."""
        return (self.folder / "new").exists()

    def forget_new(self) -> None:
        (self.folder / "new").unlink(missing_ok=True)

    def runs_otherwise(self, base: Path) -> bool:
        """Whether it runs as an earlier definition had it, or on an earlier root."""
        return self.first_pid() is not None and _read_config(self.folder) != self._config(base)

    def start(self, base: Path, client_key: Path) -> None:
        """Start the device unless it runs, and wait until its SSH server answers. On another ``base`` than before its disk is emptied.

        A plant that runs goes on: a device that was off meanwhile has cooled down, not more.
        """
        if self.about.plant is not None:
            self.plant.start(self.about.plant, self.core)
        if self.first_pid() is None:
            self._prepare(base, client_key)
            self.network.connect(self.name, self.number)
            self._spawn()
        deadline = time.monotonic() + _START_SECS
        while not self.answers():
            if self.first_pid() is None or time.monotonic() > deadline:
                raise LabBroken(f"{self.name} does not come up: {self._last_words()}", "edgematrix lab down, then up again")
            time.sleep(0.05)

    def stop(self) -> None:
        """End every process of the device, and take its network away."""
        first = self.first_pid()
        if first is not None:
            os.kill(first, signal.SIGKILL)
            deadline = time.monotonic() + _STOP_SECS
            while self.first_pid() is not None:
                if time.monotonic() > deadline:
                    raise LabBroken(f"process {first} of {self.name} does not end", f"see `ps {first}`; a driver may hang")
                time.sleep(0.02)
        (self.folder / "pid").unlink(missing_ok=True)
        self.plant.stop()
        self.network.disconnect(self.name, self.number)

    def cut(self) -> None:
        """Pull its cable."""
        self.network.cut(self.number)

    def restore(self) -> None:
        """Put its cable back."""
        self.network.restore(self.number)

    def answers(self) -> bool:
        """Whether its SSH server greets us."""
        try:
            with socket.create_connection((self.address, 22), 1.0) as connection:
                connection.settimeout(2.0)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def first_pid(self) -> int | None:
        """The process of this machine that is the device's first one; None while it is down."""
        return first_pid_of(self.folder)

    def pids(self) -> list[int]:
        """Every process of the device, by its number on this machine."""
        first = self.first_pid()
        if first is None:
            return []
        space = os.readlink(f"/proc/{first}/ns/pid")
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(entry / "ns" / "pid") == space:
                    found.append(int(entry.name))
        return sorted(found)

    def kill_sshd(self) -> list[int]:
        """Kill -9 its SSH server and every connection of it; the device starts it again. Returns what was killed."""
        killed = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip().startswith("sshd"):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
        return killed

    # --- below -----------------------------------------------------------------------------------------------

    def _prepare(self, base: Path, client_key: Path) -> None:
        if base_of(self.folder) != base:
            # Changes to one root mean nothing on another.
            for part in ("upper", "work"):
                shutil.rmtree(self.folder / part, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "new").touch()
        for part in ("root", "upper", "work", "etc", "etc-work"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        faulty_package.remove(self.folder / "upper")
        if self.about.faulty_above_c is not None:
            faulty_package.install(self.folder / "upper", self.about.faulty_above_c)
        if not (self.folder / "host_key").exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(self.folder / "host_key"))
        (self.folder / "etc" / "passwd").write_text("root:*:0:0:root:/root:/bin/sh\nsshd:*:101:65534::/run/sshd:/usr/sbin/nologin\n")
        Path("/run/sshd").mkdir(exist_ok=True)
        (self.folder / "sshd_config").write_text(
            "\n".join(
                [
                    f"ListenAddress {self.address}:22",
                    f"HostKey {self.folder}/host_key",
                    f"AuthorizedKeysFile {client_key}.pub",
                    f"ChrootDirectory {self.root}",
                    "Subsystem sftp internal-sftp",
                    "PidFile none",
                    "UsePAM no",
                    "UseDNS no",
                    "StrictModes no",
                    "PasswordAuthentication no",
                    "PermitRootLogin prohibit-password",
                    "PrintMotd no",
                    "PrintLastLog no",
                    "MaxSessions 100",
                    "MaxStartups 100",
                    "",
                ]
            )
        )
        (self.folder / "init.json").write_text(json.dumps(self._config(base), indent=1))

    def _config(self, base: Path) -> dict[str, Any]:
        return {
            "name": self.name,
            "address": self.address,
            "base": str(base),
            "root": str(self.root),
            "upper": str(self.folder / "upper"),
            "work": str(self.folder / "work"),
            "etc": str(self.folder / "etc"),
            "etc_work": str(self.folder / "etc-work"),
            "sshd_config": str(self.folder / "sshd_config"),
            "programs": list(self.kind.programs),
            "faulty_above_c": self.about.faulty_above_c,
            "plant": None if self.about.plant is None else self._plant_config(self.about.plant),
        }

    def _plant_config(self, about: PlantDefinition) -> dict[str, Any]:
        mounts = [[item.kind, item.options, item.place] for item in self.plant.group.hierarchies]
        return {"about": about.model_dump(mode="json"), "core": self.core, "sys": str(self.plant.sys), "mounts": mounts}

    def _spawn(self) -> None:
        spaces = ["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--kill-child=KILL"]
        before: list[str] = []
        if self.about.plant is not None:
            # From the outside in: first of the group and on the core, so that every process of the device is; then blind for other groups.
            entrances = [str(path) for path in self.plant.group.entrances()]
            before = ["sh", "-c", _ENTER, "sh", str(len(entrances)), *entrances, "taskset", "--cpu-list", str(self.core)]
            spaces.append("--cgroup")
        device = [python(), "-I", str(_INIT), str(self.folder / "init.json")]
        command = [*before, "ip", "netns", "exec", self.network.space(self.name), *spaces, *device]
        with (self.folder / "log").open("ab") as log:
            outer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _START_SECS
        while not (found := children(outer.pid)):
            if outer.poll() is not None or time.monotonic() > deadline:
                raise LabBroken(f"{self.name} does not start: {self._last_words()}", "edgematrix lab down, then up again")
            time.sleep(0.01)
        remember(self.folder / "pid", found[0])

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")[-600:].strip()
        return "nothing"


def machines(devices: Sequence[LabDevice], folder: Path, network: Network) -> list[Machine]:
    """The machines of a definition, numbered in its order."""
    return [Machine(about, number, folder / about.name, network) for number, about in enumerate(devices)]


def base_of(folder: Path) -> Path | None:
    """The root that the disk of the device in ``folder`` is a change of; None for a device that never was up."""
    base = _read_config(folder).get("base")
    return Path(base) if isinstance(base, str) else None


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "init.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def first_pid_of(folder: Path) -> int | None:
    """The first process of the device in ``folder``; None while it is down, also when this machine was restarted since."""
    return remembered(folder / "pid")
