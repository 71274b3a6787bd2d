"""A PostgreSQL and a Redis of a benchmark's own, on Unix sockets below one folder, with the settings that a lab would use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_START_SECS = 60.0


class Server:
    """One process that dies with this one; ``stop`` ends it in order, ``kill`` at once, ``start`` starts it (again)."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, ready: Callable[[], bool], stop_signal: int = signal.SIGTERM
    ) -> None:
        self.name, self.folder = name, folder
        self._command, self._ready, self._stop_signal = list(command), ready, stop_signal
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, variables: dict[str, str] | None = None) -> None:
        """Start the process and wait until it serves. Raises RuntimeError with its last words."""
        log = self.folder / f"{self.name}.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.worker.child", str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECS
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._end(self._stop_signal)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def redis_server(folder: Path) -> tuple[Server, str]:
    """A Redis with an append-only file; the address is Celery's."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise RuntimeError("redis-server is not installed: apt-get install redis-server")
    socket = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", ""]
    client = [str(Path(binary).with_name("redis-cli")), "-s", str(socket), "ping"]

    def ready() -> bool:
        return socket.exists() and subprocess.run(client, capture_output=True, check=False).stdout.strip() == b"PONG"

    return Server("redis", [binary, *options, "--dir", str(folder)], folder, ready), f"redis+socket://{socket}"


def postgres_server(folder: Path) -> tuple[Server, str]:
    """A PostgreSQL with its own settings (durable); the folder is given to the user that runs it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not programs:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
    binaries = programs[-1].parent
    # PostgreSQL refuses to run as root.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    home = folder / "postgres"
    home.mkdir()
    if user:
        shutil.chown(home, "postgres", "postgres")
    data = home / "data"
    making = [*user, str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    subprocess.run(making, check=True, stdout=subprocess.DEVNULL, cwd=home)
    # Becoming another user forgets the parent-death signal, so it is asked for again.
    again = [*user, "--pdeathsig", "INT"] if user else []
    command = [*again, str(binaries / "postgres"), "-D", str(data), "-k", str(home), "-c", "listen_addresses=", "-c", "max_connections=200"]
    asking = [str(binaries / "pg_isready"), "-q", "-h", str(home)]
    server = Server("postgres", command, folder, lambda: subprocess.call(asking) == 0, signal.SIGINT)
    return server, f"postgresql://postgres@/postgres?host={home}"
