"""The kernel's files about this machine. Their roots are arguments, so that a recorded tree can stand in for a board."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional


@dataclass(frozen=True)
class HostFiles:
    """Where procfs, sysfs and the configuration files are mounted."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    etc: Path = Path("/etc")


def read_text(path: Path, max_bytes: int = 1024 * 1024) -> str:
    """Return a kernel file's text without surrounding blanks and NULs. Raises OSError; kernel drivers may fail in any way they like."""
    with open(path, "rb") as file:
        return file.read(max_bytes).decode("utf-8", "replace").strip("\0 \t\r\n")


def try_text(path: Path) -> Optional[str]:
    """Like :func:`read_text`, None when it cannot be read or is empty."""
    try:
        return read_text(path) or None
    except (OSError, ValueError):
        return None


def try_int(path: Path) -> Optional[int]:
    """Return the whole number in a kernel file, None when it cannot be read or is none."""
    text = try_text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
