"""What one gateway process holds while it drives jobs: the store, its caches, the pooled connections, and a lock per job."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from agent.errors import MissingRuntime
from orchestrator.dispatch.agent_package import AgentPackage, build_agent_package
from orchestrator.dispatch.device_agent import DeviceAgent
from orchestrator.dispatch.lease_keeper import LeaseKeeper
from orchestrator.domain.plan import Plan
from orchestrator.store.artifacts import ArtifactStore
from orchestrator.store.tables import Device, Environment, Experiment
from orchestrator.transports import Transport, open_transport

#: Plans in memory: experiments that run at the same time are few, and a plan may hold hundreds of variants.
_PLANS_KEPT = 8


@dataclass
class Gateway:
    """One per worker process. ``folder`` may be lost at any time: it holds partial spools and caches, never the only copy of anything."""

    engine: Engine
    artifacts: ArtifactStore
    folder: Path
    clock: Callable[[], float]
    #: Only jobs on devices of this gateway are driven here: what keeps two drives of one job apart is this computer's locks.
    name: str
    _transports: dict[tuple[str, str], Transport] = field(default_factory=dict)
    _transports_lock: threading.Lock = field(default_factory=threading.Lock)
    _package: AgentPackage | None = None
    _plans: dict[str, Plan] = field(default_factory=dict)
    keeper: LeaseKeeper = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = LeaseKeeper(self.engine, self.clock)

    @property
    def package(self) -> AgentPackage:
        """The agent of this version, built once per process, and again when its file is gone."""
        if self._package is None or not self._package.path.exists():
            self._package = build_agent_package(self.folder / "agents")
        return self._package

    def agent_for(self, device: Device, interpreter: list[str]) -> DeviceAgent:
        """The device's agent under one interpreter, over this process' pooled connection."""
        return DeviceAgent(self.transport_of(device), device.root, interpreter, self.package)

    def transport_of(self, device: Device) -> Transport:
        """This process' pooled connection to the device; devices at one address share it."""
        key = (device.transport, repr(sorted(device.address.items())))
        with self._transports_lock:
            transport = self._transports.get(key)
            if transport is None:
                transport = self._transports[key] = open_transport(device.transport, device.address)
            return transport

    def environment_of(self, session: Session, device: Device, name: str) -> Environment:
        """The device's environment of that name; :class:`MissingRuntime` says how to add it."""
        found = session.exec(select(Environment).where(col(Environment.device_id) == device.id, col(Environment.name) == name)).first()
        if found is None:
            raise MissingRuntime(
                f"{device.name} has no environment {name!r}", f"edgematrix env add {name} --python PATH --device {device.name}"
            )
        return found

    def plan_of(self, session: Session, experiment_id: str) -> Plan:
        """The experiment's plan; it never changes, so a large one is read and checked once and not at every drive."""
        found = self._plans.get(experiment_id)
        if found is None:
            plan = session.execute(select(Experiment.plan).where(col(Experiment.id) == experiment_id)).scalar_one()
            found = Plan.model_validate(plan)
            # A copy with the newest few, put in place at once: several threads drive.
            self._plans = dict(list(self._plans.items())[1 - _PLANS_KEPT :]) | {experiment_id: found}
        return found

    @contextmanager
    def job_lock(self, job_id: str, fence: int) -> Iterator[bool]:
        """Yield whether this process may drive the job now; a second delivery of the same nudge gets False and goes home.

        Each fence has its own lock: whoever froze with a lower one does not keep the job from its next owner.
        """
        path = self.folder / "locks" / f"{job_id}.{fence}"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            if os.fstat(descriptor).st_nlink == 0:
                # Its holder removed it between our open and our lock: this is no longer the file that others see.
                yield False
                return
            try:
                yield True
            finally:
                # While it is still held, so that nobody finds it and holds it beside us.
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def run_folder(self, run: str, fence: int) -> Path:
        """Where this gateway keeps what it has pulled of one run so far, apart from what a frozen drive may still write."""
        folder = self.folder / "runs" / run / str(fence)
        if not folder.exists():
            earlier = max((number for number in self._fences(run) if number < fence), default=None)
            folder.mkdir(parents=True, exist_ok=True)
            for part in (folder.parent / str(earlier)).glob("*") if earlier is not None else ():
                # Streams are only appended to, so a copy taken at any moment is a beginning of the whole.
                with suppress(FileNotFoundError):
                    shutil.copyfile(part, folder / part.name)
        return folder

    def forget_run(self, run: str, fence: int) -> None:
        """Remove what was pulled under this fence and lower ones; a higher one is another drive's."""
        for number in self._fences(run):
            if number <= fence:
                shutil.rmtree(self.folder / "runs" / run / str(number), ignore_errors=True)
        with suppress(OSError):
            (self.folder / "runs" / run).rmdir()

    def _fences(self, run: str) -> list[int]:
        folder = self.folder / "runs" / run
        return [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()] if folder.is_dir() else []

    def close(self) -> None:
        with self._transports_lock:
            for transport in self._transports.values():
                transport.close()
            self._transports.clear()
