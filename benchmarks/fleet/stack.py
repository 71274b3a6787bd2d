"""The whole control plane as a lab runs it (PostgreSQL, Redis, two schedulers, the gateways' workers), and what it costs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.loopback.postgres import Postgres, postgres_programs
from benchmarks.servers import Server, redis_server

#: Drives wait for their device most of the time, and a gateway of this lab has hundreds.
_WORKER_SLOTS = 32


@dataclass
class Stack:
    """Start with :meth:`start_servers`, then :meth:`start_control_plane`."""

    folder: Path
    gateways: tuple[str, ...]
    workers: int
    servers: dict[str, Server] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    postgres: Postgres | None = None

    def start_servers(self) -> None:
        """Start PostgreSQL and Redis. Raises RuntimeError where they are not installed."""
        programs = postgres_programs()
        if programs is None:
            raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
        self.postgres = Postgres(programs)
        self.postgres.start()
        redis, redis_url = redis_server(self.folder)
        self.servers["redis"] = redis
        redis.start()
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith("EDGEMATRIX_")} | {
            "EDGEMATRIX_HOME": str(self.folder / "home"),
            "EDGEMATRIX_DATABASE_URL": self.postgres.url,
            "EDGEMATRIX_REDIS_URL": redis_url,
            "EDGEMATRIX_ARTIFACTS_URL": str(self.folder / "artifacts"),
            "EDGEMATRIX_WORKER_SLOTS": str(_WORKER_SLOTS),
        }

    def start_world(self, recordings: Path, seed: int) -> Path:
        """Start the simulated devices; return their socket."""
        socket = self.folder / "world.sock"
        self._add("world", [sys.executable, "-m", "benchmarks.fleet.world", str(socket), str(recordings), str(seed)], socket)
        return socket

    def start_control_plane(self) -> None:
        for gateway in self.gateways:
            for name in self.workers_of(gateway):
                self._add(name, [sys.executable, "-m", "benchmarks.fleet.wire", gateway])
        for name in ("scheduler", "standby"):
            self._add(name, [sys.executable, "-m", "orchestrator.worker", "scheduler"])

    def workers_of(self, gateway: str) -> list[str]:
        """The names of a gateway's workers: each is a process, and uses one core at most."""
        return [f"{gateway} worker {number + 1}" for number in range(self.workers)]

    def restart(self, name: str) -> None:
        self.servers[name].start(self.variables)

    def stop(self) -> None:
        for server in reversed(list(self.servers.values())):
            server.stop()
        if self.postgres is not None:
            self.postgres.stop()

    def _add(self, name: str, command: list[str], appears: Path | None = None) -> None:
        server = Server(name.replace(" ", "-"), command, self.folder, lambda: appears is None or appears.exists())
        server.start(self.variables)
        self.servers[name] = server

    # --- cost ---------------------------------------------------------------------------------------------------

    def cpu_secs(self) -> dict[str, float]:
        """CPU seconds so far of every process of the control plane; the world is not a part of it."""
        return {name: _cpu_secs(pid) for name, pid in self._control_plane().items()}

    def resident_bytes(self) -> dict[str, int]:
        """Memory that belongs to each process and its children alone (USS); shared pages of PostgreSQL are not counted again and again."""
        return {name: sum(_unique_bytes(process) for process in _tree(pid)) for name, pid in self._control_plane().items()}

    def _control_plane(self) -> dict[str, int | None]:
        pids = {name: server.pid for name, server in self.servers.items() if name != "world"}
        return {"postgres": self.postgres.pid if self.postgres is not None else None} | pids


def _tree(pid: int | None) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid) if pid is not None else None
        return [process, *process.children(recursive=True)] if process is not None else []
    except psutil.NoSuchProcess:
        return []


def _cpu_secs(pid: int | None) -> float:
    """With what its ended children used, which their parent keeps count of."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _unique_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except psutil.NoSuchProcess:
        return 0
