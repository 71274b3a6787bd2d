"""The lab that chaos befalls: PostgreSQL and Redis, two schedulers, two gateways with two workers each, and boards behind SSH.

Every process is started again a second after its death, as systemd would. The boards are real OpenSSH servers on loopback, each with a
root of its own, behind a link that can be cut.
"""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loopback.postgres import Postgres, postgres_programs
from benchmarks.loopback.sshd import Sshd
from benchmarks.loopback.tcp_proxy import TcpProxy
from benchmarks.plan import REPOSITORY
from orchestrator.service.context import Context, open_context
from orchestrator.service.ssh_devices import NewSshDevice, add_ssh_device
from orchestrator.store.database import read_session
from orchestrator.store.tables import Lock
from orchestrator.worker.redis_server import redis_command
from orchestrator.worker.settings import Settings

GATEWAYS = ("north", "south")
_RESTART_SECS = 1.0
_STOP_SECS = 30.0


@dataclass
class Service:
    """A process of the control plane, started again when it has died; ``not_before`` holds that back."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    not_before: float = 0.0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None


@dataclass(frozen=True)
class Board:
    """One device: its SSH server, the link in front of that, and its root."""

    name: str
    gateway: str
    sshd: Sshd
    link: TcpProxy
    root: Path


@dataclass(frozen=True)
class LivingRun:
    """A run whose runner lives on a board now, as the process table has it."""

    board: str
    run: str
    runner_pid: int
    supervisor_pid: int


class Lab:
    """Use as a context manager; call :meth:`ensure` about ten times a second, from the thread that started it."""

    def __init__(self, folder: Path, board_count: int, agent_python: Path) -> None:
        self.folder = folder
        self._agent_python = agent_python
        programs = postgres_programs()
        self._postgres = Postgres(programs) if programs else None
        home, socket = folder / "home", folder / "redis.sock"
        url = self._postgres.url if self._postgres else None
        self.settings = Settings(home=home, redis_url=f"redis+socket://{socket}", database_url=url, artifacts_url=None)
        worker = [sys.executable, "-m", "orchestrator.worker"]
        self.services = [
            Service("redis", redis_command(socket, folder / "redis")),
            *(Service(f"scheduler-{number}", [*worker, "scheduler"]) for number in (1, 2)),
            *(Service(f"worker-{gateway}-{number}", [*worker, "worker", gateway]) for gateway in GATEWAYS for number in (1, 2)),
        ]
        self.boards = [self._board(number) for number in range(board_count)]
        self._context: Context | None = None

    def __enter__(self) -> Lab:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *about: object) -> None:
        self.stop()

    @property
    def database(self) -> str:
        return "PostgreSQL" if self._postgres else "SQLite"

    @property
    def context(self) -> Context:
        assert self._context is not None
        return self._context

    def service(self, name: str) -> Service:
        return next(item for item in self.services if item.name == name)

    def board(self, name: str) -> Board:
        return next(item for item in self.boards if item.name == name)

    def ensure(self) -> None:
        """Start again what has died and waited long enough."""
        now = time.monotonic()
        for service in self.services:
            if service.process is not None and service.process.poll() is not None:
                service.process, service.not_before = None, max(service.not_before, now + _RESTART_SECS)
            if service.process is None and now >= service.not_before:
                service.process = self._spawn(service)

    def active_scheduler(self) -> Service | None:
        """The scheduler whose term it is, as the database has it."""
        with read_session(self.context.engine) as session:
            lock = session.get(Lock, "scheduler")
        pid = int(lock.holder.split(":")[1]) if lock is not None else None
        return next((service for service in self.services if service.name.startswith("scheduler") and service.pid == pid), None)

    def living_runs(self) -> list[LivingRun]:
        """Every runner that is at work on a board: seen from outside, by no lock and no log of the agent's."""
        roots = {str(board.root): board.name for board in self.boards}
        found = []
        for pid, words in _command_lines():
            if "runner" in words and "--root" in words:
                place = words.index("--root") + 1
                board = roots.get(words[place]) if place < len(words) else None
                parent = parent_of(pid)
                if board is not None and parent is not None:
                    found.append(LivingRun(board, words[words.index("runner") + 1], pid, parent))
        return found

    def last_words(self) -> str:
        """The end of every service's log: why a lab does not start."""
        logs = sorted((self.folder / "logs").glob("*.log"))
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-500:]}" for path in logs)

    def agent_processes(self) -> list[str]:
        """Command lines of whatever works on a board: supervisors, runners, commands."""
        roots = {str(board.root) for board in self.boards}
        return [f"{pid} {' '.join(words)[:200]}" for pid, words in _command_lines() if roots.intersection(words)]

    def drives_in_hand(self) -> dict[str, list[str]]:
        """The jobs that each worker drives this moment, by the locks it holds; read from the kernel's table, which disturbs nobody."""
        owners = _flock_owners()
        found: dict[str, list[str]] = {}
        for gateway in GATEWAYS:
            for path in (self.settings.home / "gateway" / gateway / "locks").glob("*"):
                with suppress(FileNotFoundError):
                    pid = owners.get(path.stat().st_ino)
                    for service in self.services:
                        if pid is not None and service.pid == pid:
                            found.setdefault(service.name, []).append(path.name.rpartition(".")[0])
        return found

    def stop(self) -> None:
        """End everything: the control plane in order, then the boards' servers and what still runs on them."""
        for service in reversed(self.services):
            _end(service)
        for board in self.boards:
            board.link.close()
            board.sshd.stop()
        for line in self.agent_processes():
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        if self._context is not None:
            self._context.engine.dispose()
        if self._postgres is not None:
            self._postgres.stop()

    # --- below ---------------------------------------------------------------------------------------------

    def _board(self, number: int) -> Board:
        name = f"board-{number + 1}"
        sshd = Sshd(self.folder / "sshd" / name)
        return Board(name, GATEWAYS[number % len(GATEWAYS)], sshd, TcpProxy(sshd.port), self.folder / name)

    def _start(self) -> None:
        if self._postgres is not None:
            self._postgres.start()
        self._context = open_context(self.settings)
        with ThreadPoolExecutor(max_workers=len(self.boards)) as pool:
            list(pool.map(self._register, self.boards))
        self.ensure()

    def _register(self, board: Board) -> None:
        board.sshd.start()
        asked = NewSshDevice(
            name=board.name,
            target=f"{getpass.getuser()}@127.0.0.1:{board.link.port}",
            profile="linux-x86_64",
            key_file=str(board.sshd.client_key),
            jump="none",
            gateway=board.gateway,
            root=str(board.root),
            # The boards share this computer with the control plane, which a real board does not.
            interpreter=("nice", "-n", "10", str(self._agent_python)),
        )
        added = add_ssh_device(self.context, asked, board.sshd.host_key)
        if added.problem is not None:
            raise added.problem

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("EDGEMATRIX_")}
        variables |= {"EDGEMATRIX_HOME": str(self.settings.home), "EDGEMATRIX_REDIS_URL": str(self.settings.redis_url)}
        if self.settings.database_url is not None:
            variables["EDGEMATRIX_DATABASE_URL"] = self.settings.database_url
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{service.name}.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "orchestrator.worker.child", str(os.getpid()), *service.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=variables | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])},
                start_new_session=True,
            )


def parent_of(pid: int) -> int | None:
    """The parent of a process, None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            yield int(name), words


def _flock_owners() -> dict[int, int]:
    """Inode to process, for every file lock held on this computer."""
    owners = {}
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        # "->" marks one who waits.
        if words[1] == "FLOCK":
            owners[int(words[5].rpartition(":")[2])] = int(words[4])
    return owners


def _end(service: Service) -> None:
    if service.process is None:
        return
    for sent in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            service.process.send_signal(sent)
        if sent != signal.SIGCONT:
            with suppress(subprocess.TimeoutExpired):
                service.process.wait(_STOP_SECS)
                return
