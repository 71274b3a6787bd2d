"""The fence: the highest lease number this device has seen. Whoever holds a lower one no longer owns the device and changes nothing.

Every command that reads or changes a run holds ``fence.lock`` for its short duration, so commands never overlap.
"""

from __future__ import annotations

import contextlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from agent import layout, locks, protocol
from agent.errors import EdgematrixError, InfrastructureError, RequestInvalid, StaleFence, storage_error

#: Fences are SQL BIGINTs.
MAX_FENCE = 2**63 - 1


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the device's lock for the body; creates the root. Raises DiskFull or FolderUnwritable when it cannot."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = locks.held(root / protocol.FENCE_LOCK_FILE)
        lock.__enter__()
    except OSError as error:
        raise storage_error(error, root) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@contextmanager
def owned(root: Path, fence: int) -> Iterator[None]:
    """Hold the device's lock for the body as the owner of ``fence``; a higher fence than the device has seen becomes the device's.

    Raises :class:`StaleFence` when the device has seen a higher one.
    """
    if not 0 <= fence <= MAX_FENCE:
        raise RequestInvalid(f"{fence} is no fence", f"fences are whole numbers from 0 to {MAX_FENCE}")
    with locked(root):
        highest = read(root)
        if fence < highest:
            raise StaleFence(
                f"fence {fence} is stale: this device has seen {highest}", "another lease owns this device now; give this one up"
            )
        if fence > highest:
            _write(root, fence)
        yield


def read(root: Path) -> int:
    """Return the highest fence seen, 0 on a new device.

    Raises :class:`InfrastructureError` when the file is damaged: guessing could let a stale owner in.
    """
    data = layout.read_file(root / protocol.FENCE_FILE, 4096)
    if data is None:
        return 0
    try:
        fence = json.loads(data)["fence"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(root) from error
    if not isinstance(fence, int) or isinstance(fence, bool) or not 0 <= fence <= MAX_FENCE:
        raise _damaged(root)
    return fence


def owner(folder: Path, otherwise: int) -> int:
    """Return the fence under which a run is owned now: ``otherwise`` (its own), or the higher one of whoever adopted it."""
    with contextlib.suppress(EdgematrixError, ValueError, KeyError, TypeError):
        return max(otherwise, int(json.loads(layout.read_file(folder / layout.OWNER_FILE, 4096) or b"{}")["fence"]))
    return otherwise


def adopt(folder: Path, fence: int) -> None:
    """Make ``fence`` the run's owner unless a higher one is. Raises OSError when that cannot be written."""
    if owner(folder, -1) < fence:
        layout.write_note(folder / layout.OWNER_FILE, json.dumps({"fence": fence}).encode())


def _write(root: Path, fence: int) -> None:
    path = root / protocol.FENCE_FILE
    try:
        layout.write_note(path, json.dumps({"fence": fence}).encode())
    except OSError as error:
        raise storage_error(error, path) from error


def _damaged(root: Path) -> InfrastructureError:
    path = os.fspath(root / protocol.FENCE_FILE)
    return InfrastructureError(f"{path} is damaged", f"make sure that no run lives on this device (`ps`), then remove {path}")
