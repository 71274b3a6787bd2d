"""Puts a supervisor into the background, free of the session, the terminal and the connection that asked for it."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

import agent
from agent import host, layout, protocol
from agent.errors import InternalError


def detach(root: Path, folder: Path, request: protocol.RunRequest, runner_argv: Sequence[str], agent_sha256: str, lock: int) -> None:
    """Fork twice and supervise the run in the grandchild; return in the caller at once.

    The grandchild is the leader of no terminal, has its own session, umask 077, ``/`` as its folder, its messages in
    ``supervisor.log`` and no open descriptor but ``lock``, under which it lives. It keeps this interpreter, however that was
    started: nothing is executed anew.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _become_background(folder, lock)
        # After the fork, so that commands that do not supervise start without it.
        from agent.supervisor import Run, Supervisor

        Supervisor(Run(root, folder, request, tuple(runner_argv), _environment(), agent_sha256)).supervise()
    except BaseException:  # noqa: BLE001 (the last place where anything can still be told)
        host.log(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def running_archive() -> Optional[Path]:
    """Return the zipapp this runs from, None when it runs from a folder of sources."""
    archive = getattr(agent.__spec__.loader if agent.__spec__ is not None else None, "archive", None)
    return Path(os.path.abspath(archive)) if archive is not None else None


def runner_argv(archive: Optional[Path], command_line: Sequence[str], script: str, executable: str, root: Path, name: str) -> List[str]:
    """Return the command of a run's runner, in this same interpreter and from this same agent.

    ``command_line`` is this process' own, ``script`` its first argument of ours. Raises :class:`InternalError` outside a zipapp:
    only that has a digest.
    """
    if archive is None:
        raise InternalError("runs are started by the zipapp, not from a folder of sources", "build it: orchestrator.dispatch.agent_package")
    return [*interpreter_argv(command_line, script, executable), str(archive), "runner", name, "--root", str(root)]


def interpreter_argv(command_line: Sequence[str], script: str, executable: str) -> List[str]:
    """Return how this interpreter was called: everything before the script, which may begin with a loader (``ld-linux … python3``).

    A bare command name becomes ``executable``: a detached process must not depend on PATH.
    """
    argv = list(command_line[: command_line.index(script)]) if script in command_line else []
    if not argv or os.sep not in argv[0]:
        argv = [executable, *argv[1:]]
    return [os.path.abspath(argv[0]), *argv[1:]]


def own_command_line() -> List[str]:
    """Return this process' command line as the kernel has it; empty where it does not tell."""
    try:
        return [os.fsdecode(part) for part in Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]]
    except OSError:
        return []


def _environment() -> Mapping[str, str]:
    return dict(os.environ)


def _become_background(folder: Path, lock: int) -> None:
    os.umask(0o077)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(folder / layout.SUPERVISOR_LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != lock:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is gone by now
                os.close(int(name))
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
