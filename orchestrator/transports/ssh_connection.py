"""One logged-in connection: through the hosts in between, to a host that shows the pinned key, with one of the user's keys."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import paramiko

from agent.errors import DeviceUnreachable, EdgematrixError
from orchestrator.transports.ssh_errors import HostKeyChanged, HostKeyUnknown, KeyUnusable, LinkLost, LoginRefused, heard
from orchestrator.transports.ssh_greeting import LOGIN_TIMEOUT_SECS, greet, trust
from orchestrator.transports.ssh_proxy import ProxySocket
from orchestrator.transports.ssh_route import Hop, Route

CONNECT_TIMEOUT_SECS = 10.0
#: The kernel gives a peer up that has not acknowledged what we sent for so long; the default is a quarter of an hour.
_DEAD_PEER_SECS = 15
_KEEPALIVE_SECS = 15

# Its words reach the user as our errors; on its own it would write beside them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class HostKey:
    """A host's public key; ``line`` is how it is pinned, ``fingerprint`` how OpenSSH and people write it."""

    kind: str
    base64: str

    @property
    def line(self) -> str:
        return f"{self.kind} {self.base64}"

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(base64.b64decode(self.base64)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def parse_host_key(line: str) -> HostKey:
    """Read ``TYPE BASE64`` (a comment may follow); :class:`HostKeyUnknown` for anything else."""
    words = line.split()
    with contextlib.suppress(ValueError, IndexError):
        base64.b64decode(words[1], validate=True)
        return HostKey(words[0], words[1])
    raise HostKeyUnknown(f"{line[:60]!r} is no host key", "give `TYPE BASE64`, as in a file of the host's /etc/ssh, or SHA256:…")


@dataclass
class Connection:
    """A logged-in transport and the ones it goes through; closing it closes all of them."""

    transport: paramiko.Transport
    through: tuple[paramiko.Transport, ...]

    @property
    def alive(self) -> bool:
        return bool(self.transport.is_active())

    def close(self) -> None:
        for transport in (self.transport, *reversed(self.through)):
            transport.close()


def connect(route: Route, pinned: HostKey | None, name: str) -> Connection:
    """Log in to the route's device; ``name`` is what a remedy calls it.

    Raises :class:`HostKeyUnknown`, :class:`HostKeyChanged`, :class:`LoginRefused`, :class:`KeyUnusable`, or :class:`DeviceUnreachable`
    with what the network said.
    """
    if pinned is None:
        raise HostKeyUnknown(f"no host key is pinned for {name}", "edgematrix device trust NAME shows its fingerprint and pins it")
    with _going(route) as (opened, way):
        transport = greet(way, route.device, [pinned.kind])
        opened.append(transport)
        _refuse_other_key(transport, pinned, name)
        trust(transport)
        _log_in(transport, route.device)
        transport.set_keepalive(_KEEPALIVE_SECS)
        return Connection(transport, tuple(opened[:-1]))


def ask_host_key(route: Route) -> HostKey:
    """The key that the route's device shows; nobody logs in there."""
    with _going(route) as (opened, way):
        transport = greet(way, route.device, [])
        opened.append(transport)
        shown = _shown_key(transport)
        for item in reversed(opened):
            item.close()
        return shown


# --- the way there -------------------------------------------------------------------------------------------


@contextmanager
def _going(route: Route) -> Iterator[tuple[list[paramiko.Transport], Any]]:
    """Log in to the hosts in between and yield them with a socket to the device; what was opened is closed when the body fails."""
    opened: list[paramiko.Transport] = []
    try:
        way: Any = ProxySocket(route.proxy_command, route.device.host) if route.proxy_command else None
        hops = [*route.jumps, route.device]
        for hop, following in pairwise(hops):
            transport = greet(way or _dial(hop), hop, _known_kinds(hop))
            opened.append(transport)
            _refuse_unknown_jump(transport, hop)
            trust(transport)
            _log_in(transport, hop)
            transport.set_keepalive(_KEEPALIVE_SECS)
            way = _channel_to(transport, hop, following)
        yield opened, way or _dial(route.device)
    except BaseException as error:
        for transport in reversed(opened):
            transport.close()
        if isinstance(error, EdgematrixError) or not isinstance(error, Exception):
            raise
        raise _as_unreachable(error, route.device) from error


def _dial(hop: Hop) -> socket.socket:
    try:
        dialled = socket.create_connection((hop.host, hop.port), CONNECT_TIMEOUT_SECS)
    except socket.gaierror as error:
        raise DeviceUnreachable(
            f"{hop.host} is not a name that resolves: {error.strerror}", "see the spelling, or use its address"
        ) from error
    except TimeoutError as error:
        raise DeviceUnreachable(
            f"{hop.host} port {hop.port} does not answer within {CONNECT_TIMEOUT_SECS:g} s", "is it switched on, and on this network?"
        ) from error
    except ConnectionRefusedError as error:
        raise DeviceUnreachable(f"{hop.host} refuses port {hop.port}", "is its SSH server running? systemctl status ssh") from error
    except OSError as error:
        raise DeviceUnreachable(f"{hop.host} port {hop.port} cannot be reached: {error.strerror or error}", "see its network") from error
    dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_SECS * 1000)
    return dialled


def _channel_to(transport: paramiko.Transport, hop: Hop, following: Hop) -> paramiko.Channel:
    try:
        return transport.open_channel("direct-tcpip", (following.host, following.port), ("127.0.0.1", 0), timeout=CONNECT_TIMEOUT_SECS)
    except (paramiko.SSHException, OSError) as error:
        raise DeviceUnreachable(
            f"{hop.host} does not connect us to {following.host} port {following.port}: {heard(error)}",
            "is the device on, and does that host allow forwarding (AllowTcpForwarding)?",
        ) from error


