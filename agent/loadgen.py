"""Asking the queries: one after the other (LoadGen's SingleStream), every one of them stamped.

Four readings of the clock split a query: **pre** (input steps and handing the batch over), **invoke** (the runtime's call), **post**
(fetching and dequantizing; in accuracy runs the top classes too). The clock is ``time.monotonic_ns``, on Linux the same CLOCK_MONOTONIC
that ``perf_counter_ns`` reads, with a resolution of one nanosecond. Clock and stop flag come in as arguments.

Python's cyclic garbage collector is off during the whole latency run, and what lives before it is frozen: a collection would land in a
random query. The loop makes no reference cycles, so nothing piles up; reference counting frees what each query made, within that query.
"""

from __future__ import annotations

import contextlib
import gc
from dataclasses import dataclass
from typing import Callable, ContextManager, Dict, Iterator, List, NamedTuple, Optional, Protocol, Sequence

import numpy as np

from agent.errors import InvokeFailed
from agent.preprocess import Step
from agent.protocol import LoadSettings
from agent.recorder import PROGRESS_NS, Clock, QueryRecorder
from agent.runtimes import BoundQuery
from agent.scoring import Scored, Scorer, all_finite, digest
from agent.spool import SpoolWriter

_SECOND_NS = 1_000_000_000

#: Blocks of ``outputs`` are kept below this.
OUTPUT_BLOCK_BYTES = 8 * 1024 * 1024


class Pipeline(NamedTuple):
    """All that happens in a query: ``prepare`` makes the batch, ``query`` runs it, ``dequantize`` turns raw outputs into values.

    ``querying`` gives the context that turns what the runtime raises into our errors.
    """

    prepare: Step
    query: BoundQuery
    dequantize: Callable[[List[np.ndarray]], List[np.ndarray]]
    querying: Callable[[], ContextManager[None]]


class Report(Protocol):
    """Takes how far the run is: phase, queries done, expected total (0 unknown), seconds left (negative unknown)."""

    def __call__(self, phase: str, done: int = 0, total: int = 0, seconds_left: float = -1.0) -> None: ...


@dataclass(frozen=True)
class LatencyResult:
    """``steady_ns`` runs from the end of warm-up to the end of the last query, flushes included. ``stopped``: the stop flag ended the
    run.
    """

    warmup_count: int
    steady_count: int
    steady_ns: int
    min_duration_met: bool
    min_query_count_met: bool
    stopped: bool


class Answer(NamedTuple):
    """One query outside of a loop: its end-to-end time, the batch that went in, raw outputs and values."""

    total_ns: int
    batch: np.ndarray
    raw: List[np.ndarray]
    values: List[np.ndarray]


def first_query(pipeline: Pipeline, sample: np.ndarray, recorder: QueryRecorder, clock: Clock) -> Answer:
    """Answer and record the first query, which pays what the runtime leaves until then."""
    recorder.begin("first_query")
    answer = ask(pipeline, sample, recorder, clock)
    recorder.flush()
    return answer


def ask(pipeline: Pipeline, sample: np.ndarray, recorder: QueryRecorder, clock: Clock) -> Answer:
    """Answer and record one query whose outputs are wanted, in the recorder's phase. Raises :class:`InvokeFailed`."""
    with pipeline.querying():
        start = clock()
        batch = pipeline.prepare(sample)
        pipeline.query.set_input(batch)
        pre = clock()
        result = pipeline.query.invoke()
        invoke = clock()
        raw = pipeline.query.fetch(result)
        values = pipeline.dequantize(raw)
        post = clock()
    recorder.add(start, pre, invoke, post)
    return Answer(post - start, batch, raw, values)


