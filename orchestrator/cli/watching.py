"""Following an experiment to its end: bars per device on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.errors import InfrastructureError
from orchestrator.cli.interrupts import Interrupts, StopNow
from orchestrator.cli.output import message, message_console

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from orchestrator.service.context import Context
    from orchestrator.service.views import DeviceProgress, Progress

#: How often the stack is looked after and the progress read. This computer may be the device: looking more often would disturb it.
POLL_SECS = 1.0
#: What keeps every device of an experiment out of service for this long will not pass by itself.
BLOCKED_SECS = 20.0
#: Without a terminal a line is written when something changed, and no more often than this.
PLAIN_LINE_SECS = 5.0
#: What lasts is told again after this time, so that a log shows that it goes on.
PLAIN_AGAIN_SECS = 120.0
#: A line is written after so long a silence, too: a soak of an hour is one job.
PLAIN_SILENCE_SECS = 30.0


class ExperimentBlocked(InfrastructureError):
    code = "experiment_blocked"


class Stack(Protocol):
    """What looks after the processes of the embedded default (``worker.embedded.EmbeddedStack``)."""

    def ensure(self) -> None: ...
    def stop(self) -> None: ...
    def stop_now(self) -> None: ...


class ProgressView(Protocol):
    def show(self, progress: Progress) -> None: ...
    def close(self) -> None: ...


def follow(context: Context, experiment_id: str, interrupts: Interrupts, each_turn: Callable[[], None]) -> bool:
    """Show the progress until the experiment is finished (True) or the user interrupts (False). ``each_turn`` runs once per poll.

    Raises :class:`ExperimentBlocked` when every device that is still needed stays out of service; the experiment keeps what it has.
    """
    from orchestrator.service import experiments

    view = _view()
    blocked_since: float | None = None
    try:
        while True:
            each_turn()
            progress = experiments.progress(context, experiment_id)
            view.show(progress)
            if progress.finished:
                return True
            if interrupts.requested:
                return False
            now = time.monotonic()
            blocked_since = None if progress.blocked is None else (blocked_since or now)
            if blocked_since is not None and now - blocked_since > BLOCKED_SECS:
                raise ExperimentBlocked(f"nothing can go on: {progress.blocked}", f"mend it, then: edgematrix resume {experiment_id}")
            interrupts.pause(POLL_SECS)
    finally:
        view.close()


def follow_with_stack(context: Context, experiment_ids: list[str], stack: Stack | None, interrupts: Interrupts) -> bool:
    """Follow experiments to their ends, keeping the stack alive; True when all ended by themselves.

    The first interruption cancels what is unfinished and waits for the devices to stop, the second stops every process at once.
    Whatever happens, no process of the stack is left behind.
    """
    ensure = stack.ensure if stack else _nothing
    try:
        for index, experiment_id in enumerate(experiment_ids):
            if not follow(context, experiment_id, interrupts, ensure):
                _cancel_and_wait(context, experiment_ids[index:], ensure)
                break
        if stack:
            stack.stop()
    except StopNow:
        message(
            "Stopped at once. What a device still runs ends by itself; 'edgematrix resume' finishes an experiment that was not canceled."
        )
        if stack:
            stack.stop_now()
        raise
    except BaseException:
        if stack:
            stack.stop_now()
        raise
    return not interrupts.requested


def _nothing() -> None:
    pass


def _cancel_and_wait(context: Context, experiment_ids: list[str], ensure: Callable[[], None]) -> None:
    from orchestrator.service import experiments

    canceled = sum(experiments.cancel(context, experiment_id) for experiment_id in experiment_ids)
    message(f"Interrupted: canceling {canceled} jobs and waiting for the devices to stop (once more to stop at once).")
    for experiment_id in experiment_ids:
        while not experiments.progress(context, experiment_id).finished:
            ensure()
            time.sleep(POLL_SECS)
    message("Canceled; nothing is left running.")


def _view() -> ProgressView:
    return _TerminalView() if sys.stderr.isatty() else _LineView()


class _TerminalView:
    """One bar per device, what it runs and how long that still takes."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars: Bars = Progress(
            TextColumn("{task.fields[device]}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}", markup=False),
            console=message_console(),
            transient=True,
            refresh_per_second=2,
        )
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def show(self, progress: Progress) -> None:
        for device in progress.devices:
            if device.device not in self._tasks:
                self._tasks[device.device] = self._bars.add_task("", total=device.total, device=device.device, now="")
            self._bars.update(self._tasks[device.device], completed=device.done, total=device.total, now=describe(device))

    def close(self) -> None:
        self._bars.stop()


class _LineView:
    """A line when a device's count changed or, of what lasts, its phase; for logs and pipes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, tuple[tuple[int, str], float]] = {}

    def show(self, progress: Progress) -> None:
        now = self._clock()
        for device in progress.devices:
            told, written_at = self._last.get(device.device, ((-1, ""), float("-inf")))
            news = (device.done, device.running.phase if device.running and device.running.lasting else "")
            ended = device.done == device.total
            pause = PLAIN_LINE_SECS if news != told else PLAIN_AGAIN_SECS if news[1] else float("inf")
            if (ended and news != told) or now - written_at >= pause:
                self._last[device.device] = (news, now)
                message(f"{device.device}: {device.done} of {device.total} jobs {describe(device)}".rstrip())

    def close(self) -> None:
        pass


def describe(device: DeviceProgress) -> str:
    """Say in a few words what a device does now, or why it does nothing."""
    running = device.running
    if running is None:
        return f"waiting: {device.waiting_for}" if device.done < device.total and device.waiting_for else ""
    if running.words:
        return f"{running.label} {running.words}"
    text = f"{running.label}: {running.phase}"
    if running.total:
        text += f" {100 * min(running.done, running.total) // running.total} %"
    if running.seconds_left is not None and running.seconds_left >= 0:
        text += f", {running.seconds_left:.0f} s left"
    return text
