"""The lab as a whole: up, down, and what is the matter with it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.lab import needs
from deploy.lab.commands import run
from deploy.lab.definition import LabDefinition
from deploy.lab.errors import LabBusy, LabImpossible
from deploy.lab.machine import Machine, base_of, first_pid_of, machines
from deploy.lab.network import Network
from deploy.lab.plant_lifecycle import forget_files, plants_in
from deploy.lab.roots import forget_roots, is_made, make_roots, root_place

FOLDER = Path("/var/lib/edgematrix-lab")
Say = Callable[[str], None]


@dataclass(frozen=True)
class MachineStatus:
    """What is true of one emulated device now; ``state`` is up, starting or down."""

    name: str
    kind: str
    emulated: str
    state: str
    address: str
    root: str
    process_count: int


class Lab:
    """The devices of one definition; everything here may be done twice.

    Below ``folder``, labs share the roots their devices stand on (``roots/``) and what these were made from (``cache/``); disks and keys of
    each lab are in ``labs/NAME``.
    """

    def __init__(self, definition: LabDefinition, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.network = Network(definition.name, definition.network)
        self.home = folder / "labs" / definition.name
        self.machines = machines(definition.devices, self.home, self.network)

    @property
    def client_key(self) -> Path:
        """The private key that may log in to every device of the lab."""
        return self.home / "client_key"

    def __getitem__(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one that changes labs here, for the body; :class:`LabImpossible` without root, :class:`LabBusy` when another is."""
        needs.refuse_without_root()
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LabImpossible(f"{self.folder} cannot be used: {error.strerror}", "make it a folder that root may write") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LabBusy(f"another lab command is at work in {self.folder}", "wait for its end, then try again") from error
            yield
        finally:
            os.close(lock)

    def up(self, say: Say) -> list[Machine]:
        """Start what is down, and return it; the first time also makes the roots, which takes minutes. While :meth:`held`."""
        needs.provide()
        self.home.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not self.client_key.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgematrix-lab", "-f", str(self.client_key))
        bases = {machine.kind.base for machine in self.machines}
        missing = sorted(name for name in bases if not is_made(name, self.folder))
        if missing:
            say(f"making the roots of the devices ({', '.join(missing)}); this is done once and takes some minutes")
        make_roots(bases, self.folder)
        self._stop_strangers()
        for machine in self.machines:
            if machine.runs_otherwise(root_place(machine.kind.base, self.folder)):
                machine.stop()
        self.network.make_bridge()
        down = [machine for machine in self.machines if machine.first_pid() is None]
        with ThreadPoolExecutor(max_workers=8) as pool:
            for machine in pool.map(self._start, self.machines):
                say(f"{machine.name} is up at {machine.address}")
        forget_roots(self.folder, keep=self._bases_in_use())
        return down

    def down(self) -> None:
        """Stop every device and take everything back that was made on this machine, but for the folder. While :meth:`held`."""
        for machine in self.machines:
            machine.stop()
        self._stop_strangers()
        forget_files(self.home.name)
        self.network.remove_bridge()
        if not self._others_are_up():
            needs.forget_arm64_programs()

    def purge(self) -> None:
        """Remove the disks and keys of this lab, and with the last lab the roots; only when it is down. While :meth:`held`."""
        shutil.rmtree(self.home, ignore_errors=True)
        homes = self.folder / "labs"
        if not homes.is_dir() or not any(homes.iterdir()):
            shutil.rmtree(self.folder)

    def status(self) -> list[MachineStatus]:
        return [
            MachineStatus(
                name=machine.name,
                kind=machine.about.kind,
                emulated=machine.kind.emulated,
                state="down" if machine.first_pid() is None else "up" if machine.answers() else "starting",
                address=machine.address,
                root=str(machine.root),
                process_count=len(machine.pids()),
            )
            for machine in self.machines
        ]

    def _start(self, machine: Machine) -> Machine:
        machine.start(root_place(machine.kind.base, self.folder), self.client_key)
        return machine

    def _stop_strangers(self) -> None:
        """Devices of this lab by another definition that was up before."""
        known = {self.network.space(machine.name) for machine in self.machines}
        for space in self.network.spaces():
            if space not in known:
                for pid in run("ip", "netns", "pids", space).split():
                    run("kill", "-9", pid)
                run("ip", "netns", "delete", space)
        names = {machine.name for machine in self.machines}
        for plant in plants_in(self.home):
            if plant.device not in names:
                plant.stop()

    def _bases_in_use(self) -> set[Path]:
        """What disks of any lab here are changes of."""
        folders = [path.parent for path in (self.folder / "labs").glob("*/*/init.json")]
        return {base for folder in folders if (base := base_of(folder)) is not None}

    def _others_are_up(self) -> bool:
        return any(first_pid_of(path.parent) is not None for path in (self.folder / "labs").glob("*/*/pid"))
