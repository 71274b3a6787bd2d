"""A board behind a real SSH server on loopback, whose Python a test may turn into anything, and the command line that is used on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loopback.sshd import Sshd
from orchestrator.cli import run
from orchestrator.dispatch.gateway import Gateway
from orchestrator.domain.states import DeviceHealth
from orchestrator.service import ssh_devices
from orchestrator.service.context import Context, open_context
from tests.integration.running import AGENT_PYTHON


@dataclass(frozen=True)
class Said:
    """What a command said: its exit code, and both its outputs as a person reads them, each without the terminal's line breaks."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Board:
    """``python`` is what the board's environment runs; ``root`` its folder. ``name`` is what commands call it."""

    def __init__(self, folder: Path, sshd: Sshd, context: Context, name: str = "board") -> None:
        self.folder, self.sshd, self.context, self.name = folder, sshd, context, name
        folder.mkdir(parents=True, exist_ok=True)
        self.python = folder / "python"
        self.root = folder / "root"
        self.becomes_good()

    def becomes(self, script: str) -> None:
        """Let its Python be a shell script."""
        self.python.write_text(f"#!/bin/sh\n{script}\n")
        self.python.chmod(0o755)

    def becomes_good(self) -> None:
        self.becomes(f'exec {AGENT_PYTHON} "$@"')

    def asked(self, **changes: Any) -> ssh_devices.NewSshDevice:
        values = {
            "name": self.name,
            "target": f"{self.sshd.address()['user']}@127.0.0.1:{self.sshd.port}",
            "profile": "linux-x86_64",
            "key_file": str(self.sshd.client_key),
            "root": str(self.root),
            "interpreter": (str(self.python),),
        }
        return ssh_devices.NewSshDevice(**values | changes)

    def register(self, **changes: Any) -> ssh_devices.AddedDevice:
        return ssh_devices.add_ssh_device(self.context, self.asked(**changes), self.sshd.host_key)

    @property
    def health(self) -> tuple[DeviceHealth, str]:
        (view,) = [item for item in ssh_devices.devices.list_devices(self.context) if item.name == self.name]
        return DeviceHealth(view.health), view.health_reason

    def gateway(self) -> Gateway:
        return self.context.gateway()


class CommandLine:
    """``edgematrix …`` in this process, for one home."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Said:
        self._capture.readouterr()
        code = run(arguments)
        out, err = self._capture.readouterr()
        return Said(code, " ".join(out.split()), " ".join(err.split()))


@contextmanager
def impostor(port: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Stand on a port in place of an SSH server: ``serve`` gets each connection in a thread of its own, which is closed afterwards."""
    listener = socket.create_server(("127.0.0.1", port), reuse_port=False)

    def attend(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except OSError:  # whoever we annoyed went away
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def make_context(home: Path) -> Context:
    from orchestrator.worker.settings import Settings

    return open_context(Settings(home=home))
