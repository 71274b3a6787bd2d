"""Says how an attempt ended, from how its runner ended: pure rules."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from agent import errors, protocol

#: Signals by which a native library dies of its own doing; any other signal came from outside.
_CRASHES = frozenset(
    (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS, signal.SIGQUIT)
)
_TAIL_CHARACTERS = 2000
#: How the interpreter's faulthandler begins; its list of extension modules at the end is long and tells nothing.
_CRASH_REPORT = "Fatal Python error"


@dataclass(frozen=True)
class RunnerEnd:
    """How the runner ended: exit status (negative: the signal), its report or why there is none, its last words, the machine's memory.

    ``was_asked``: a rule of the run asked it to end; ``was_overdue``: and it did not, so that it was killed.
    """

    status: int
    report: Optional[protocol.RunnerReport]
    report_problem: str
    stderr_tail: str
    memory_available_bytes: Optional[int]
    out_of_memory_kills: int
    was_asked: bool = False
    was_overdue: bool = False


def judge(end: RunnerEnd) -> Tuple[str, Optional[Dict[str, Any]]]:
    """Return status and error of an attempt whose runner ended by itself (or by somebody other than the supervisor)."""
    if end.status == 0 and end.report is not None and end.report.error is None:
        return "completed", None
    if only_placement_missing(end.report):
        return "completed", None
    if end.was_overdue:
        return "error", errors.RunTimeout(
            "the run was to stop by a rule of its own; its runner did not end in the time it had for that and was killed",
            "what was measured until then is kept; see why one query of this model takes that long",
        ).to_json()
    if end.was_asked and end.status > 0 and end.report is not None and end.report.error is None:
        return "completed", None
    if end.was_asked and end.status == -signal.SIGTERM and end.report is None:
        return "error", errors.RunnerKilled(
            "a rule of the run stopped it before anything was measured: the device is too hot or its battery too low to begin",
            "let the device cool down or charge; the job is tried again",
        ).to_json()
    return "error", _error(end)


def only_placement_missing(report: Optional[protocol.RunnerReport]) -> bool:
    """Tell whether a report holds a whole measurement and only the look at the placement after it came to no end."""
    if report is None or report.error is not None or report.placement is None:
        return False
    return report.placement.cause == protocol.PLACEMENT_UNFINISHED


def parse_report(data: Optional[bytes]) -> Tuple[Optional[protocol.RunnerReport], str]:
    """Return the runner's report, or None and what is wrong with it."""
    if data is None:
        return None, "there is no report"
    try:
        return protocol.from_json(protocol.RunnerReport, data.decode("utf-8")), ""
    except (UnicodeDecodeError, errors.RequestInvalid) as error:
        return None, f"the report is damaged: {error}"


def report_of_killed(start: Optional[bytes]) -> Optional[protocol.RunnerReport]:
    """Return what a runner that left no report said of itself before it began, so that its queries can be placed in time; None when
    it said nothing.
    """
    try:
        said = protocol.from_json(protocol.RunnerStart, (start or b"").decode("utf-8"))
    except (UnicodeDecodeError, errors.RequestInvalid):
        return None
    return protocol.RunnerReport(origin_monotonic_ns=said.origin_monotonic_ns, runtime=said.runtime)


def _error(end: RunnerEnd) -> Dict[str, Any]:
    words = _last_words(end.stderr_tail)
    said = f"; it said last: {words}" if words else ""
    if end.status < 0:
        return _signal_error(end, said).to_json()
    if end.report is not None and end.report.error is not None:
        return end.report.error
    if end.status == 0:
        return errors.InternalError(f"the runner ended well, but {end.report_problem}{said}", "report this with the run's folder").to_json()
    if end.report is None and "Traceback (most recent call last)" not in end.stderr_tail:
        return errors.RuntimeCrashed(
            f"the runtime ended the process with exit status {end.status}{said}", "try the model on another runtime or version"
        ).to_json()
    if end.report is not None:
        # An orderly end without an error and without success: somebody sent it SIGTERM.
        return errors.RunnerKilled(f"something outside asked the runner to end{said}", "see who stops processes on this device").to_json()
    return errors.InternalError(f"the runner ended with exit status {end.status} and {end.report_problem}{said}").to_json()


def _last_words(stderr: str) -> str:
    """Return the part of stderr that tells most: what stands around faulthandler's report of a crash, else the end."""
    crash = stderr.rfind(_CRASH_REPORT)
    first = max(0, crash - _TAIL_CHARACTERS // 4) if crash >= 0 else max(0, len(stderr) - _TAIL_CHARACTERS)
    return stderr[first : first + _TAIL_CHARACTERS].strip()


def _signal_error(end: RunnerEnd, said: str) -> errors.EdgematrixError:
    number = -end.status
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number in _CRASHES:
        return errors.RuntimeCrashed(
            f"the runtime crashed with {name}{said}",
            "this model crashes this runtime on this device: try another runtime, version or provider",
        )
    memory = "" if end.memory_available_bytes is None else f"; {end.memory_available_bytes / 1e6:.0f} MB of memory were free shortly before"
    if number == signal.SIGKILL and end.out_of_memory_kills > 0:
        return errors.RunnerKilled(
            f"the runner was killed while the kernel ended {end.out_of_memory_kills} process(es) for lack of memory{memory}",
            "free memory on the device, or use a smaller model",
        )
    remedy = "see the device's kernel log; the job is tried again"
    return errors.RunnerKilled(f"something outside ended the runner with {name}{memory}{said}", remedy)
