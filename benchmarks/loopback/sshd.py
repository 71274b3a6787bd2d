"""A real OpenSSH server on loopback, without root: its own host key, one client key that may log in, everything in one folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

_START_SECS = 20.0


def sshd_program() -> str | None:
    """Where the server is; it insists on being called by its absolute path."""
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class Sshd:
    """Use as a context manager, or ``start`` and ``stop``. The port stays the same over restarts."""

    def __init__(self, folder: Path, *, options: str = "") -> None:
        self.folder = folder
        self.sftp = "internal-sftp"
        self.port = _free_port()
        self.client_key = folder / "client_key"
        self._host_key = folder / "host_key"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        _make_key(self.client_key)
        _make_key(self._host_key)
        shutil.copy(f"{self.client_key}.pub", folder / "authorized_keys")
        (folder / "authorized_keys").chmod(0o600)

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(self, *about: object) -> None:
        self.stop()

    @property
    def host_key(self) -> str:
        """The host's public key as it is pinned."""
        return " ".join(Path(f"{self._host_key}.pub").read_text().split()[:2])

    @property
    def pid(self) -> int:
        """The listener's process; each connection has one of its own below it."""
        assert self._process is not None
        return self._process.pid

    def address(self, **changes: Any) -> dict[str, Any]:
        """The address of this server as a device has it; ``changes`` replace parts of it."""
        found = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "host_key": self.host_key,
            "key_file": str(self.client_key),
        }
        return {**found, "jump": None, **changes}

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self._host_key}\nAuthorizedKeysFile {self.folder}/authorized_keys\n"
            f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n"
            f"MaxStartups 100\nMaxSessions 100\nPermitRootLogin prohibit-password\nSubsystem sftp {self.sftp}\n{self._options}\n"
        )
        program = sshd_program()
        assert program is not None, "there is no sshd: apt-get install openssh-server"
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECS
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not start: {(self.folder / 'sshd.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill the listener and every connection; what sessions started in sessions of their own lives on."""
        self.kill_sessions()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill_sessions(self) -> None:
        """Kill -9 every connection; the listener goes on."""
        self.signal_sessions(signal.SIGKILL)

    def signal_sessions(self, number: signal.Signals) -> None:
        """Send a signal to the process of every connection: SIGSTOP makes them hang as they do on a storage that hangs."""
        for pid in _below(self.pid) if self._process is not None else []:
            if _command_name(pid).startswith("sshd"):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue

    def replace_host_key(self) -> None:
        """Become another machine, as after a new installation."""
        running = self._process is not None
        self.stop()
        for path in (self._host_key, Path(f"{self._host_key}.pub")):
            path.unlink()
        _make_key(self._host_key)
        if running:
            self.start()


def _make_key(path: Path) -> None:
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgematrix-loopback", "-f", str(path)], check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _below(pid: int) -> list[int]:
    """Every descendant of a process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, open_ = [], [pid]
    while open_:
        following = children.get(open_.pop(), [])
        found += following
        open_ += following
    return found


def _command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
