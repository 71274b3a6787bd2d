"""Processes that outlive the command that started them: found again by number and start time, so that no other is taken for one."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def remember(file: Path, pid: int) -> None:
    """Note a living process in ``file``."""
    file.write_text(f"{pid} {_start_ticks(pid)}")


def remembered(file: Path) -> int | None:
    """The process noted in ``file``; None when it has ended, also when this machine was restarted since."""
    try:
        pid, started = file.read_text().split()
        return int(pid) if _start_ticks(int(pid)) == int(started) else None
    except (OSError, ValueError):
        return None


def children(pid: int) -> list[int]:
    """The children of a process's first thread."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def python() -> str:
    """The interpreter itself rather than a virtual environment's link to it: isolated mode needs nothing of the environment."""
    return os.path.realpath(sys.executable)


def _start_ticks(pid: int) -> int:
    """When a process started, in ticks since boot; -1 for one that is gone, or dead and not yet collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return -1
