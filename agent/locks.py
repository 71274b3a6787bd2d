"""File locks (flock). The kernel frees a lock when its last holder dies, however it dies, so a held lock proves a living process."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def take(path: Path) -> Optional[int]:
    """Take the lock and return the descriptor that holds it, None when another process has it. Creates the file."""
    descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_held(path: Path) -> bool:
    """Say whether a process holds the lock; False when the file does not exist."""
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def wait_until_free(path: Path, timeout_secs: float) -> bool:
    """Wait until nobody holds the lock; False when somebody still does after ``timeout_secs``."""
    deadline = time.monotonic() + timeout_secs
    while is_held(path):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock for the body, waiting for it as long as it takes: it is only ever held for moments."""
    descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
