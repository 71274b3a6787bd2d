"""Sets what is around a device, in the way its lab registered: a chamber's temperature, a fan; by commands that run on the gateway."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from agent.errors import ConfigurationError, InfrastructureError
from orchestrator.domain.soak import Surroundings
from orchestrator.store.tables import Device

_TIMEOUT_SECS = 60.0

#: What can be set → the word that stands for its value in the command. ``reset`` takes none: it brings all back to what is usual.
PLACES: dict[str, str | None] = {"chamber": "{celsius}", "fan": "{state}", "reset": None}


class SurroundingsInvalid(ConfigurationError):
    """What is registered is no way to set a device's surroundings."""

    code = "surroundings_invalid"


class SurroundingsMissing(ConfigurationError):
    """A spec asks for surroundings that nobody has registered a command for."""

    code = "surroundings_missing"


class SurroundingsFailed(InfrastructureError):
    """The command that sets a device's surroundings failed."""

    code = "surroundings_failed"


def check_surroundings(about: Mapping[str, Any]) -> None:
    """Raise :class:`SurroundingsInvalid` unless every command of ``about`` (what can be set → its words) can be run."""
    for what, argv in about.items():
        if what not in PLACES:
            raise SurroundingsInvalid(f"{what!r} is nothing that is set around a device", f"there are: {', '.join(PLACES)}")
        place = PLACES[what]
        if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
            raise SurroundingsInvalid(f"the command for {what} is empty", "give a program and its arguments")
        if place is not None and not any(place in word for word in argv[1:]):
            raise SurroundingsInvalid(
                f"the command for {what} does not say where its value goes: {' '.join(argv)[:200]}", f"write {place} in its place"
            )


def lacking_surroundings(device: Device, asked: Surroundings | None) -> SurroundingsMissing | None:
    """Return the error of a device that has no command for what is asked; None when all can be set."""
    for what, value in _values(asked):
        if what not in (device.surroundings or {}):
            shown = f"--{what} 'COMMAND {PLACES[what]}'"
            return SurroundingsMissing(
                f"the soak asks for the {what} of {device.name} at {value}, and nobody has said how that is set",
                f"edgematrix device surroundings {device.name} {shown}, or leave surroundings out",
            )
    return None


def set_surroundings(device: Device, asked: Surroundings) -> dict[str, str]:
    """Set what is asked, one command after the other, and return what was set to what.

    Raises :class:`SurroundingsMissing` and :class:`SurroundingsFailed`.
    """
    lacking = lacking_surroundings(device, asked)
    if lacking is not None:
        raise lacking
    done = {}
    for what, value in _values(asked):
        argv = (device.surroundings or {})[what]
        _run(device, what, [word.replace(str(PLACES[what]), value) for word in argv])
        done[what] = value
    return done


def reset_surroundings(device: Device) -> None:
    """Bring all back to what is usual, where a command for that is registered. Raises :class:`SurroundingsFailed`."""
    argv = (device.surroundings or {}).get("reset")
    if argv:
        _run(device, "reset", argv)


def _values(asked: Surroundings | None) -> Iterator[tuple[str, str]]:
    if asked is not None and asked.chamber_c is not None:
        yield "chamber", f"{asked.chamber_c:g}"
    if asked is not None and asked.fan is not None:
        yield "fan", asked.fan


def _run(device: Device, what: str, argv: list[str]) -> None:
    remedy = f"try it by hand on the gateway; edgematrix device surroundings {device.name}"
    failed = f"the surroundings of {device.name} were not reset" if what == "reset" else f"the {what} of {device.name} was not set"
    try:
        # Not a pipe: what the command leaves in the background would hold it open.
        with tempfile.TemporaryFile() as words:
            ended = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=words, stderr=words, timeout=_TIMEOUT_SECS, check=False)
            words.seek(max(0, words.seek(0, os.SEEK_END) - 400))
            told = " ".join(words.read(400).decode("utf-8", "replace").split())
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise SurroundingsFailed(f"{failed}: {error}", remedy) from error
    if ended.returncode != 0:
        raise SurroundingsFailed(f"{failed}: {argv[0]} ended with status {ended.returncode}: {told or 'it said nothing'}", remedy)
