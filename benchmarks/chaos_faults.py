"""The faults: drawn by a seed, done to a lab, undone when their time is over, and written down with what they hit."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from celery import Celery
from sqlmodel import col, select

from benchmarks.chaos_lab import GATEWAYS, Board, Lab, LivingRun, Service, parent_of
from orchestrator import __version__
from orchestrator.dispatch.leases import LEASE_SECS
from orchestrator.store.database import read_session
from orchestrator.store.tables import Device, Job
from orchestrator.worker.celery_app import make_app, queue_of
from orchestrator.worker.tasks import DRIVE

#: How long a fault waits for something to hit before it counts as a miss.
PATIENCE_SECS = 20.0
_COPIES = 6


@dataclass(frozen=True)
class Fault:
    """One fault as drawn: ``pause_secs`` after the one before, ``target`` (0 to 1) says which of those it could hit, ``secs`` how long."""

    number: int
    kind: str
    pause_secs: float
    target: float
    secs: float


@dataclass
class Struck:
    """What became of a fault. ``runs``: those at work on boards that it cut off from their orchestrator; ``killed``: the run it ended."""

    number: int
    kind: str
    at_utc: str
    target: str
    secs: float = 0.0
    hit: bool = True
    runs: list[str] = field(default_factory=list)
    killed: str | None = None


@dataclass(frozen=True)
class Kind:
    """``cards``: how often it lies in the deck that faults are drawn from. ``seconds`` draws how long it lasts."""

    cards: int
    what: str
    seconds: Callable[[random.Random], float]
    strike: Callable[[Chaos, Fault], Struck | None]


def draw_faults(count: int, seed: int, mean_pause_secs: float) -> list[Fault]:
    """Draw from a shuffled deck, and shuffle it anew when it is empty: of few faults, too, most kinds occur."""
    generator = random.Random(seed)
    faults: list[Fault] = []
    deck: list[str] = []
    while len(faults) < count:
        if not deck:
            deck = [name for name, kind in KINDS.items() for _ in range(kind.cards)]
            generator.shuffle(deck)
        kind = deck.pop()
        pause = generator.uniform(0.2, 2 * mean_pause_secs - 0.2)
        faults.append(Fault(len(faults) + 1, kind, pause, generator.random(), round(KINDS[kind].seconds(generator), 2)))
    return faults


class Chaos:
    """Does faults to a lab. What lasts is undone by :meth:`undo_due`, or all at once by :meth:`undo_all`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._undo: list[tuple[float, Callable[[], None]]] = []
        self._app: Celery = make_app(str(lab.settings.redis_url))
        self._held: set[str] = set()

    @property
    def pending(self) -> bool:
        """Whether something that lasts still waits for its end."""
        return bool(self._undo)

    def strike(self, fault: Fault) -> Struck | None:
        """Do the fault; None when there is nothing yet that it could hit."""
        return KINDS[fault.kind].strike(self, fault)

    def undo_due(self) -> None:
        now = time.monotonic()
        due = [act for at, act in self._undo if at <= now]
        self._undo = [item for item in self._undo if item[0] > now]
        for act in due:
            act()

    def undo_all(self) -> None:
        acts, self._undo = [act for _, act in self._undo], []
        for act in acts:
            act()
        self._app.close()

    # --- processes of the control plane ----------------------------------------------------------------------

    def kill_worker(self, fault: Fault) -> Struck | None:
        service = _pick(self._free("worker"), fault)
        if service is None:
            return None
        struck = _struck(fault, service.name, self._runs_of_gateway(service))
        self._kill(service)
        return struck

    def kill_scheduler(self, fault: Fault) -> Struck | None:
        service = self.lab.active_scheduler()
        if service is None or service.name in self._held:
            return None
        struck = _struck(fault, service.name, self.lab.living_runs())
        # Kept down past its term, so that the standby takes over.
        service.not_before = time.monotonic() + fault.secs
        self._kill(service)
        return struck

    def kill_redis(self, fault: Fault) -> Struck | None:
        service = self.lab.service("redis")
        if service.pid is None:
            return None
        struck = _struck(fault, service.name, self.lab.living_runs())
        service.not_before = time.monotonic() + fault.secs
        self._kill(service)
        return struck

    def freeze_worker(self, fault: Fault) -> Struck | None:
        """Past its lease, with a drive in hand: the drive wakes up when its job is another's."""
        drives = self.lab.drives_in_hand()
        service = _pick([item for item in self._free("worker") if drives.get(item.name)], fault)
        return self._freeze(fault, service, self._runs_of_gateway(service)) if service else None

    def freeze_scheduler(self, fault: Fault) -> Struck | None:
        """Past its term: when it wakes up there are two that believe they are the active one."""
        service = self.lab.active_scheduler()
        return self._freeze(fault, service, self.lab.living_runs()) if service and service.name not in self._held else None

    def _freeze(self, fault: Fault, service: Service, runs: list[LivingRun]) -> Struck | None:
        process = service.process
        if process is None or service.pid is None:
            return None
        process.send_signal(signal.SIGSTOP)
        self._held.add(service.name)

        def thaw() -> None:
            self._held.discard(service.name)
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)

        self._later(fault.secs, thaw)
        return _struck(fault, service.name, runs)

    def deliver_again(self, fault: Fault) -> Struck | None:
        """Nudge a job that is under way several times at once, and once under each of its device's last fences."""
        with read_session(self.lab.context.engine) as session:
            rows = session.execute(
                select(Job.id, Job.fence, Device.gateway)
                .join(Device, col(Device.lease_job_id) == col(Job.id))
                .where(col(Job.fence).is_not(None))
                .order_by(col(Job.id))
            ).all()
        if not rows or self.lab.service("redis").pid is None:
            return None
        job_id, fence, gateway = rows[int(fault.target * len(rows))]
        # The other gateway's workers are told, too: a message that went astray.
        sent = (
            [(gateway, fence)] * _COPIES + [(other, fence) for other in GATEWAYS] + [(gateway, max(0, fence - back)) for back in (1, 2, 3)]
        )
        try:
            with self._app.connection_for_write() as connection:
                for queue, number in sent:
                    self._app.send_task(DRIVE, args=[job_id, number, __version__], queue=queue_of(queue), connection=connection)
        except Exception:  # noqa: BLE001 - Redis has only just begun to answer; the fault waits
            return None
        return _struck(fault, job_id, [])

    # --- links and servers of the boards ----------------------------------------------------------------------

    def cut_link(self, fault: Fault) -> Struck | None:
        board = self._board(fault)
        if board is None:
            return None
        runs = self._runs_of_board(board)
        board.link.cut()
        self._later(fault.secs, board.link.restore)
        return _struck(fault, board.name, runs)

    def reset_link(self, fault: Fault) -> Struck | None:
        board = self._board(fault)
        if board is None:
            return None
        board.link.reset()
        return _struck(fault, board.name, self._runs_of_board(board))

    def kill_sessions(self, fault: Fault) -> Struck | None:
        board = self._board(fault)
        if board is None:
            return None
        board.sshd.kill_sessions()
        return _struck(fault, board.name, self._runs_of_board(board))

    def kill_sshd(self, fault: Fault) -> Struck | None:
        board = self._board(fault)
        if board is None:
            return None
        board.sshd.stop()
        self._held.add(board.name)

        def start() -> None:
            self._held.discard(board.name)
            board.sshd.start()

        self._later(fault.secs, start)
        return _struck(fault, board.name, self._runs_of_board(board))

    # --- the agent ---------------------------------------------------------------------------------------------

    def kill_supervisor(self, fault: Fault) -> Struck | None:
        return self._kill_run(fault, lambda run: run.supervisor_pid)

    def kill_runner(self, fault: Fault) -> Struck | None:
        return self._kill_run(fault, lambda run: run.runner_pid)

    def _kill_run(self, fault: Fault, victim: Callable[[LivingRun], int]) -> Struck | None:
        runs = sorted(self.lab.living_runs(), key=lambda run: run.run)
        if not runs:
            return None
        run = runs[int(fault.target * len(runs))]
        try:
            handle = os.pidfd_open(victim(run))
        except ProcessLookupError:
            return None
        try:
            # Held by now: if they are still each other's, the number has not become somebody else's.
            if parent_of(run.runner_pid) != run.supervisor_pid:
                return None
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            return None
        finally:
            os.close(handle)
        struck = _struck(fault, f"{run.board} {run.run}", [])
        struck.killed = run.run
        return struck

    # --- below -------------------------------------------------------------------------------------------------

    def _kill(self, service: Service) -> None:
        assert service.process is not None
        service.process.kill()
        service.process.wait()

    def _later(self, secs: float, act: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + secs, act))

    def _free(self, prefix: str) -> list[Service]:
        return [item for item in self.lab.services if item.name.startswith(prefix) and item.pid is not None and item.name not in self._held]

    def _board(self, fault: Fault) -> Board | None:
        """One whose link and server work, and where a run is at work if there is such a one: there is most to lose."""
        working = [board for board in self.lab.boards if not board.link.is_cut and board.name not in self._held]
        busy = {run.board for run in self.lab.living_runs()}
        boards = [board for board in working if board.name in busy] or working
        return boards[int(fault.target * len(boards))] if boards else None

    def _runs_of_board(self, board: Board) -> list[LivingRun]:
        return [run for run in self.lab.living_runs() if run.board == board.name]

    def _runs_of_gateway(self, worker: Service) -> list[LivingRun]:
        mine = [board.name for board in self.lab.boards if f"-{board.gateway}-" in worker.name]
        return [run for run in self.lab.living_runs() if run.board in mine]


