"""The lab as a whole: up, down, and what is the matter with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy.lab import needs, network
from deploy.lab.commands import run
from deploy.lab.definition import LabDefinition
from deploy.lab.machine import Machine, machines
from deploy.lab.roots import is_made, make_roots

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
    """The devices of one definition below ``folder``; everything here may be done twice."""

    def __init__(self, definition: LabDefinition, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.machines = machines(definition.devices, folder)

    @property
    def client_key(self) -> Path:
        """The private key that may log in to every device of the lab."""
        return self.folder / "client_key"

    def __getitem__(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    def up(self, say: Say) -> None:
        """Start what is down; the first time also makes the roots, which takes minutes."""
        needs.provide()
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not self.client_key.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgematrix-lab", "-f", str(self.client_key))
        missing = [name for name in {machine.kind.base for machine in self.machines} if not is_made(name, self.folder)]
        for machine in self.machines:
            if machine.kind.base in missing:
                # Nobody may stand on a root that is made anew; neither may a disk of changes to the old one.
                machine.stop()
                machine.wipe()
        if missing:
            say(f"making the roots of the devices ({', '.join(sorted(missing))}); this is done once and takes some minutes")
        roots = make_roots((machine.kind.base for machine in self.machines), self.folder)
        network.make_bridge()
        with ThreadPoolExecutor(max_workers=8) as pool:
            for machine in pool.map(lambda machine: self._start(machine, roots), self.machines):
                say(f"{machine.name} is up at {machine.address}")

    def down(self) -> None:
        """Stop every device and take everything back that was made on this machine, but for the folder with roots and disks."""
        for machine in self.machines:
            machine.stop()
        self._stop_strangers()
        network.remove_bridge()
        needs.forget_arm64_programs()

    def purge(self) -> None:
        """Remove the folder with roots, disks and keys; only when everything is down."""
        if self.folder.exists():
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

    def _start(self, machine: Machine, roots: dict[str, Path]) -> Machine:
        machine.start(roots[machine.kind.base], self.client_key)
        return machine

    def _stop_strangers(self) -> None:
        """Devices of another definition that was up before."""
        known = {network.namespace_of(machine.name) for machine in self.machines}
        for line in run("ip", "netns", "list").splitlines():
            space = line.split()[0] if line.split() else ""
            if space.startswith("emlab-") and space not in known:
                for pid in run("ip", "netns", "pids", space).split():
                    run("kill", "-9", pid)
                run("ip", "netns", "delete", space)