# --- whom we speak to ----------------------------------------------------------------------------------------


def _shown_key(transport: paramiko.Transport) -> HostKey:
    key = transport.get_remote_server_key()
    return HostKey(key.get_name(), key.get_base64())


def _refuse_other_key(transport: paramiko.Transport, pinned: HostKey, name: str) -> None:
    shown = _shown_key(transport)
    if shown != pinned:
        raise HostKeyChanged(
            f"{name} shows the host key {shown.fingerprint} ({shown.kind}), but {pinned.fingerprint} ({pinned.kind}) is pinned:"
            " it is another machine, was set up anew, or somebody is in between",
            "if it was set up anew, compare the fingerprint on the board and pin it: edgematrix device trust NAME",
        )


def _known_hosts() -> paramiko.HostKeys:
    known = paramiko.HostKeys()
    for path in ("/etc/ssh/ssh_known_hosts", os.path.expanduser("~/.ssh/known_hosts")):
        with contextlib.suppress(OSError, paramiko.SSHException):
            known.load(path)
    return known


def _known_name(hop: Hop) -> str:
    return hop.host if hop.port == 22 else f"[{hop.host}]:{hop.port}"


def _known_kinds(hop: Hop) -> list[str]:
    return list(_known_hosts().lookup(_known_name(hop)) or ())


def _refuse_unknown_jump(transport: paramiko.Transport, hop: Hop) -> None:
    name, known = _known_name(hop), _known_hosts()
    if known.check(name, transport.get_remote_server_key()):
        return
    shown = _shown_key(transport)
    if known.lookup(name):
        raise HostKeyChanged(
            f"the host in between, {name}, shows {shown.fingerprint} ({shown.kind}), which is not what ~/.ssh/known_hosts holds",
            f"if it was set up anew: ssh-keygen -R '{name}', then log in there once by hand",
        )
    raise HostKeyUnknown(
        f"~/.ssh/known_hosts does not know the host in between, {name} ({shown.fingerprint})", f"log in there once by hand: ssh {hop.host}"
    )


# --- who we are ----------------------------------------------------------------------------------------------


def _log_in(transport: paramiko.Transport, hop: Hop) -> None:
    transport.auth_timeout = LOGIN_TIMEOUT_SECS
    tried: list[str] = []
    unusable: list[KeyUnusable] = []
    for source, key in _keys(hop, unusable):
        tried.append(source)
        began = time.monotonic()
        try:
            transport.auth_publickey(hop.user, key)
        except paramiko.BadAuthenticationType as error:
            raise LoginRefused(
                f"{hop.host} takes no keys, only: {heard(', '.join(error.allowed_types))}", "allow PubkeyAuthentication on the device"
            ) from error
        except paramiko.AuthenticationException as error:
            # The library calls it so, too, when no answer came. A host that is through with us says that after several keys.
            closed_at_once = not transport.is_active() and len(tried) == 1
            if closed_at_once or time.monotonic() - began >= LOGIN_TIMEOUT_SECS:
                raise LinkLost(f"{hop.host} did not answer during the login: {heard(error)}", "see the SSH server's log there") from error
            if not transport.is_active():
                break
            continue
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise LinkLost(
                f"{hop.host} closed the connection during the login: {heard(error)}", "see the SSH server's log there"
            ) from error
        if transport.is_authenticated():
            return
    if unusable and not tried:
        raise unusable[0]
    raise LoginRefused(
        f"{hop.host} does not let {hop.user} in; tried: {', '.join(tried) or 'no key, for there is none'}",
        f"put a key there: ssh-copy-id -p {hop.port} {hop.user}@{hop.host} (or name the right one: --key FILE)",
    )


def _keys(hop: Hop, unusable: list[KeyUnusable]) -> Iterator[tuple[str, paramiko.PKey]]:
    """The keys to try with where they are from: named files first, then the agent's; what cannot be used is kept in ``unusable``."""
    for path in hop.key_files:
        try:
            yield str(path), _load_key(path)
        except KeyUnusable as error:
            unusable.append(error)
            if hop.keys_were_named:
                raise
    if hop.use_agent:
        agent = paramiko.Agent()
        try:
            for key in agent.get_keys():
                yield f"agent:{key.comment or key.get_name()}", key
        finally:
            agent.close()


def _load_key(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except FileNotFoundError as error:
        raise KeyUnusable(f"there is no key file {path}", "name the private key to log in with: --key FILE") from error
    except OSError as error:
        raise KeyUnusable(f"{path} cannot be read: {error.strerror}", "make it readable for this user alone: chmod 600") from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        raise KeyUnusable(f"{path} asks for a passphrase, and nobody is here to type it", f"ssh-add {path}") from error
    except Exception as error:
        raise KeyUnusable(f"{path} is no private key we can use: {error}", "make one: ssh-keygen -t ed25519") from error


def _as_unreachable(error: Exception, hop: Hop) -> EdgematrixError:
    if isinstance(error, paramiko.SSHException | EOFError | OSError):
        return DeviceUnreachable(f"{hop.host} port {hop.port}: {heard(error) or type(error).__name__}", "try it by hand: ssh -v")
    return DeviceUnreachable(
        f"{hop.host} port {hop.port}: {type(error).__name__}: {heard(error)}", "please report this with `ssh -v`'s output"
    )
