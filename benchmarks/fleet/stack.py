"""The whole control plane as a lab runs it (PostgreSQL, Redis, two schedulers, the gateways' workers), and what it costs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.servers import Server, postgres_server, redis_server

#: Drives wait for their device most of the time, and a gateway of this lab has hundreds.
_WORKER_SLOTS = 32


@dataclass
class Stack:
    """Start with :meth:`start_servers`, then :meth:`start_control_plane`."""

    folder: Path
    gateways: tuple[str, ...]
    servers: dict[str, Server] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def start_servers(self) -> None:
        postgres, database_url = postgres_server(self.folder)
        redis, redis_url = redis_server(self.folder)
        self.servers |= {"postgres": postgres, "redis": redis}
        for server in (postgres, redis):
            server.start()
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith("EDGEMATRIX_")} | {
            "EDGEMATRIX_HOME": str(self.folder / "home"),
            "EDGEMATRIX_DATABASE_URL": database_url,
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
            self._add(f"worker {gateway}", [sys.executable, "-m", "benchmarks.fleet.wire", gateway])
        for name in ("scheduler", "standby"):
            self._add(name, [sys.executable, "-m", "orchestrator.worker", "scheduler"])

    def restart(self, name: str) -> None:
        self.servers[name].start(self.variables)

    def stop(self) -> None:
        for server in reversed(list(self.servers.values())):
            server.stop()

    def _add(self, name: str, command: list[str], appears: Path | None = None) -> None:
        server = Server(name.replace(" ", "-"), command, self.folder, lambda: appears is None or appears.exists())
        server.start(self.variables)
        self.servers[name] = server

    # --- cost ---------------------------------------------------------------------------------------------------

    def cpu_secs(self) -> dict[str, float]:
        """CPU seconds so far of every process of the control plane; the world is not a part of it."""
        return {name: _cpu_secs(server) for name, server in self.servers.items() if name != "world"}

    def resident_bytes(self) -> dict[str, int]:
        """Memory that belongs to each process and its children alone (USS); shared pages of PostgreSQL are not counted again and again."""
        told = {}
        for name, server in self.servers.items():
            if name != "world" and server.process is not None:
                told[name] = sum(_unique_bytes(process) for process in _tree(server.process.pid))
        return told


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_secs(server: Server) -> float:
    """With what its ended children used, which their parent keeps count of."""
    total = 0.0
    for process in _tree(server.process.pid) if server.process is not None else []:
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
