"""This machine's own files, and stderr as the last resort. The roots of the files are arguments: a recorded tree can stand for a board."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Optional


@dataclass(frozen=True)
class HostFiles:
    """Where procfs, sysfs, the configuration files, the devices and Android's system are mounted."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    etc: Path = Path("/etc")
    dev: Path = Path("/dev")
    #: Android's own read-only partition.
    system: Path = Path("/system")

    @classmethod
    def below(cls, root: Path) -> HostFiles:
        """Return the roots of a machine whose files lie below a folder."""
        return cls(**{item.name: root / item.name for item in fields(cls)})


def log(text: str) -> None:
    """Say something on stderr, which may lie on a full disk: then it stays unsaid, because nothing depends on it."""
    with contextlib.suppress(OSError):
        os.write(2, (text.rstrip() + "\n").encode("utf-8", "replace"))


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


def exists(path: Path) -> bool:
    """Say whether a file can be seen; what may not be looked at is not there. ``Path.exists`` raises then, on older interpreters."""
    return os.path.exists(path)
