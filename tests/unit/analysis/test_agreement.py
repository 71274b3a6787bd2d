import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from orchestrator.analysis.agreement import compare_anomaly, compare_classification, compare_latency, compare_tensors
from orchestrator.analysis.samples import check_samples
from orchestrator.analysis.statistics import content_rng
from tests.unit.analysis.builders import make_sample_columns, make_samples

LABELS = np.arange(1000) % 10


def _answers(wrong: slice | list[int]) -> np.ndarray:
    classes = LABELS.copy()
    classes[wrong] = (classes[wrong] + 1) % 10
    return classes


def test_flips_are_counted_both_ways_and_not_netted() -> None:
    reference, candidate = make_samples(_answers(slice(0, 30))), make_samples(_answers(slice(20, 80)))
    found = compare_classification(reference, candidate, LABELS, content_rng("a"))
    assert (found.flips_to_wrong, found.flips_to_right) == (50, 20)
    assert found.difference is not None
    assert found.difference.estimate == pytest.approx(-0.03)
    assert found.mcnemar_p == pytest.approx(scipy.stats.binomtest(20, 70, 0.5).pvalue)
    assert found.top1_agreement == pytest.approx(0.93)
    assert found.verdict == "worse"


def test_a_small_difference_is_undetermined_and_says_why() -> None:
    found = compare_classification(make_samples(_answers([1, 2])), make_samples(_answers([2, 3, 4])), LABELS, content_rng("a"))
    assert found.verdict == "undetermined"
    assert "holds zero" in str(found.cause)


def test_two_runs_with_the_same_answers_are_the_same() -> None:
    found = compare_classification(make_samples(_answers([5])), make_samples(_answers([5])), LABELS, content_rng("a"))
    assert (found.verdict, found.top1_agreement, found.bit_exact_share) == ("same", 1.0, 1.0)


def test_bit_exact_share_sees_outputs_that_differ_below_the_top_class() -> None:
    columns = make_sample_columns(LABELS)
    columns["digest"][:250] += 1
    found = compare_classification(make_samples(LABELS), check_samples(columns, 1000), LABELS, content_rng("a"))
    assert found.top1_agreement == 1.0
    assert found.bit_exact_share == 0.75


def test_without_labels_agreement_is_still_told() -> None:
    found = compare_classification(make_samples(LABELS), make_samples(_answers([0])), None, content_rng("a"))
    assert found.top1_agreement == 0.999
    assert (found.verdict, found.cause, found.difference) == ("undetermined", "the data set has no labels", None)


def test_a_nan_answer_agrees_with_nothing_not_even_with_itself() -> None:
    finite = np.ones(1000)
    finite[0] = 0
    broken = make_samples(LABELS, finite=finite)
    found = compare_classification(broken, broken, LABELS, content_rng("a"))
    assert found.top1_agreement == 0.999
    assert found.verdict != "same"


@pytest.mark.parametrize(
    ("datasets", "size", "why"),
    [(("a", "b"), 1000, "different data sets"), (("a", "a"), 500, "differ in size"), (None, 500, "differ in size")],
)
def test_runs_over_other_data_are_never_compared(datasets: tuple[str, str] | None, size: int, why: str) -> None:
    found = compare_classification(make_samples(LABELS), make_samples(LABELS[:size]), LABELS, content_rng("a"), datasets=datasets)
    assert found.verdict == "undetermined"
    assert why in str(found.cause)
    assert found.difference is None


def test_missing_answers_leave_the_numbers_and_take_the_verdict() -> None:
    partial = check_samples({name: values[:900] for name, values in make_sample_columns(_answers(slice(0, 300))).items()}, 1000)
    found = compare_classification(make_samples(LABELS), partial, LABELS, content_rng("a"))
    assert found.count == 900
    assert found.flips_to_wrong == 300
    assert found.verdict == "undetermined"
    assert "100 of 1000" in str(found.cause)


def test_the_same_comparison_gives_the_same_interval_and_another_one_draws_anew() -> None:
    pair = make_samples(_answers(slice(0, 30))), make_samples(_answers(slice(20, 80)))
    assert compare_classification(*pair, LABELS, content_rng("job-a", "job-b")) == compare_classification(
        *pair, LABELS, content_rng("job-a", "job-b")
    )
    assert content_rng("ab", "c").integers(2**60) != content_rng("a", "bc").integers(2**60)


def test_a_comparison_can_be_written_as_json() -> None:
    found = compare_classification(make_samples(LABELS), make_samples(_answers(slice(0, 9))), LABELS, content_rng("a"))
    assert json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))["flips_to_wrong"] == 9


def test_a_worse_anomaly_detector_is_found_worse() -> None:
    rng = np.random.default_rng(1)
    labels = (np.arange(600) < 200).astype(int)
    score = np.where(labels == 1, 2.0, 0.0) + rng.normal(0, 1, 600)
    classes = np.zeros(600, dtype=int)
    reference, candidate = make_samples(classes, score), make_samples(classes, score + rng.normal(0, 3, 600))
    found = compare_anomaly(reference, candidate, labels)
    assert found.verdict == "worse"
    assert found.reference_auc is not None
    assert found.candidate_auc is not None
    assert found.difference is not None
    assert found.difference.estimate == pytest.approx(found.candidate_auc - found.reference_auc)
    assert compare_anomaly(reference, reference, labels).verdict == "same"


def test_outputs_that_differ_are_measured_but_not_judged() -> None:
    values = np.random.default_rng(1).normal(0, 1, (1000, 4)).astype(np.float32)
    outputs = {"sample": np.arange(1000, dtype=np.uint32), "values": values}
    reference, candidate = make_samples(LABELS), make_samples(_answers(slice(0, 1000)))
    found = compare_tensors(reference, candidate, outputs, {**outputs, "values": values + np.float32(0.1)})
    assert found.verdict == "undetermined"
    assert found.error is not None
    assert found.error.max_abs == pytest.approx(0.1, rel=1e-5)
    assert compare_tensors(reference, reference, None, None).verdict == "same"


def test_latency_is_slower_only_when_the_interval_excludes_one() -> None:
    found = compare_latency([1.00, 1.02, 0.99], [1.30, 1.28, 1.33])
    assert found.verdict == "slower"
    assert found.ratio == pytest.approx(scipy.stats.gmean([1.30, 1.28, 1.33]) / scipy.stats.gmean([1.00, 1.02, 0.99]))
    assert compare_latency([1.30, 1.28, 1.33], [1.00, 1.02, 0.99]).verdict == "faster"
    close = compare_latency([1.00, 1.10], [1.05, 1.12])
    assert close.verdict == "undetermined"
    assert "holds 1" in str(close.cause)


def test_one_repeat_gives_a_ratio_but_no_verdict() -> None:
    found = compare_latency([1.0], [3.0])
    assert found.ratio == pytest.approx(3.0)
    assert found.interval is None
    assert found.verdict == "undetermined"
    assert "1 repeat" in str(found.cause)