def run_latency(
    pipeline: Pipeline,
    samples: Sequence[np.ndarray],
    load: LoadSettings,
    recorder: QueryRecorder,
    clock: Clock,
    should_stop: Callable[[], bool],
    report: Report,
) -> LatencyResult:
    """Warm up, then measure until minimum duration and minimum count are both met, or at the maximum duration.

    ``samples`` lie in memory and are asked in turn. Raises :class:`InvokeFailed` and what writing the spool raises.
    """
    warmup = Rule(int(load.warmup_min_secs * _SECOND_NS), load.warmup_runs, None)
    # Warm-up obeys the maximum too: it is the caller's bound on the time a slow model may take.
    warmup = warmup._replace(max_ns=max(warmup.min_ns, int(load.max_duration_secs * _SECOND_NS)))
    steady = Rule(int(load.min_duration_secs * _SECOND_NS), load.min_query_count, int(load.max_duration_secs * _SECOND_NS))
    with no_garbage_collection():
        warmed = run_phase("warmup", warmup, pipeline, samples, recorder, clock, should_stop, report)
        measured = Phase(0, 0, True)
        if not warmed.stopped:
            measured = run_phase("steady", steady, pipeline, samples, recorder, clock, should_stop, report)
    return LatencyResult(
        warmup_count=warmed.answered,
        steady_count=measured.answered,
        steady_ns=measured.elapsed_ns,
        min_duration_met=measured.elapsed_ns >= steady.min_ns,
        min_query_count_met=measured.answered >= steady.min_count,
        stopped=measured.stopped,
    )


class Rule(NamedTuple):
    """When a phase is over: both minima met, or the maximum duration reached."""

    min_ns: int
    min_count: int
    max_ns: Optional[int]

    def is_over(self, elapsed_ns: int, count: int) -> bool:
        both = elapsed_ns >= self.min_ns and count >= self.min_count
        return both or (self.max_ns is not None and elapsed_ns >= self.max_ns)


class Phase(NamedTuple):
    """What a phase came to; ``stopped``: the stop flag ended it."""

    answered: int
    elapsed_ns: int
    stopped: bool


def run_phase(
    phase: str,
    rule: Rule,
    pipeline: Pipeline,
    samples: Sequence[np.ndarray],
    recorder: QueryRecorder,
    clock: Clock,
    should_stop: Callable[[], bool],
    report: Report,
) -> Phase:
    """Ask without a pause until ``rule`` is over."""
    recorder.begin(phase, recorder.next_sample)
    count, elapsed, stopped = 0, 0, False
    started = now = clock()
    report_due = now
    while not rule.is_over(elapsed, count):
        stopped = should_stop()
        if stopped:
            break
        if now >= report_due:
            seconds_left = _seconds_left(rule, elapsed, count)
            report(phase, count, _expected_total(rule, elapsed, count, seconds_left), seconds_left)
            report_due = now + PROGRESS_NS
        if recorder.is_due(now):
            recorder.flush()
        # The loop returns at whatever comes first: a full block, the missing queries, the minimum or maximum duration, the next report.
        limit = min(recorder.free, rule.min_count - count) if count < rule.min_count else recorder.free
        until = report_due
        if elapsed < rule.min_ns:
            until = min(until, started + rule.min_ns)
        if rule.max_ns is not None:
            until = min(until, started + rule.max_ns)
        with pipeline.querying():
            answered, now = burst(pipeline, samples, recorder, limit, until, clock)
        count += answered
        elapsed = now - started
    recorder.flush()
    report(phase, count, count, 0.0)
    return Phase(count, elapsed, stopped)


