"""The table of transports: how each kind of device is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.errors import RequestInvalid
from orchestrator.transports.base import CommandResult, Transport
from orchestrator.transports.local import LocalTransport
from orchestrator.transports.ssh import SshTransport

__all__ = ["TRANSPORTS", "CommandResult", "Transport", "open_transport"]

#: Name → how to open it from a device's address. Adding a way to reach a device is one file and one line here.
TRANSPORTS: dict[str, Callable[[Mapping[str, Any]], Transport]] = {
    "local": lambda address: LocalTransport(),
    "ssh": lambda address: SshTransport(address),
}


def open_transport(name: str, address: Mapping[str, Any]) -> Transport:
    """Open the transport of that name; :class:`RequestInvalid` names those there are."""
    try:
        return TRANSPORTS[name](address)
    except KeyError:
        raise RequestInvalid(f"there is no transport {name!r}", f"use one of: {', '.join(sorted(TRANSPORTS))}") from None
