"""What the table of an experiment says: the same rows on the terminal, in ``--json`` and in the report."""

from __future__ import annotations

import pytest

from orchestrator.domain.states import Emulation, JobOutcome
from orchestrator.service import results
from tests.unit.service.lab import SAMPLE_COUNT, Cell, Lab, predictions

BROKEN = {"class": "job", "code": "runtime_crashed", "message": "SIGSEGV", "remedy": "report it to the runtime's makers"}


def rows(lab: Lab, experiment_id: str = "exp1") -> dict[tuple[str, str], results.ResultRow]:
    return {(row.variant, row.environment): row for row in results.experiment_table(lab.context, experiment_id).rows}


def test_flips_are_counted_both_ways_against_the_reference(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions([0, 1, 2])), Cell("w8a8", predictions([2, 3, 4, 5, 6]))])
    pair = rows(lab)["w8a8", "default"].against_reference
    assert pair is not None
    assert (pair.flips_to_wrong, pair.flips_to_right) == (4, 2)
    assert pair.difference == pytest.approx(-100 * 2 / SAMPLE_COUNT)
    assert rows(lab)["fp32", "default"].against_reference is None


def test_accuracy_comes_with_its_interval(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions(range(20)))])
    metric = rows(lab)["fp32", "default"].accuracy
    assert metric is not None
    assert metric.value == pytest.approx(0.9)
    assert metric.low is not None
    assert metric.high is not None
    assert metric.low < 0.9 < metric.high


def test_latency_is_the_median_over_repeats_with_their_range(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions(), latencies_ms=(1.0, 3.0, 1.2))])
    p50 = rows(lab)["fp32", "default"].p50_ms
    assert (p50.value, p50.low, p50.high, p50.repeats) == (pytest.approx(1.2), pytest.approx(1.0), pytest.approx(3.0), 3)


def test_a_percentile_that_too_few_queries_support_is_absent_with_its_cause(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions(), query_count=30)])
    row = rows(lab)["fp32", "default"]
    assert row.p50_ms.value is not None
    assert row.p90_ms.value is None
    assert "64" in str(row.p90_ms.cause)


def test_an_emulated_cpu_shows_accuracy_and_no_latency(lab: Lab) -> None:
    lab.add_device("qemu", Emulation.CPU)
    lab.add_experiment("exp1", [Cell("fp32", predictions(), device="qemu")])
    table = results.experiment_table(lab.context, "exp1")
    assert table.emulated_devices == ("qemu",)
    assert table.rows[0].accuracy is not None
    assert table.rows[0].accuracy.value == 1.0
    assert table.rows[0].p50_ms.value is None
    assert "emulated" in str(table.rows[0].p50_ms.cause)


def test_repeats_that_answer_differently_are_called_not_deterministic(lab: Lab) -> None:
    lab.add_experiment(
        "exp1",
        [
            Cell("fp32", predictions(), accuracy_repeats=3),
            Cell("changing", predictions(), accuracy_repeats=2, changing=True),
            Cell("once", predictions()),
        ],
    )
    found = rows(lab)
    assert found["fp32", "default"].deterministic is True
    assert found["changing", "default"].deterministic is False
    assert found["once", "default"].deterministic is None


def test_equal_problems_of_several_jobs_are_told_once_with_the_remedy(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions()), Cell("w8a8", predictions(), outcome=JobOutcome.ERROR, error=BROKEN)])
    table = results.experiment_table(lab.context, "exp1")
    problems = {problem.scenario: problem for row in table.rows for problem in row.problems}
    assert table.unmeasured_count == 3
    assert len(problems["latency"].job_ids) == 2
    assert problems["latency"].remedy == BROKEN["remedy"]


def test_skipped_jobs_do_not_count_as_unmeasured(lab: Lab) -> None:
    missing = {"class": "configuration", "code": "missing_runtime", "message": "no tflite here", "remedy": "edgematrix env add"}
    lab.add_experiment("exp1", [Cell("fp32", predictions()), Cell("w8", predictions(), outcome=JobOutcome.SKIPPED, error=missing)])
    table = results.experiment_table(lab.context, "exp1")
    assert table.unmeasured_count == 0
    assert [problem.outcome for row in table.rows for problem in row.problems] == ["skipped", "skipped"]


def test_two_environments_are_held_against_each_other_sample_by_sample(lab: Lab) -> None:
    lab.add_experiment(
        "exp1",
        [
            Cell("fp32", predictions()),
            Cell("w8a8", predictions([1])),
            Cell("fp32", predictions(), environment="litert"),
            Cell("w8a8", predictions([2, 3]), environment="litert", salt=1),
        ],
    )
    elsewhere = {item.variant: item for item in results.experiment_table(lab.context, "exp1").elsewhere}
    assert elsewhere["fp32"].comparison.bit_exact_share == 1.0
    assert elsewhere["w8a8"].comparison.bit_exact_share == 0.0
    assert (elsewhere["w8a8"].comparison.flips_to_wrong, elsewhere["w8a8"].comparison.flips_to_right) == (2, 1)
    assert "litert" in elsewhere["w8a8"].place
    assert "default" in elsewhere["w8a8"].base_place


def test_the_reference_of_the_same_environment_is_preferred(lab: Lab) -> None:
    lab.add_experiment(
        "exp1",
        [
            Cell("fp32", predictions()),
            Cell("fp32", predictions([9]), environment="litert"),
            Cell("w8a8", predictions([9]), environment="litert"),
        ],
    )
    row = rows(lab)["w8a8", "litert"]
    assert row.against_reference is not None
    assert row.against_reference.difference == 0
    assert row.reference_place is None


def test_a_reference_from_another_place_is_named(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions()), Cell("w8a8", predictions([9]), environment="litert")])
    row = rows(lab)["w8a8", "litert"]
    assert row.against_reference is not None
    assert row.against_reference.flips_to_wrong == 1
    assert row.reference_place is not None
    assert "default" in row.reference_place


def test_what_a_model_file_really_holds_stands_beside_its_variant(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions()), Cell("float32", predictions())], notes=["holds int8 weights"])
    assert rows(lab)["float32", "default"].notes == ("holds int8 weights",)


def test_the_table_can_be_asked_for_again_and_says_the_same(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions()), Cell("w8a8", predictions([4, 5]))])
    assert results.experiment_table(lab.context, "exp1") == results.experiment_table(lab.context, "exp1")


def test_a_job_is_found_by_its_id_and_an_unknown_one_is_none(lab: Lab) -> None:
    lab.add_experiment("exp1", [Cell("fp32", predictions())])
    found = results.find_job(lab.context, "exp1-001")
    assert found is not None
    assert found.job.scenario.value == "accuracy"
    assert results.find_job(lab.context, "exp1") is None