def burst(
    pipeline: Pipeline, samples: Sequence[np.ndarray], recorder: QueryRecorder, limit: int, until_ns: int, clock: Clock
) -> tuple[int, int]:
    """Ask up to ``limit`` queries, not past ``until_ns``; return their number and the end of the last. Nothing in here but queries and
    stamps.
    """
    prepare, dequantize = pipeline.prepare, pipeline.dequantize
    set_input, invoke, fetch = pipeline.query
    stamps = recorder.stamps
    sample_count = len(samples)
    index = recorder.next_sample
    first = slot = 4 * recorder.filled
    ended = until_ns
    try:
        for slot in range(first, first + 4 * limit, 4):
            start = clock()
            set_input(prepare(samples[index]))
            prepared = clock()
            result = invoke()
            invoked = clock()
            dequantize(fetch(result))
            result = None
            ended = clock()
            stamps[slot] = start
            stamps[slot + 1] = prepared
            stamps[slot + 2] = invoked
            stamps[slot + 3] = ended
            index += 1
            if index == sample_count:
                index = 0
            if ended >= until_ns:
                break
        slot += 4
    finally:
        # A query that raised is not recorded; those before it are.
        recorder.commit((slot - first) // 4)
    return (slot - first) // 4, ended


def _seconds_left(rule: Rule, elapsed_ns: int, count: int) -> float:
    """Expected seconds until the rule is met, negative while no query tells the rate."""
    if count == 0:
        return -1.0
    left = max(rule.min_ns - elapsed_ns, (rule.min_count - count) * elapsed_ns // count, 0)
    if rule.max_ns is not None:
        left = min(left, max(rule.max_ns - elapsed_ns, 0))
    return left / _SECOND_NS


def _expected_total(rule: Rule, elapsed_ns: int, count: int, seconds_left: float) -> int:
    if seconds_left < 0 or elapsed_ns <= 0:
        return 0
    return count + round(count * seconds_left * _SECOND_NS / elapsed_ns)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python's cyclic garbage collector away, and out of everything that lives before the block."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        gc.unfreeze()


# --- accuracy ------------------------------------------------------------------------------------------------


class SampleSink:
    """Gather the rows of ``samples`` (and of ``outputs`` where they are asked for) and write them in blocks."""

    def __init__(self, samples: SpoolWriter, outputs: Optional[SpoolWriter], top_k: int) -> None:
        self._samples, self._outputs, self._top_k = samples, outputs, top_k
        self._rows: List[tuple[int, int, bool, Scored]] = []
        self._values: List[np.ndarray] = []
        self._value_bytes = 0

    @property
    def is_full(self) -> bool:
        return self._value_bytes >= OUTPUT_BLOCK_BYTES

    def add(self, sample: int, raw: List[np.ndarray], values: List[np.ndarray], scored: Scored) -> None:
        """Take one sample's raw outputs, values and score."""
        self._rows.append((sample, digest(raw), all_finite(raw), scored))
        if self._outputs is not None:
            flat = np.concatenate([value.reshape(-1).astype(np.float32) for value in values])
            self._values.append(flat)
            self._value_bytes += flat.nbytes

    def flush(self) -> None:
        """Write what was gathered. Raises DiskFull, FolderUnwritable."""
        if not self._rows:
            return
        samples = np.array([row[0] for row in self._rows], np.uint32)
        columns: Dict[str, np.ndarray] = {
            "sample": samples,
            "digest": np.array([row[1] for row in self._rows], np.uint64),
            "finite": np.array([row[2] for row in self._rows], np.uint8),
            "confidence": np.array([row[3].confidence for row in self._rows], np.float32),
        }
        for rank in range(self._top_k):
            columns[f"class_{rank}"] = np.array([row[3].classes[rank] for row in self._rows], np.int32)
            columns[f"score_{rank}"] = np.array([row[3].scores[rank] for row in self._rows], np.float32)
        self._samples.write(columns)
        if self._outputs is not None:
            self._outputs.write({"sample": samples, "values": np.stack(self._values)})
        self._rows, self._values, self._value_bytes = [], [], 0


def run_accuracy(
    pipeline: Pipeline,
    inputs: np.ndarray,
    scorer: Scorer,
    sink: SampleSink,
    recorder: QueryRecorder,
    clock: Clock,
    should_stop: Callable[[], bool],
    report: Report,
) -> int:
    """Ask every sample of ``inputs`` (first axis) once, in order; return how many were answered (fewer only when stopped).

    Reading a sample from its file happens before the query's first stamp; digest and storing happen after its last.
    """
    recorder.begin("accuracy")
    total = len(inputs)
    value_count: Optional[int] = None
    started = now = clock()
    report_due = now
    done = 0
    for index in range(total):
        if now >= report_due:
            if should_stop():
                break
            report("accuracy", done, total, (now - started) / _SECOND_NS / done * (total - done) if done else -1.0)
            report_due = now + PROGRESS_NS
        if recorder.is_due(now) or sink.is_full:
            recorder.flush()
            sink.flush()
        sample = np.array(inputs[index])
        with pipeline.querying():
            start = clock()
            batch = pipeline.prepare(sample)
            pipeline.query.set_input(batch)
            prepared = clock()
            result = pipeline.query.invoke()
            invoked = clock()
            raw = pipeline.query.fetch(result)
            values = pipeline.dequantize(raw)
        found = sum(value.size for value in values)
        if found != (value_count if value_count is not None else found):
            message = f"sample {index}: {found} output values, the sample before had {value_count}"
            raise InvokeFailed(message, "use a model with outputs of fixed size")
        value_count = found
        scored = scorer(values, batch)
        now = clock()
        recorder.add(start, prepared, invoked, now)
        sink.add(index, raw, values, scored)
        done += 1
    recorder.flush()
    sink.flush()
    report("accuracy", done, total, 0.0)
    return done
