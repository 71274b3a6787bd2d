"""How the chamber and the fan around a device are set: registered once, used by the soaks that ask for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.dispatch.ledger import note_change
from orchestrator.dispatch.surroundings import check_surroundings
from orchestrator.domain.reasons import one_line
from orchestrator.service.context import Context
from orchestrator.service.devices import find_device
from orchestrator.store.database import read_session
from orchestrator.store.database import session as open_session
from orchestrator.store.tables import Device


@dataclass(frozen=True)
class SurroundingsView:
    """``commands`` maps what can be set (``chamber``, ``fan``, ``reset``) to the command that does it, run on the gateway."""

    device: str
    gateway: str
    commands: dict[str, str] = field(default_factory=dict)


def get_surroundings(context: Context, name: str) -> SurroundingsView:
    """How the surroundings of this device are set."""
    with read_session(context.engine) as session:
        return _view(find_device(session, name))


def set_surroundings(context: Context, name: str, commands: Mapping[str, list[str]] | None, why: str = "") -> SurroundingsView:
    """Register the commands given (what can be set → program and arguments) beside those there are; with None, that nothing can be set.

    Raises :class:`~orchestrator.dispatch.surroundings.SurroundingsInvalid`.
    """
    if commands is not None:
        check_surroundings(commands)
    with open_session(context.engine) as session:
        device = find_device(session, name)
        old = _words(device)
        device.surroundings = None if commands is None else {**(device.surroundings or {}), **commands}
        session.add(device)
        if _words(device) != old:
            changed = f"surroundings: {old or 'none'}", f"surroundings: {_words(device) or 'none'}"
            note_change(session, "device", name, *changed, context.actor, context.clock(), one_line(why))
        return _view(device)


def _view(device: Device) -> SurroundingsView:
    return SurroundingsView(device.name, device.gateway, {what: shlex.join(argv) for what, argv in (device.surroundings or {}).items()})


def _words(device: Device) -> str:
    return "; ".join(f"{what} by {command}" for what, command in _view(device).commands.items())
