"""The embedded default: Redis, scheduler and worker as children of the command, restarted when they die, gone when it is.

One process per home folder owns them, by a file lock. Another command on the same home uses what the first one runs, and takes over when
that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from agent.errors import DiskFull, FolderUnwritable, InfrastructureError
from orchestrator.worker.redis_server import redis_command
from orchestrator.worker.settings import Settings

_STOP_GRACE_SECS = 10.0
#: A child that died is started again after this time, doubled each time it dies young, so that a broken installation does not spin.
_RESTART_FIRST_SECS = 0.2
_RESTART_MOST_SECS = 5.0
_YOUNG_SECS = 5.0
_LOG_BYTES = 4 * 1024 * 1024
_PROBE_BYTES = 256 * 1024


class StackBroken(InfrastructureError):
    code = "stack_broken"


@dataclass
class _Child:
    name: str
    command: Callable[[], list[str]]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    wait_secs: float = _RESTART_FIRST_SECS
    deaths: int = 0


class EmbeddedStack:
    """Start with :meth:`ensure`, call it about once a second from the same thread, end with :meth:`stop`.

    The children are bound to the *thread* that starts them (the kernel's parent-death signal), so that must be one that lives as long
    as the stack.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock: IO[str] | None = None
        gateway = settings.gateway
        entry = [sys.executable, "-m", "orchestrator.worker"]
        self._children = [
            _Child("redis", lambda: redis_command(settings.redis_socket, settings.home / "redis")),
            _Child("scheduler", lambda: [*entry, "scheduler"]),
            _Child("worker", lambda: [*entry, "worker", gateway]),
        ]

    def __enter__(self) -> EmbeddedStack:
        self.ensure()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def owns(self) -> bool:
        """Whether this process runs the stack of its home, rather than using another command's."""
        return self._lock is not None

    def ensure(self) -> None:
        """Make sure that somebody runs the stack of this home, and that every child of ours lives.

        Raises :class:`StackBroken` with the child's last words when one dies again and again, :class:`agent.errors.DiskFull` when that is
        for want of room.
        """
        if self._lock is None and not self._take_lock():
            return
        for child in self._children:
            self._ensure_child(child)

    def stop(self) -> None:
        """End the children in order: the worker finishes what it has in hand, Redis goes last."""
        for child in reversed(self._children):
            self._end(child, signal.SIGTERM, _STOP_GRACE_SECS)
        self._give_lock()

    def stop_now(self) -> None:
        """Kill the children. What they were doing is taken up by the next run: see ``edgematrix resume``."""
        for child in reversed(self._children):
            self._end(child, signal.SIGKILL, _STOP_GRACE_SECS)
        self._give_lock()

    def _take_lock(self) -> bool:
        path = self._settings.home / "run" / "stack.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        except OSError as error:
            raise FolderUnwritable(
                f"{path} cannot be written: {error.strerror}", "set EDGEMATRIX_HOME to a folder you may write"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._lock = file
        return True

    def _give_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _ensure_child(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            if child.process.poll() is None:
                return
            died_young = now - child.started_at < _YOUNG_SECS
            child.deaths = child.deaths + 1 if died_young else 1
            child.wait_secs = min(child.wait_secs * 2, _RESTART_MOST_SECS) if died_young else _RESTART_FIRST_SECS
            child.process = None
            if child.deaths > 5:
                self._refuse_full_home()
                raise StackBroken(f"{child.name} died {child.deaths} times; its last words: {self._last_words(child)}", "edgematrix doctor")
        if child.started_at and now - child.started_at < child.wait_secs:
            return
        child.started_at = now
        child.process = self._spawn(child)

    def _spawn(self, child: _Child) -> subprocess.Popen[bytes]:
        log = self._log_path(child)
        log.parent.mkdir(parents=True, exist_ok=True)
        mode = "ab" if log.exists() and log.stat().st_size < _LOG_BYTES else "wb"
        environment = dict(os.environ, EDGEMATRIX_HOME=str(self._settings.home), EDGEMATRIX_REDIS_URL=self._settings.resolved_redis_url)
        with log.open(mode) as output:
            return subprocess.Popen(
                [sys.executable, "-m", "orchestrator.worker.child", str(os.getpid()), *child.command()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # A session of its own: Ctrl-C in the terminal reaches the command alone, which then decides.
                start_new_session=True,
            )

    def _log_path(self, child: _Child) -> Path:
        return self._settings.home / "logs" / f"{child.name}.log"

    def _refuse_full_home(self) -> None:
        """On a full disk children die without a word, for even their logs have no room; then the disk is what there is to say."""
        probe = self._settings.home / "run" / ".probe"
        try:
            probe.write_bytes(os.urandom(_PROBE_BYTES))
        except OSError as error:
            kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else FolderUnwritable
            raise kind(
                f"no room to write {probe.parent}: {error.strerror}", "free space on the disk of EDGEMATRIX_HOME, then: edgematrix resume"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    def _last_words(self, child: _Child) -> str:
        with contextlib.suppress(OSError):
            return self._log_path(child).read_bytes()[-400:].decode("utf-8", "replace").strip()
        return "none"

    def _end(self, child: _Child, first: signal.Signals, grace_secs: float) -> None:
        process, child.process, child.started_at = child.process, None, 0.0
        if process is None or process.poll() is not None:
            return
        for sent in (first, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=grace_secs)
                return
