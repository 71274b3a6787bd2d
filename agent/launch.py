"""Puts a supervisor into the background, free of the session, the terminal and the connection that asked for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

import agent
from agent import host, layout, protocol
from agent.errors import InternalError, MissingRuntime


def detach(
    root: Path,
    folder: Path,
    request: protocol.RunRequest,
    runner_argv: Sequence[str],
    agent_sha256: str,
    lock: int,
    machine: Optional[host.HostFiles] = None,
) -> None:
    """Fork twice and supervise the run in the grandchild; return in the caller at once.

    The grandchild is the leader of no terminal, has its own session, umask 077, ``/`` as its folder, its messages in
    ``supervisor.log`` and no open descriptor but ``lock``, under which it lives. It keeps this interpreter, however that was
    started: nothing is executed anew. ``machine`` is where the kernel's files are, when not in their usual places.
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

        files = machine or host.HostFiles()
        Supervisor(Run(root, folder, request, tuple(runner_argv), _environment(), agent_sha256, files)).supervise()
    except BaseException:  # noqa: BLE001 (the last place where anything can still be told)
        host.log(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def running_archive() -> Optional[Path]:
    """Return the zipapp this runs from, None when it runs from a folder of sources."""
    archive = getattr(agent.__spec__.loader if agent.__spec__ is not None else None, "archive", None)
    return Path(os.path.abspath(archive)) if archive is not None else None


def need_archive(archive: Optional[Path]) -> Path:
    """Return the zipapp; raise :class:`InternalError` outside one: only that has a digest."""
    if archive is None:
        raise InternalError("runs are started by the zipapp, not from a folder of sources", "build it: orchestrator.dispatch.agent_package")
    return archive


def runner_argv(archive: Path, interpreter: Sequence[str], root: Path, name: str) -> List[str]:
    """Return the command of a run's runner, from this same agent under the request's interpreter.

    The command itself becomes an absolute path: a detached process must not depend on PATH.
    """
    return [resolved_command(interpreter), *interpreter[1:], str(archive), "runner", name, "--root", str(root)]


def resolved_command(interpreter: Sequence[str]) -> str:
    """Return the absolute path of the interpreter's first word. Raises :class:`MissingRuntime` where there is no such command."""
    found = shutil.which(interpreter[0]) if interpreter else None
    if found is None:
        raise MissingRuntime(
            f"this device has no command {interpreter[0] if interpreter else ''!r} to run a model with",
            "register the environment anew with an interpreter that exists: edgematrix env add",
        )
    return os.path.abspath(found)


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
