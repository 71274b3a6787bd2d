"""Switches a hung board off and on, in one of the ways a lab has: a command of its own, or a USB hub that can cut the power of a port."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from agent.errors import ConfigurationError
from orchestrator.dispatch.health_findings import HealthCheck
from orchestrator.store.tables import Device

_TIMEOUT_SECS = 60.0
_HUB = re.compile(r"[0-9][0-9.-]{0,30}")


class PowerCycleInvalid(ConfigurationError):
    """What is registered is no way to switch a board off and on."""

    code = "power_cycle_invalid"


def _own_command(about: Mapping[str, Any]) -> list[str]:
    return [str(word) for word in about["argv"]]


def _uhubctl(about: Mapping[str, Any]) -> list[str]:
    hub, port = str(about["hub"]), str(about["port"])
    if not _HUB.fullmatch(hub) or not port.isdecimal():
        raise PowerCycleInvalid(f"{hub}:{port} is no port of a USB hub", "as uhubctl lists them: --uhubctl 1-1.4:2")
    return ["uhubctl", "-a", "cycle", "-l", hub, "-p", port]


#: Driver → the command that does it, run on the gateway. A PDU with a command line of its own is the driver ``command``.
DRIVERS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {"command": _own_command, "uhubctl": _uhubctl}


def cycle_command(about: Mapping[str, Any]) -> list[str]:
    """Return the command that switches a board off and on; :class:`PowerCycleInvalid` for what no driver understands."""
    try:
        argv = DRIVERS[about["driver"]](about)
    except (KeyError, TypeError) as error:
        raise PowerCycleInvalid(f"{dict(about)!r} is no way to switch a board off and on", f"drivers: {', '.join(DRIVERS)}") from error
    if not argv:
        raise PowerCycleInvalid("the command that switches the board off and on is empty", "edgematrix device power NAME --command …")
    return argv


def power_cycle(device: Device) -> HealthCheck:
    """Switch the board off and on from this gateway. What goes wrong is told, never raised."""
    try:
        argv = cycle_command(device.power_cycle or {})
        # Not a pipe: what the command leaves in the background would hold it open.
        with tempfile.TemporaryFile() as words:
            ended = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=words, stderr=words, timeout=_TIMEOUT_SECS, check=False)
            words.seek(max(0, words.seek(0, os.SEEK_END) - 400))
            told = words.read(400).decode("utf-8", "replace").strip()
    except (OSError, ValueError, subprocess.TimeoutExpired, PowerCycleInvalid) as error:
        return HealthCheck("power cycle", "failed", f"could not be tried: {error}", f"edgematrix device power {device.name}")
    if ended.returncode != 0:
        return HealthCheck(
            "power cycle",
            "failed",
            f"{argv[0]} ended with status {ended.returncode}: {told or 'it said nothing'}",
            "try it by hand on the gateway",
        )
    return HealthCheck("power cycle", "ok", "it was switched off and on and is given time to boot")
