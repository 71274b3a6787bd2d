"""Start a command that dies with its parent: ``python -m orchestrator.worker.child PARENT_PID COMMAND…``

The kernel kills the command when the thread that started it ends, so ``kill -9`` of the parent leaves nothing behind. Standard library
only: this is the first thing every child does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Ask the kernel for the signal, make sure the parent did not die before that, and become the command."""
    parent, command = int(argv[0]), argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is what this module is for


if __name__ == "__main__":
    main(sys.argv[1:])
