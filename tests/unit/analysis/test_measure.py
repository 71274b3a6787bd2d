import dataclasses

import numpy as np
import pandas as pd
import pytest

from agent.errors import DeviceReplyInvalid
from agent.protocol import PHASES
from orchestrator.analysis.measure import EMULATED_CPU, Measured, compute
from orchestrator.analysis.metric_names import definition_of
from orchestrator.domain.results import Metric
from orchestrator.domain.states import Emulation, Scenario, TaskKind, Validity
from tests.unit.analysis.builders import ORIGIN_NS, SECOND_NS, make_outcome, make_queries, make_sample_columns, make_telemetry

CLASSES = np.arange(200) % 4
ANSWERS = {"label": np.where(np.arange(200) < 20, (CLASSES + 1) % 4, CLASSES), "room": np.where(np.arange(200) % 2 == 0, "hall", "attic")}


def _latency(**changes: object) -> Measured:
    given: dict = {
        "scenario": Scenario.LATENCY,
        "task": TaskKind.CLASSIFICATION,
        "sample_count": 200,
        "streams": {"queries": make_queries(2000, jitter=0.01)},
        "outcome": make_outcome(),
        **changes,
    }
    return compute(**given)


def _accuracy(**changes: object) -> Measured:
    given: dict = {
        "scenario": Scenario.ACCURACY,
        "task": TaskKind.CLASSIFICATION,
        "sample_count": 200,
        "streams": {"queries": make_queries(200, phase="accuracy"), "samples": make_sample_columns(CLASSES)},
        "outcome": make_outcome(),
        "answers": ANSWERS,
        "class_names": ("a", "b", "c", "d"),
        **changes,
    }
    return compute(**given)


def _by_name(measured: Measured) -> dict[str, Metric]:
    return {metric.name: metric for metric in measured.metrics}


def test_a_latency_run_gives_load_first_query_memory_and_every_stage() -> None:
    metrics = _by_name(_latency())
    assert metrics["init_ms"].value == 5.0
    assert metrics["first_ms"].value == 0.9
    assert metrics["peak_rss_mb"].value == 80.0
    assert metrics["model_rss_mb"].value == 20.0
    assert metrics["invoke_ms.p50"].value == pytest.approx(0.1, rel=0.01)
    assert metrics["latency_ms.mean"].value == pytest.approx(0.103, rel=0.01)
    assert metrics["throughput_qps"].value == pytest.approx(1 / 0.000103, rel=0.01)
    assert metrics["query_count"].value == 2000


def test_an_accuracy_run_gives_accuracy_with_its_interval_and_no_latency() -> None:
    metrics = _by_name(_accuracy())
    assert metrics["accuracy.top1"].value == 0.9
    assert metrics["accuracy.top1"].low is not None
    assert metrics["accuracy.top1"].low < 0.9 < (metrics["accuracy.top1"].high or 0)
    assert metrics["accuracy.slice.room=hall"].count == 100
    assert metrics["accuracy.class.a"].value is not None
    assert metrics["sample_count"].value == 200
    assert not any(name.startswith(("latency_ms", "invoke_ms")) for name in metrics)


def test_a_dataframe_of_answers_and_one_of_streams_give_the_same_result() -> None:
    frames = {"queries": pd.DataFrame(make_queries(200, phase="accuracy")), "samples": pd.DataFrame(make_sample_columns(CLASSES))}
    assert _accuracy(streams=frames, answers=pd.DataFrame(ANSWERS)) == _accuracy()


def test_on_an_emulated_cpu_no_metric_tells_a_time_and_each_says_why() -> None:
    measured = _latency(emulated=Emulation.CPU)
    for metric in measured.metrics:
        if metric.unit in ("ms", "1/s", "s", "%"):
            assert (metric.value, metric.cause) == (None, EMULATED_CPU)
    assert _by_name(measured)["query_count"].value == 2000
    assert _by_name(measured)["peak_rss_mb"].value is None
    assert measured.validity.level == Validity.INVALID


def test_on_an_emulated_cpu_accuracy_stands() -> None:
    measured = _accuracy(emulated=Emulation.CPU)
    assert _by_name(measured)["accuracy.top1"].value == 0.9
    assert _by_name(measured)["init_ms"].cause == EMULATED_CPU
    assert measured.validity.level == Validity.VALID


def test_in_an_emulated_environment_latency_is_kept() -> None:
    assert _by_name(_latency(emulated=Emulation.ENVIRONMENT))["latency_ms.p50"].value is not None


def test_the_same_traces_give_the_same_result_twice() -> None:
    assert _latency() == _latency()
    assert _accuracy() == _accuracy()


def test_metric_names_are_unique_and_in_the_table() -> None:
    for measured in (_latency(), _accuracy()):
        names = [metric.name for metric in measured.metrics]
        assert len(names) == len(set(names))
        assert all(definition_of(metric.name).unit == metric.unit for metric in measured.metrics)


def test_what_is_absent_always_carries_a_cause() -> None:
    bare = dataclasses.replace(make_outcome(), runner=None)
    for measured in (_latency(streams={}, outcome=bare), _accuracy(streams={}, outcome=bare, answers=None)):
        assert all(metric.cause for metric in measured.metrics if metric.value is None)
        assert measured.validity.level == Validity.INVALID


