"""The device's own record of who used it: one line at each beginning and each end, of supervisors and of runners.

``custody.log`` lies in the device's root and is the one proof that does not come from the orchestrator: that no two runs ever used this
device at once can be read from it alone. It is only ever appended to, a line with a single write. Supervisor and runner each write for
themselves; a process that was killed writes nothing, so whoever finds its run lost and has made sure that both are gone writes that down:
its end came no later than that line. A device that cannot write it (a full disk) goes on: the record is evidence, not a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Dict, Optional, Union

from agent.conditions import boot_id
from agent.host import HostFiles

LOG_FILE = "custody.log"
OLD_LOG_FILE = "custody.log.1"
#: About 5,000 lines: a thousand runs.
_MAX_BYTES = 1024 * 1024

#: A supervisor holds the device / has let go of it, its runner being gone.
TAKEN = "taken"
RELEASED = "released"
#: A runner began / is about to exit by itself.
RUNNER_STARTED = "runner_started"
RUNNER_ENDED = "runner_ended"
#: A run whose supervisor vanished was found, and neither it nor its runner lives any more.
FOUND_GONE = "found_gone"


def note(root: Path, event: str, run: str, fence: Optional[int] = None) -> None:
    """Append one line: the event, the run, the fence it is owned under, this process, UTC (ms), and the boot with its monotonic clock (ns).

    Never raises for what the disk does.
    """
    line: Dict[str, Union[str, int, None]] = {
        "event": event,
        "run": run,
        "fence": fence,
        "pid": os.getpid(),
        "utc_ms": time.time_ns() // 1_000_000,
        "boot": boot_id(HostFiles()) or "",
        "monotonic_ns": time.monotonic_ns(),
    }
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(root / LOG_FILE, flags, 0o600)
        try:
            os.write(descriptor, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        finally:
            os.close(descriptor)


def rotate(root: Path) -> None:
    """Put a log that has grown large aside, over the one before it. For whoever holds the device's lock: two at once would lose a log."""
    path = root / LOG_FILE
    with contextlib.suppress(OSError):
        if os.lstat(path).st_size >= _MAX_BYTES:
            os.replace(path, root / OLD_LOG_FILE)
