"""The query loop follows the stop rules exactly, with a clock that the test moves; no test here waits."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slow_model import MILLISECOND, SECOND, SlowModel

from agent import recorder as recorder_module
from agent.errors import InvokeFailed
from agent.loadgen import LatencyResult, SampleSink, first_query, run_accuracy, run_latency
from agent.protocol import PHASES, QUERIES, QUERY_COLUMNS, SAMPLES, LoadSettings, TensorInfo, output_columns, sample_columns
from agent.recorder import BLOCK_ROWS, QueryRecorder
from agent.scoring import make_scorer
from agent.spool import SpoolWriter, read_spool


class Run:
    """One latency run over five samples, its spool read back."""

    def __init__(
        self, tmp_path: Path, clock: Any, load: LoadSettings, *, invoke_ns: int = 7 * MILLISECOND, stop_after: float = float("inf")
    ) -> None:
        self.clock = clock
        self.model = SlowModel(clock, invoke_ns)
        self.reports: list[tuple[str, int, int, float]] = []
        origin = clock.now_ns
        path = tmp_path / "queries.spool"
        with SpoolWriter(path, QUERIES, QUERY_COLUMNS) as writer:
            self.recorder = QueryRecorder(writer, 5, origin, clock)
            samples = [np.array([number], np.float32) for number in range(5)]
            self.result: LatencyResult = run_latency(
                self.model.pipeline(), samples, load, self.recorder, clock, lambda: len(self.model.seen) >= stop_after, self._report
            )
        self.contents = read_spool(path, QUERIES)
        self.queries = self.contents.columns

    def _report(self, phase: str, done: int = 0, total: int = 0, seconds_left: float = -1.0) -> None:
        self.reports.append((phase, done, total, seconds_left))

    def of(self, phase: str, column: str) -> np.ndarray:
        return self.queries[column][self.queries["phase"] == PHASES.index(phase)]


@pytest.fixture
def run(tmp_path: Path, clock_of: Callable[[int], Any]) -> Callable[..., Run]:
    return lambda *load, **options: Run(tmp_path, clock_of(0), LoadSettings(*load), **options)


def test_a_run_lasts_until_the_duration_when_the_count_is_met_first(run: Callable[..., Run]) -> None:
    result = run(0.0, 0, 10.0, 100, 60.0).result  # 10 ms a query
    assert (result.steady_count, result.steady_ns) == (1000, 10 * SECOND)
    assert result.min_duration_met
    assert result.min_query_count_met


def test_a_run_lasts_until_the_count_when_the_duration_is_met_first(run: Callable[..., Run]) -> None:
    result = run(0.0, 0, 1.0, 1024, 60.0).result
    assert result.steady_count == 1024
    assert result.steady_ns == 1024 * 10 * MILLISECOND


def test_the_maximum_duration_ends_a_run_whose_count_is_not_met(run: Callable[..., Run]) -> None:
    result = run(0.0, 0, 1.0, 1024, 2.0).result
    assert result.steady_count == 200
    assert result.min_duration_met
    assert not result.min_query_count_met


def test_warm_up_ends_when_time_and_runs_are_both_met_and_is_recorded_apart(run: Callable[..., Run]) -> None:
    by_time = run(1.0, 10, 0.0, 5, 60.0)
    assert by_time.result.warmup_count == 100
    assert len(by_time.of("warmup", "start_ns")) == 100
    assert len(by_time.of("steady", "start_ns")) == 5


def test_warm_up_by_runs(run: Callable[..., Run]) -> None:
    assert run(0.01, 30, 0.0, 1, 60.0).result.warmup_count == 30


def test_a_model_slower_than_every_limit_is_asked_at_least_once(run: Callable[..., Run]) -> None:
    slow = run(1.0, 10, 10.0, 1024, 60.0, invoke_ns=100 * SECOND)
    assert (slow.result.warmup_count, slow.result.steady_count) == (1, 1)
    assert slow.of("steady", "invoke_ns").tolist() == [100 * SECOND]


def test_every_query_keeps_its_stamps(run: Callable[..., Run]) -> None:
    finished = run(0.0, 0, 0.0, 300, 60.0)
    assert set(finished.of("steady", "pre_ns")) == {MILLISECOND}
    assert set(finished.of("steady", "invoke_ns")) == {7 * MILLISECOND}
    assert set(finished.of("steady", "post_ns")) == {2 * MILLISECOND}
    np.testing.assert_array_equal(finished.of("steady", "start_ns"), np.arange(300) * 10 * MILLISECOND)


def test_samples_are_asked_in_turn_and_recorded_as_asked(run: Callable[..., Run]) -> None:
    finished = run(0.0, 7, 0.0, 23, 60.0)
    assert finished.queries["sample"].tolist() == finished.model.seen == [number % 5 for number in range(30)]


def test_a_soak_of_days_holds_no_growing_list_of_pauses(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_PAUSES", 3)
    recorder = run(0.0, 0, 10.0, 1, 60.0).recorder
    assert len(recorder.pauses_ns) == 3
    assert recorder.pause_count >= 9
    assert recorder.pause_total_ns >= recorder.pause_longest_ns >= max(recorder.pauses_ns)


def test_blocks_are_flushed_by_time_and_their_pauses_kept(run: Callable[..., Run]) -> None:
    finished = run(0.0, 0, 10.0, 1, 60.0)
    assert 9 <= finished.contents.block_count <= 11
    assert len(finished.recorder.pauses_ns) == finished.contents.block_count


def test_blocks_are_flushed_by_size(run: Callable[..., Run]) -> None:
    finished = run(0.0, 0, 0.0, 2 * BLOCK_ROWS + 1, 1e9)
    assert finished.result.steady_count == 2 * BLOCK_ROWS + 1
    np.testing.assert_array_equal(np.diff(finished.queries["start_ns"].astype(np.int64)), 10 * MILLISECOND)
    np.testing.assert_array_equal(finished.queries["sample"], np.arange(2 * BLOCK_ROWS + 1) % 5)


def test_progress_is_told_at_most_five_times_a_second_and_foresees_the_end(run: Callable[..., Run]) -> None:
    finished = run(0.0, 0, 10.0, 1, 60.0)
    steady = [report for report in finished.reports if report[0] == "steady"]
    assert 40 <= len(steady) <= 55
    _, done, total, seconds_left = steady[len(steady) // 2]
    assert total == pytest.approx(1000, abs=2)
    assert seconds_left == pytest.approx(10 - done / 100, abs=0.02)
    assert steady[-1] == ("steady", 1000, 1000, 0.0)


def test_a_stop_ends_the_run_and_keeps_what_was_measured(run: Callable[..., Run]) -> None:
    stopped = run(0.0, 0, 60.0, 1024, 60.0, stop_after=100)
    assert stopped.result.stopped
    assert 100 <= stopped.result.steady_count <= 140  # looked at between reports, every 0.2 s
    assert len(stopped.queries["sample"]) == stopped.result.steady_count
    assert not stopped.result.min_duration_met


def test_no_garbage_collection_happens_during_the_run_and_it_is_back_afterwards(tmp_path: Path, clock_of: Callable[[int], Any]) -> None:
    seen = set()
    clock = clock_of(0)

    def should_stop() -> bool:
        seen.add(gc.isenabled())
        return False

    with SpoolWriter(tmp_path / "queries.spool", QUERIES, QUERY_COLUMNS) as writer:
        recorder = QueryRecorder(writer, 1, 0, clock)
        load = LoadSettings(0.0, 1, 0.0, 1, 1.0)
        run_latency(SlowModel(clock).pipeline(), [np.zeros(1)], load, recorder, clock, should_stop, lambda *_, **__: None)
    assert seen == {False}
    assert gc.isenabled()


def test_the_queries_before_a_failure_are_kept(tmp_path: Path, clock_of: Callable[[int], Any]) -> None:
    clock = clock_of(0)
    model = SlowModel(clock)
    model.fail_at = 12
    path = tmp_path / "queries.spool"
    with SpoolWriter(path, QUERIES, QUERY_COLUMNS) as writer:
        recorder = QueryRecorder(writer, 1, 0, clock)
        with pytest.raises(InvokeFailed, match="kernel says no"):
            run_latency(
                model.pipeline(), [np.zeros(1)], LoadSettings(0.0, 0, 1.0, 1, 9.0), recorder, clock, lambda: False, lambda *_, **__: None
            )
        recorder.flush()
    assert len(read_spool(path).columns["sample"]) == 12


def test_the_first_query_is_recorded_in_its_own_phase(tmp_path: Path, clock_of: Callable[[int], Any]) -> None:
    clock = clock_of(0)
    path = tmp_path / "queries.spool"
    with SpoolWriter(path, QUERIES, QUERY_COLUMNS) as writer:
        recorder = QueryRecorder(writer, 3, clock.now_ns, clock)
        answer = first_query(SlowModel(clock).pipeline(), np.array([1.0, 2.0]), recorder, clock)
    assert answer.total_ns == 10 * MILLISECOND
    np.testing.assert_array_equal(answer.values[0], [[2.0, 4.0]])
    assert read_spool(path).columns["phase"].tolist() == [PHASES.index("first_query")]


@pytest.mark.parametrize("rows_of_outputs", [False, True])
def test_an_accuracy_run_asks_every_sample_once(tmp_path: Path, clock_of: Callable[[int], Any], rows_of_outputs: bool) -> None:
    clock = clock_of(0)
    model = SlowModel(clock)
    inputs = np.stack([np.roll(np.arange(4, dtype=np.float32), number) for number in range(250)])
    model_input = TensorInfo("x", [1, 4], "float32")
    scorer = make_scorer("classification", "logits", 2, 4, [inputs[:1]], inputs[:1], model_input)
    with contextlib.ExitStack() as stack:
        queries = stack.enter_context(SpoolWriter(tmp_path / "queries.spool", QUERIES, QUERY_COLUMNS))
        samples = stack.enter_context(SpoolWriter(tmp_path / "samples.spool", SAMPLES, sample_columns(2)))
        outputs = stack.enter_context(SpoolWriter(tmp_path / "outputs.spool", "outputs", output_columns(4))) if rows_of_outputs else None
        recorder = QueryRecorder(queries, len(inputs), clock.now_ns, clock)
        sink = SampleSink(samples, outputs, 2)
        done = run_accuracy(model.pipeline(), inputs, scorer, sink, recorder, clock, lambda: False, lambda *_, **__: None)
    assert done == 250
    rows = read_spool(tmp_path / "samples.spool", SAMPLES).columns
    assert rows["sample"].tolist() == list(range(250))
    np.testing.assert_array_equal(rows["class_0"], inputs.argmax(1))
    np.testing.assert_array_equal(rows["score_1"], np.full(250, 4.0))
    assert len(set(rows["digest"].tolist())) == 4
    recorded = read_spool(tmp_path / "queries.spool").columns
    assert recorded["sample"].tolist() == list(range(250))
    assert set(recorded["phase"]) == {PHASES.index("accuracy")}
    if rows_of_outputs:
        np.testing.assert_array_equal(read_spool(tmp_path / "outputs.spool").columns["values"], inputs * 2)