def test_only_telemetry_of_the_steady_part_is_judged() -> None:
    """Loading a model is busy work of others as far as the steady part is concerned, and is not held against it."""
    queries = make_queries(20_000, invoke_ns=500_000)
    queries["start_ns"] += 3 * SECOND_NS
    count = 140
    busy = np.where(np.arange(count) < 29, 100.0, 26.0)
    telemetry, sensors = make_telemetry({"cpu_busy_percent": busy, "runner_cpu_percent": np.full(count, 25.0)})
    measured = _latency(streams={"queries": queries, "telemetry": telemetry}, outcome=make_outcome(sensors), telemetry_hz=10)
    assert measured.validity.level == Validity.VALID
    busy[60:] = 90.0
    telemetry, sensors = make_telemetry({"cpu_busy_percent": busy, "runner_cpu_percent": np.full(count, 25.0)})
    measured = _latency(streams={"queries": queries, "telemetry": telemetry}, outcome=make_outcome(sensors), telemetry_hz=10)
    assert [reason.code for reason in measured.validity.reasons] == ["background_load"]


def test_telemetry_times_are_the_devices_clock_and_are_matched_to_the_queries_by_the_runners_origin() -> None:
    """A device that has been up for a year counts its nanoseconds from there."""
    year_ns = 365 * 24 * 3600 * SECOND_NS
    queries = make_queries(20_000, invoke_ns=500_000)
    queries["start_ns"] += 3 * SECOND_NS
    count = 140
    busy = np.where(np.arange(count) < 29, 26.0, 90.0)
    telemetry, sensors = make_telemetry({"cpu_busy_percent": busy, "runner_cpu_percent": np.full(count, 25.0)})
    telemetry["time_ns"] += np.uint64(year_ns)
    outcome = make_outcome(sensors, origin_monotonic_ns=ORIGIN_NS + year_ns)
    measured = _latency(streams={"queries": queries, "telemetry": telemetry}, outcome=outcome, telemetry_hz=10)
    assert [reason.code for reason in measured.validity.reasons] == ["background_load"]


def test_telemetry_from_before_the_runner_started_is_no_part_of_the_run() -> None:
    """The supervisor samples earlier than the runner exists: its times lie before the origin that queries count from."""
    telemetry, sensors = make_telemetry({"cpu_busy_percent": np.full(40, 95.0), "runner_cpu_percent": np.full(40, 5.0)})
    telemetry["time_ns"] -= np.uint64(60 * SECOND_NS)
    measured = _latency(streams={"queries": make_queries(2000), "telemetry": telemetry}, outcome=make_outcome(sensors), telemetry_hz=10)
    assert not measured.validity.reasons
    assert any(text.startswith("background load") for text in measured.validity.unknown)


def test_the_clock_is_judged_against_the_maximum_that_the_conditions_name() -> None:
    telemetry, sensors = make_telemetry({"clock.policy0_khz": np.full(20, 1_200_000.0)}, period_ns=SECOND_NS // 100)
    conditions = {"frequency": {"policy0": {"max_khz": 1_500_000}, "policy1": {"max_khz": "hostile"}, "policy2": 7}}
    streams = {"queries": make_queries(2000), "telemetry": telemetry}
    measured = _latency(streams=streams, outcome=make_outcome(sensors, conditions), telemetry_hz=100)
    assert [(reason.code, reason.value) for reason in measured.validity.reasons] == [("clock_below_max", pytest.approx(80))]


def test_the_tensor_task_is_measured_against_the_reference_outputs() -> None:
    outputs = {"sample": np.arange(200, dtype=np.uint32), "values": np.ones((200, 3), dtype=np.float32)}
    reference = {**outputs, "values": outputs["values"] * np.float32(1.1)}
    streams = {"samples": make_sample_columns(CLASSES), "outputs": outputs}
    metrics = _by_name(_accuracy(task=TaskKind.TENSOR, streams=streams, reference_outputs=reference, answers=None))
    assert metrics["max_abs_error"].value == pytest.approx(0.1, rel=1e-5)
    assert metrics["sqnr_db"].value == pytest.approx(20 * np.log10(11), rel=1e-4)


def test_the_anomaly_task_is_measured_by_the_area_under_its_curve() -> None:
    label = (np.arange(200) < 50).astype(int)
    score = label + np.random.default_rng(1).normal(0, 1, 200)
    streams = {"samples": make_sample_columns(np.zeros(200, dtype=int), score)}
    metric = _by_name(_accuracy(task=TaskKind.ANOMALY, streams=streams, answers={"label": label}))["auc"]
    assert metric.value is not None
    assert metric.low is not None
    assert metric.high is not None
    assert 0.6 < metric.low < metric.value < metric.high < 0.9


@pytest.mark.parametrize("damage", ["phase", "century", "column", "lengths", "signed", "sensor", "telemetry column", "clock"])
def test_streams_that_a_sound_agent_cannot_write_are_refused(damage: str) -> None:
    queries = make_queries(50)
    telemetry, sensors = make_telemetry({"thermal.a_c": np.full(5, 40.0)})
    if damage == "phase":
        queries["phase"][3] = len(PHASES)
    elif damage == "century":
        queries["invoke_ns"][3] = 2**63
    elif damage == "column":
        del queries["post_ns"]
    elif damage == "lengths":
        queries["post_ns"] = queries["post_ns"][:-1]
    elif damage == "signed":
        queries["pre_ns"] = queries["pre_ns"].astype(np.int64) - 10_000
    elif damage == "sensor":
        telemetry["sensor"][2] = 9
    elif damage == "clock":
        telemetry["time_ns"][2] = 2**63
    else:
        del telemetry["value"]
    with pytest.raises(DeviceReplyInvalid):
        _latency(streams={"queries": queries, "telemetry": telemetry}, outcome=make_outcome(sensors))
