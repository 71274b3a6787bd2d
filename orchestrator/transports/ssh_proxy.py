"""A command of the user's that leads to a host (ProxyCommand), as a socket.

The library's own class writes parts of what it is given, spins when the command has ended, and leaves it unreaped.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
from typing import Any

from agent.errors import DeviceUnreachable


class ProxySocket:
    """A socket whose other end is a command's standard input and output; closing it ends the command."""

    def __init__(self, command: str, host: str) -> None:
        """Start ``command``; no shell sees it. Raises :class:`DeviceUnreachable` when there is no such command."""
        self._near, far = socket.socketpair()
        with far:
            try:
                self._process = subprocess.Popen(
                    shlex.split(command), stdin=far.fileno(), stdout=far.fileno(), stderr=subprocess.DEVNULL, start_new_session=True
                )
            except (OSError, ValueError, IndexError) as error:
                self._near.close()
                raise DeviceUnreachable(f"ProxyCommand {command!r} of {host}: {error}", "mend the OpenSSH configuration") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._near, name)

    def close(self) -> None:
        self._near.close()
        self._process.kill()
        self._process.wait()
