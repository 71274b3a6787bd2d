"""From an address to the way there: what the user's OpenSSH configuration says of the host, the keys and the hosts in between."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from agent.errors import RequestInvalid

_TARGET = re.compile(r"(?:(?P<user>\S+)@)?(?:\[(?P<bracketed>[^\]\s]+)\]|(?P<host>[^:@\s\[\]]+))(?::(?P<port>[0-9]{1,5}))?\Z")
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_MAX_JUMPS = 8


@dataclass(frozen=True)
class Target:
    """What a person writes: ``user@host:port``; None where it does not say."""

    host: str
    port: int | None = None
    user: str | None = None


@dataclass(frozen=True)
class Hop:
    """One host to log in to: resolved, with the private keys to try in order, and whether those of the agent may be tried."""

    host: str
    port: int
    user: str
    key_files: tuple[Path, ...]
    keys_were_named: bool
    use_agent: bool


@dataclass(frozen=True)
class Route:
    """The hosts in between, in order, then the device; ``proxy_command`` stands for the first connection, when there is one."""

    jumps: tuple[Hop, ...]
    device: Hop
    proxy_command: str | None


def parse_target(text: str) -> Target:
    """Read ``user@host:port``, ``host``, ``user@[2001:db8::1]:22`` or a bare IPv6 address; :class:`RequestInvalid` otherwise."""
    user, _, rest = text.rpartition("@")
    if rest.count(":") > 1 and not rest.startswith("["):
        text = f"{user + '@' if user else ''}[{rest}]"
    found = _TARGET.match(text)
    port = int(found["port"]) if found and found["port"] else None
    host = (found["bracketed"] or found["host"]) if found else ""
    if found is None or host.startswith("-") or (found["user"] or "").startswith("-") or not (port is None or 0 < port < 65536):
        raise RequestInvalid(
            f"{text!r} is no host to log in to", "write user@host, user@host:port, or a Host of your OpenSSH configuration"
        )
    return Target(host, port, found["user"])


def find_route(address: Mapping[str, Any], config_file: Path, environment: Mapping[str, str]) -> Route:
    """Resolve an address of a device: ``host`` (it may be a Host of the configuration), ``port``, ``user``, ``key_file``, ``jump``.

    What the address says comes before what the configuration says, as with OpenSSH's own options. Raises :class:`RequestInvalid` for a
    configuration that cannot be read.
    """
    config = _read_config(config_file)
    told = config.lookup(str(address["host"]))
    jump = address.get("jump") or told.get("proxyjump")
    jumps = _jumps(config, jump, environment) if jump and jump != "none" else ()
    command = None if jumps or address.get("jump") else told.get("proxycommand")
    asked = Target(str(address["host"]), address.get("port"), address.get("user"))
    device = _hop(config, asked, address.get("key_file"), environment)
    return Route(jumps, device, None if command in (None, "none") else str(command))


def _jumps(config: paramiko.SSHConfig, text: str, environment: Mapping[str, str]) -> tuple[Hop, ...]:
    targets = [parse_target(part.strip()) for part in text.split(",")]
    if len(targets) > _MAX_JUMPS:
        raise RequestInvalid(f"{len(targets)} hosts in between are more than {_MAX_JUMPS}", "shorten ProxyJump")
    return tuple(_hop(config, target, None, environment) for target in targets)


def _hop(config: paramiko.SSHConfig, asked: Target, key_file: str | None, environment: Mapping[str, str]) -> Hop:
    told = config.lookup(asked.host)
    named = [key_file] if key_file else _words(told.get("identityfile"))
    home = Path(environment.get("HOME") or Path.home())
    files = [_expanded(name, home) for name in named] or [home / ".ssh" / name for name in _DEFAULT_KEYS]
    only = key_file is not None or str(told.get("identitiesonly", "no")).lower() == "yes"
    port = asked.port or told.get("port") or 22
    user = asked.user or told.get("user") or environment.get("USER") or environment.get("LOGNAME") or "root"
    # A named key that is missing is an error to tell; of the default ones those that exist are tried.
    kept = tuple(path for path in files if key_file or path.exists())
    return Hop(
        str(told.get("hostname", asked.host)), int(port), str(user), kept, bool(key_file), not only and "SSH_AUTH_SOCK" in environment
    )


def _read_config(path: Path) -> paramiko.SSHConfig:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalid(f"{path} cannot be read: {error}", "mend the OpenSSH configuration") from error
    try:
        return paramiko.SSHConfig.from_text(text)
    except Exception as error:
        raise RequestInvalid(f"{path} is not understood: {error}", "mend the OpenSSH configuration") from error


def _words(told: str | Sequence[str] | None) -> list[str]:
    return [told] if isinstance(told, str) else list(told or ())


def _expanded(name: str, home: Path) -> Path:
    return home / name[2:] if name.startswith("~/") else Path(os.path.abspath(name))
