"""Processes of a benchmark's own that die with it; a Redis among them, with the settings that a lab would use."""

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

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

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
        self._end(signal.SIGTERM)

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
