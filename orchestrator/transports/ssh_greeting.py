"""The first words with a host, before anybody knows who it is: bounded in time and in bytes, since anything may listen on a port."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import paramiko

from agent.errors import DeviceUnreachable
from orchestrator.transports.ssh_errors import heard
from orchestrator.transports.ssh_route import Hop

LOGIN_TIMEOUT_SECS = 20.0
#: Unacknowledged bytes a host may send us: with the library's 2 MiB a link with delay stands idle.
_WINDOW_BYTES = 2**31 - 1
#: An honest host needs a few kB until its key is known; the library itself would read a line without end for ever.
_MAX_GREETING_BYTES = 256 * 1024
_AHEAD_BYTES = 256 * 1024


class _Bounded:
    """A socket, or what stands for one, whose other end may send so much until :meth:`trust`."""

    def __init__(self, way: Any) -> None:
        self._way = way
        self._left_bytes = _MAX_GREETING_BYTES
        self._ahead = memoryview(b"")
        self.recv: Callable[[int], bytes] = self._bounded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._way, name)

    def trust(self) -> None:
        self.recv = self._buffered

    def _buffered(self, count: int) -> bytes:
        """The library asks for a packet's first bytes and then for the rest: most packets are here by then, without asking the kernel."""
        if not self._ahead:
            self._ahead = memoryview(self._way.recv(max(count, _AHEAD_BYTES)))
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        return bytes(taken)

    def _bounded(self, count: int) -> bytes:
        data: bytes = self._way.recv(count)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise paramiko.SSHException(f"it sent {_MAX_GREETING_BYTES} bytes and has not said who it is")
        return data


def greet(way: Any, hop: Hop, kinds: Sequence[str]) -> paramiko.Transport:
    """Exchange keys over ``way``, asking for a host key of one of ``kinds`` first; nobody is logged in yet.

    :func:`trust` belongs after the host's key was found right. Raises :class:`DeviceUnreachable` for what does not speak SSH with us.
    """
    transport = paramiko.Transport(_Bounded(way), default_window_size=_WINDOW_BYTES)
    try:
        options = transport.get_security_options()
        options.ciphers = _fast_first(options.ciphers)
        first = [name for kind in kinds for name in _algorithms(kind) if name in options.key_types]
        options.key_types = [*first, *(name for name in options.key_types if name not in first)]
        transport.banner_timeout = LOGIN_TIMEOUT_SECS
        transport.start_client(timeout=LOGIN_TIMEOUT_SECS)
        if not transport.initial_kex_done:
            # The library just returns when its time is over.
            raise paramiko.SSHException(f"it does not answer within {LOGIN_TIMEOUT_SECS:g} s")
    except Exception as error:
        transport.close()
        # A host that sends garbage makes the library fail in many ways.
        raise DeviceUnreachable(
            f"{hop.host} port {hop.port} does not speak SSH with us: {heard(error) or 'the connection was closed'}",
            "is that port its SSH server, and does that server work? ssh -v shows what both sides say",
        ) from error
    return transport


def trust(transport: paramiko.Transport) -> None:
    """Let a host that has shown the right key send what it wants to."""
    way: _Bounded = transport.sock
    way.trust()


def _fast_first(ciphers: Sequence[str]) -> list[str]:
    """AES in counter mode with its own integrity check needs no second pass over the data."""
    return sorted(ciphers, key=lambda name: "gcm" not in name)


def _algorithms(kind: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
