"""Ctrl-C and SIGTERM while devices work: the first asks, the second stops at once."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Any


class StopNow(KeyboardInterrupt):
    """The user asked a second time: stop without waiting for devices."""


class Interrupts:
    """Counts SIGINT and SIGTERM while entered. The first sets ``requested`` and ends a ``pause``; the next raises :class:`StopNow`."""

    #: A sleep goes on after a signal handler returned, so a pause is made of short ones. (An Event would not do: its lock is not
    #: reentrant, and the handler runs in the thread that waits on it.)
    SLICE_SECS = 0.05

    def __init__(self) -> None:
        self.requested = False
        self._old: dict[signal.Signals, Any] = {}

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the first request; once it was made, wait the whole time."""
        asked_before = self.requested
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self.requested == asked_before:
            time.sleep(min(left, self.SLICE_SECS))

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise StopNow
        self.requested = True

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
