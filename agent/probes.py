"""Did the numbers change with heat? A fixed set of samples, asked again and again in the midst of a soak, and their outputs digested.

A probe goes through the very pipeline of the load: the same session, the same tensors. Digest and score come after its stamps.
"""

from __future__ import annotations

import math
from typing import Callable, List, NamedTuple, Sequence, Tuple

import numpy as np

from agent.loadgen import Answer, Pipeline, ask
from agent.protocol import PROBE_COLUMNS, ProbeSettings
from agent.recorder import Clock, QueryRecorder
from agent.scoring import NO_CLASS, all_finite, digest, rank
from agent.spool import SpoolWriter

_SECOND_NS = 1_000_000_000

#: Class and score of the best class of one query's values.
TopClass = Callable[[List[np.ndarray]], Tuple[int, float]]


class _Row(NamedTuple):
    start_ns: int
    round: int
    cold: bool
    sample: int
    digest: int
    finite: bool
    top_class: int
    top_score: float


class Prober:
    """Asks rounds of probes; ``round_count`` rounds were finished, ``query_count`` queries answered.

    ``hot_ns`` is the time that rounds since :meth:`begin` took.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        samples: Sequence[np.ndarray],
        settings: ProbeSettings,
        top_class: TopClass,
        writer: SpoolWriter,
        recorder: QueryRecorder,
        origin_ns: int,
        clock: Clock,
    ) -> None:
        self.due_ns = 2**62
        self.round_count = self.query_count = self.hot_ns = 0
        self._pipeline, self._samples = pipeline, samples[: settings.samples]
        self._every_ns = round(settings.every_secs * _SECOND_NS)
        self._top_class, self._writer, self._recorder = top_class, writer, recorder
        self._origin_ns, self._clock = origin_ns, clock
        self._is_cold = True

    def begin(self, now_ns: int) -> None:
        """The load begins: from here on rounds are hot, and the first is due after one period."""
        self._is_cold, self.due_ns = False, now_ns + self._every_ns

    def round(self, should_stop: Callable[[], bool]) -> bool:
        """Ask every probe once and write what they answered; False when the stop flag ended it before the last.

        The recorder is left in the phase, and at the sample, where it was. Raises InvokeFailed and what writing the spool raises.
        """
        started_ns = self._clock()
        recorder = self._recorder
        before = recorder.phase, recorder.next_sample
        recorder.begin("probe")
        rows: List[_Row] = []
        for number in range(len(self._samples)):
            if should_stop() or not recorder.free:
                break
            rows.append(self._ask(number))
        recorder.begin(*before)
        self._write(rows)
        is_whole = len(rows) == len(self._samples)
        self.query_count += len(rows)
        self.round_count += is_whole
        ended_ns = self._clock()
        if not self._is_cold:
            self.hot_ns += ended_ns - started_ns
            # On the grid, but never without as much load between two rounds as a round itself takes.
            missed = max(0, ended_ns - self.due_ns) // self._every_ns
            self.due_ns = max(self.due_ns + (missed + 1) * self._every_ns, 2 * ended_ns - started_ns)
        return is_whole

    def _ask(self, number: int) -> _Row:
        slot = 4 * self._recorder.filled
        answer = ask(self._pipeline, self._samples[number], self._recorder, self._clock)
        top_class, top_score = self._top_class(answer.values)
        start_ns = self._recorder.stamps[slot] - self._origin_ns
        found, is_finite = digest(answer.raw), all_finite(answer.raw)
        return _Row(start_ns, self.round_count, self._is_cold, number, found, is_finite, top_class, top_score)

    def _write(self, rows: List[_Row]) -> None:
        self._writer.write({name: np.array([getattr(row, name) for row in rows], dtype) for name, dtype in PROBE_COLUMNS})


def top_class_of(task: str, example: Answer) -> TopClass:
    """Return what tells the best class of a query's values and its score, judged by one answer: -1 and NaN for tasks and models without
    classes.
    """
    if task == "classification" and example.values[0].size >= 2:
        return _best
    return lambda values: (NO_CLASS, math.nan)


def _best(values: List[np.ndarray]) -> Tuple[int, float]:
    flat = values[0].reshape(-1).astype(np.float64)
    best = int(rank(flat)[0])
    return best, float(flat[best])
