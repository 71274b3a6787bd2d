"""The outcome of a run: written last, whole or not at all, and also when the disk is full."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Dict

from agent import layout, protocol
from agent.errors import EdgematrixError, InternalError

_RESERVE_FILE = ".reserve"
#: Freed when the disk is full, so that there is room left to say so.
_RESERVE_BYTES = 128 * 1024


def reserve(folder: Path) -> None:
    """Hold room for the outcome."""
    # Random bytes: a file system that compresses would keep no room for zeros. A full disk is told by what needs the room.
    with contextlib.suppress(OSError):
        (folder / _RESERVE_FILE).write_bytes(os.urandom(_RESERVE_BYTES))


def publish(folder: Path, outcome: protocol.RunOutcome) -> protocol.RunOutcome:
    """Write the outcome and return it as it was written: with less in it when that is what it takes. Raises OSError when nothing helps."""
    path = folder / protocol.OUTCOME_FILE
    outcome = _serializable(outcome)
    for last in (False, False, True):
        if last:
            outcome = replace(outcome, conditions={}, sensors=[])
        try:
            layout.write_file(path, protocol.to_json(outcome).encode())
            break
        except OSError:
            if last:
                raise
            with contextlib.suppress(OSError):
                os.unlink(folder / _RESERVE_FILE)
    with contextlib.suppress(OSError):
        os.unlink(folder / _RESERVE_FILE)
    return outcome


def stream_digests(folder: Path) -> Dict[str, protocol.ContentRef]:
    """Return digest and size of every spool of the run."""
    found = {}
    for stream in protocol.STREAMS:
        with contextlib.suppress(EdgematrixError, OSError):
            content = layout.file_digest(folder / f"{stream}.spool")
            if content is not None:
                found[stream] = content
    return found


def _serializable(outcome: protocol.RunOutcome) -> protocol.RunOutcome:
    """Return the outcome, without the runner's report when that is what cannot be sent (not-a-number values, or larger than a message
    may be).
    """
    try:
        size = len(protocol.to_json(outcome))
    except ValueError as error:
        problem = f"the runner's report cannot be sent: {error}"
    else:
        if size <= protocol.MAX_MESSAGE_BYTES:
            return outcome
        problem = f"the outcome of {size} bytes is more than the {protocol.MAX_MESSAGE_BYTES} a message may have"
    return replace(outcome, status="error", runner=None, error=InternalError(problem, "report this with the run's folder").to_json())
