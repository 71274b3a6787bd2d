"""Decides when a run must be ended before its time: pure rules over what the supervisor saw and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

#: What changes in a file when it is touched or replaced: inode and modification time. None: there is no such file.
ReadMark = Optional[Tuple[int, int]]


@dataclass
class Watch:
    """The rules of one run. Every time is nanoseconds of one monotonic clock; wall-clock steps change nothing."""

    started_ns: int
    timeout_secs: float
    orphan_after_secs: float
    _read_mark: ReadMark = None
    _read_ns: int = -1

    def decide(self, now_ns: int, read_mark: ReadMark, cancel: bool) -> Optional[str]:
        """Return ``cancel_seen``, ``timeout_reached`` or ``orphaned`` (words of EVENT_CODES) when the run must end now, else None.

        ``read_mark`` may be in any clock: only that it changed counts.
        """
        if self._read_ns < 0:
            self._read_mark, self._read_ns = read_mark, self.started_ns
        if read_mark != self._read_mark:
            self._read_mark, self._read_ns = read_mark, now_ns
        if cancel:
            return "cancel_seen"
        if now_ns - self.started_ns >= self.timeout_secs * 1e9:
            return "timeout_reached"
        if now_ns - self._read_ns >= self.orphan_after_secs * 1e9:
            return "orphaned"
        return None

    def next_ns(self) -> int:
        """Return when time alone will end the run."""
        read_ns = self._read_ns if self._read_ns >= 0 else self.started_ns
        return int(min(self.started_ns + self.timeout_secs * 1e9, read_ns + self.orphan_after_secs * 1e9))
