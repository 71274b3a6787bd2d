"""The supervisor's one loop: asleep until a reading is due, something happens, or it is time to look around."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence

from agent.runner_process import BoundedOutput
from agent.telemetry import Sampler

#: How often the run's folder is looked at for cancel, read_mark and owner.
_LOOK_NS = 250_000_000
_FAR_NS = 2**63


@dataclass
class Signals:
    """The last signal that asks this process to end, and a descriptor that becomes readable when any signal comes."""

    descriptor: int
    number: Optional[int] = None

    @classmethod
    def catch(cls) -> Signals:
        """Let SIGTERM, SIGINT and SIGHUP end the run as `cancel` does, and the end of any child wake the loop."""
        reader, writer = os.pipe()
        for descriptor in (reader, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signals = cls(reader)

        def remember(number: int, frame: object) -> None:
            signals.number = number

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, remember)
        # The runner's end wakes the loop through the descriptor; the default would not.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        return signals


@dataclass
class Vigil:
    """What is done while something is waited for: ``look`` around four times a second and at ``next_ns()`` (it returns why the wait must
    end, or None), sample when that is due, and drain the runner's outputs.
    """

    signals: Signals
    clock_ns: Callable[[], int]
    look: Callable[[int], Optional[str]]
    next_ns: Callable[[], int]
    tell: Callable[[str, float], None]
    sampler: Optional[Sampler] = None
    _look_ns: int = 0

    def keep(
        self, is_over: Callable[[int], bool], outputs: Sequence[BoundedOutput] = (), until: Callable[[], int] = lambda: _FAR_NS
    ) -> Optional[str]:
        """Wait until ``is_over(now_ns)``, which is asked whenever this wakes and at ``until()`` at the latest; then return None.

        Returns earlier with the reason when looking around gives one.
        """
        poller = select.poll()
        poller.register(self.signals.descriptor, select.POLLIN)
        open_outputs: List[BoundedOutput] = [output for output in outputs if not output.ended]
        for output in open_outputs:
            poller.register(output.descriptor, select.POLLIN)
        while not is_over(self.clock_ns()):
            now_ns = self.clock_ns()
            if now_ns >= min(self._look_ns, self.next_ns()) or self.signals.number is not None:
                self._look_ns = now_ns + _LOOK_NS
                reason = self.look(now_ns)
                if reason is not None:
                    return reason
            due_ns = min(self._look_ns, until())
            if self.sampler is not None:
                late_secs = self.sampler.sample(now_ns)
                if late_secs:
                    self.tell("sample_late", late_secs)
                due_ns = min(due_ns, self.sampler.next_due_ns())
            # Rounded up: waking a little early would only mean going to sleep again.
            for descriptor, _ in poller.poll(max(0, -(-(due_ns - self.clock_ns()) // 1_000_000))):
                if descriptor == self.signals.descriptor:
                    os.read(descriptor, 4096)
            for output in list(open_outputs):
                output.drain()
                if output.ended:
                    poller.unregister(output.descriptor)
                    open_outputs.remove(output)
        return None
