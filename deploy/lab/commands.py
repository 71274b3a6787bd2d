"""Runs the system's own tools, and says what they said when they fail."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from deploy.lab.errors import LabBroken


def run(*command: str, timeout_secs: float = 60.0, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its standard output. Raises :class:`LabBroken` with its last words."""
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_secs, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabBroken(f"{command[0]}: {error}", "edgematrix lab down, then up again") from error
    if ended.returncode != 0:
        told = " ".join((ended.stderr or ended.stdout).decode("utf-8", "replace").split())[-600:]
        raise LabBroken(f"{' '.join(command[:6])} failed: {told or ended.returncode}", "edgematrix lab down, then up again")
    return ended.stdout.decode("utf-8", "replace")


def succeeds(*command: str) -> bool:
    """Whether a command ends with status 0."""

    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60.0, check=False).returncode == 0
