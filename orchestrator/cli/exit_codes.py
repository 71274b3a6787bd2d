"""The exit codes of every command, in one table (docs/cli.md repeats it)."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    NOT_MEASURED = 1
    WRONG_INPUT = 2
    INFRASTRUCTURE = 3
    BUG = 4
    NOT_REPRODUCED = 5
    UNDETERMINED = 6
    INTERRUPTED = 130


#: The error classes of ``agent.errors`` as exit codes. A job error reaches the command line only as a finished job that was not measured.
BY_ERROR_CLASS = {
    "job": ExitCode.NOT_MEASURED,
    "configuration": ExitCode.WRONG_INPUT,
    "infrastructure": ExitCode.INFRASTRUCTURE,
    "bug": ExitCode.BUG,
}