def _pick(services: list[Service], fault: Fault) -> Service | None:
    return services[int(fault.target * len(services))] if services else None


def _struck(fault: Fault, target: str, runs: list[LivingRun]) -> Struck:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Struck(fault.number, fault.kind, now, target, fault.secs, runs=sorted(run.run for run in runs))


def _at_once(generator: random.Random) -> float:
    return 0.0


def _cut_secs(generator: random.Random) -> float:
    """Mostly seconds; one in five outlasts the lease."""
    return generator.uniform(LEASE_SECS + 2, LEASE_SECS + 20) if generator.random() < 0.2 else generator.uniform(0.5, 15)


KINDS: dict[str, Kind] = {
    "worker": Kind(3, "kill -9 of a worker", _at_once, Chaos.kill_worker),
    "scheduler": Kind(1, "kill -9 of the active scheduler; the standby takes over", lambda made: made.uniform(1, 9), Chaos.kill_scheduler),
    "redis": Kind(1, "kill -9 of Redis", lambda made: made.uniform(1, 4), Chaos.kill_redis),
    "sshd": Kind(1, "kill -9 of a board's SSH server and its sessions", lambda made: made.uniform(1, 6), Chaos.kill_sshd),
    "sessions": Kind(2, "kill -9 of a board's SSH sessions", _at_once, Chaos.kill_sessions),
    "supervisor": Kind(2, "kill -9 of the agent's supervisor", _at_once, Chaos.kill_supervisor),
    "runner": Kind(2, "kill -9 of the agent's runner", _at_once, Chaos.kill_runner),
    "cut": Kind(3, "a link stands still, then goes on", _cut_secs, Chaos.cut_link),
    "reset": Kind(1, "every connection of a link is closed", _at_once, Chaos.reset_link),
    "freeze worker": Kind(
        1,
        "a worker with a drive in hand is frozen past its lease, then thawed",
        lambda made: made.uniform(LEASE_SECS + 3, LEASE_SECS + 15),
        Chaos.freeze_worker,
    ),
    "freeze scheduler": Kind(
        1, "the active scheduler is frozen past its term: two at once", lambda made: made.uniform(6, 12), Chaos.freeze_scheduler
    ),
    "duplicate": Kind(2, "a nudge is delivered many times, to both gateways, and under older fences", _at_once, Chaos.deliver_again),
}
