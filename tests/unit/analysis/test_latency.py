import numpy as np
import pandas as pd
import pytest

from agent.protocol import PHASES, QUERY_COLUMNS
from orchestrator.analysis.latency import latency_metrics, summarize_latency, windowed_latency
from orchestrator.analysis.metric_names import METRICS, definition_of

STEADY, WARMUP, FIRST = (PHASES.index(name) for name in ("steady", "warmup", "first_query"))


def make_queries(count: int, seed: int = 0, warmup: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    total = 1 + warmup + count
    columns = {name: np.zeros(total, dtype=kind) for name, kind in QUERY_COLUMNS}
    columns["phase"][:] = STEADY
    columns["phase"][: 1 + warmup] = WARMUP
    columns["phase"][0] = FIRST
    for name, scale in (("pre_ns", 5_000), ("invoke_ns", 80_000), ("post_ns", 3_000)):
        columns[name][:] = scale * rng.lognormal(0, 0.2, total)
    spent = sum(columns[name].astype(np.uint64) for name in ("pre_ns", "invoke_ns", "post_ns")) + np.uint64(1_000)
    columns["start_ns"][1:] = np.cumsum(spent)[:-1]
    return columns


def test_every_statistic_agrees_with_pandas() -> None:
    queries = make_queries(7000)
    summary = summarize_latency(queries)
    frame = pd.DataFrame(queries).query("phase == @STEADY")
    stages = {
        "pre_ms": frame.pre_ns,
        "invoke_ms": frame.invoke_ns,
        "post_ms": frame.post_ns,
        "latency_ms": frame.pre_ns + frame.invoke_ns + frame.post_ns,
    }
    for name, values in stages.items():
        stage = summary.stages[name]
        milliseconds = values / 1e6
        assert (stage.mean, stage.std, stage.min, stage.max) == pytest.approx(
            (milliseconds.mean(), milliseconds.std(), milliseconds.min(), milliseconds.max())
        )
        assert stage.percentiles == pytest.approx({p: milliseconds.quantile(p / 100) for p in (50.0, 90.0, 95.0, 99.0, 99.9)})
    assert summary.cv_percent == pytest.approx(100 * frame.invoke_ns.std() / frame.invoke_ns.mean())
    assert summary.query_count == 7000


def test_a_dataframe_and_a_mapping_give_the_same_summary() -> None:
    queries = make_queries(200)
    assert summarize_latency(pd.DataFrame(queries)) == summarize_latency(queries)


def test_the_first_query_and_warm_up_are_not_in_the_steady_statistics() -> None:
    queries = make_queries(100, warmup=10)
    queries["invoke_ns"][0] = 900_000_000
    queries["invoke_ns"][1:11] = 400_000_000
    queries["pre_ns"][:11] = 0
    queries["post_ns"][:11] = 0
    summary = summarize_latency(queries)
    assert summary.first_ms == pytest.approx(900)
    assert summary.warmup_mean_ms == pytest.approx(400)
    assert summary.warmup_count == 10
    assert summary.stages["latency_ms"].max < 1


def test_throughput_counts_queries_over_wall_time_with_the_gaps_between_them() -> None:
    columns = {name: np.zeros(5, dtype=kind) for name, kind in QUERY_COLUMNS}
    columns["phase"][:] = STEADY
    columns["start_ns"][:] = np.arange(5) * 100_000_000 + 7
    columns["invoke_ns"][:] = 100_000_000
    columns["invoke_ns"][:4] = 1_000_000
    summary = summarize_latency(columns)
    assert summary.steady_secs == pytest.approx(0.5)
    assert summary.throughput_qps == pytest.approx(10)


def test_a_percentile_that_the_count_does_not_support_is_absent_and_says_how_many_it_needs() -> None:
    metrics = {metric.name: metric for metric in latency_metrics(summarize_latency(make_queries(129)))}
    assert metrics["latency_ms.p90"].value is not None
    for stage in ("latency_ms", "pre_ms", "invoke_ms", "post_ms"):
        assert metrics[f"{stage}.p95"].value is None
        assert metrics[f"{stage}.p95"].cause == "129 steady queries; 130 are needed for p95"


def test_queries_longer_than_32_bits_of_nanoseconds_do_not_overflow() -> None:
    columns = {name: np.zeros(2, dtype=kind) for name, kind in QUERY_COLUMNS}
    columns["phase"][:] = STEADY
    for name in ("pre_ns", "invoke_ns", "post_ns"):
        columns[name][:] = 40_000_000_000
    columns["start_ns"][:] = [0, 120_000_000_000]
    assert summarize_latency(columns).stages["latency_ms"].mean == pytest.approx(120_000)
    assert summarize_latency(columns).stages["invoke_ms"].max == 40_000


def test_steady_rows_that_do_not_lie_together_are_still_the_only_ones_used() -> None:
    queries = make_queries(100)
    queries["phase"][50] = WARMUP
    queries["invoke_ns"][50] = 4_000_000_000
    summary = summarize_latency(queries)
    assert summary.query_count == 99
    assert summary.stages["invoke_ms"].max < 1


def test_a_run_without_steady_queries_gives_no_number_and_says_so() -> None:
    metrics = {metric.name: metric for metric in latency_metrics(summarize_latency(make_queries(0)))}
    assert metrics["query_count"].value == 0
    for name in ("latency_ms.mean", "invoke_ms.p50", "throughput_qps", "cv_percent", "steady_secs"):
        assert metrics[name].value is None
        assert metrics[name].cause


def test_every_latency_metric_is_in_the_table_with_its_unit() -> None:
    for metric in latency_metrics(summarize_latency(make_queries(50))):
        assert metric.unit == METRICS[metric.name].unit
    assert definition_of("accuracy.slice.room=kitchen").unit == "fraction"
    with pytest.raises(KeyError):
        definition_of("accuracy.slice.")


def test_windowed_means_show_a_duty_cycle_throttle_that_windowed_medians_hide() -> None:
    """A quota of 30 % lets most queries pass at full speed and stops a few: the median stays, the mean rises."""
    count = 40_000
    columns = {name: np.zeros(count, dtype=kind) for name, kind in QUERY_COLUMNS}
    columns["phase"][:] = STEADY
    columns["invoke_ns"][:] = 100_000
    columns["invoke_ns"][20_000::300] = 70_000_000
    columns["start_ns"][1:] = np.cumsum(columns["invoke_ns"].astype(np.uint64))[:-1]
    windows = windowed_latency(columns)
    assert windows.count.sum() == count
    assert windows.median_ms[-2] == pytest.approx(windows.median_ms[0])
    assert windows.mean_ms[-2] > 2 * windows.mean_ms[0]


def test_a_long_run_has_longer_windows_not_more_of_them() -> None:
    columns = {name: np.zeros(100_000, dtype=kind) for name, kind in QUERY_COLUMNS}
    columns["phase"][:] = STEADY
    columns["start_ns"][:] = np.arange(100_000, dtype=np.uint64) * 36_000_000
    windows = windowed_latency(columns)
    assert windows.window_secs == 8.0
    assert len(windows.mean_ms) <= 600
