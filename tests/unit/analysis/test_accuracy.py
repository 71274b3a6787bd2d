import numpy as np
import pytest

from agent.errors import DeviceReplyInvalid
from orchestrator.analysis.accuracy import expected_calibration_error, summarize_classification
from orchestrator.analysis.evaluators import EVALUATORS, EvaluationInput
from orchestrator.analysis.metric_names import PRIMARY_METRIC, definition_of
from orchestrator.analysis.samples import check_samples
from orchestrator.analysis.statistics import Undetermined, wilson_interval
from orchestrator.domain.states import TaskKind
from tests.unit.analysis.builders import make_sample_columns, make_samples

# Ten samples: top class, second class; labels make 6 right at rank 1 and 8 right within rank 2.
RANKED = np.array([[0, 1], [0, 1], [0, 2], [1, 0], [1, 2], [1, 0], [2, 0], [2, 1], [2, 0], [0, 1]])
LABELS = np.array([0, 0, 0, 1, 1, 1, 0, 1, 1, 2])


def test_top1_and_topk_are_what_counting_by_hand_gives() -> None:
    summary = summarize_classification(make_samples(RANKED), LABELS, {})
    assert not isinstance(summary, Undetermined)
    assert summary.top == {1: wilson_interval(6, 10), 2: wilson_interval(8, 10)}


def test_a_sample_with_nan_outputs_counts_as_wrong_and_is_named() -> None:
    finite = np.ones(10)
    finite[[1, 4]] = 0
    samples = make_samples(RANKED, finite=finite)
    summary = summarize_classification(samples, LABELS, {})
    assert not isinstance(summary, Undetermined)
    assert summary.top[1].estimate == 0.4
    assert samples.non_finite_samples == (1, 4)


def test_classes_and_slices_have_their_own_accuracy_and_count() -> None:
    rooms = np.array(["kitchen"] * 4 + ["hall"] * 6)
    summary = summarize_classification(make_samples(RANKED), LABELS, {"room": rooms}, ("cat", "dog", "owl"))
    assert not isinstance(summary, Undetermined)
    assert not isinstance(summary.by_class, Undetermined)
    assert {group.name: (group.accuracy.estimate, group.count) for group in summary.by_class} == {
        "cat": (0.75, 4),
        "dog": (0.6, 5),
        "owl": (0.0, 1),
    }
    groups = summary.by_slice["room"]
    assert not isinstance(groups, Undetermined)
    assert {group.name: (group.accuracy.estimate, group.count) for group in groups} == {
        "hall": (pytest.approx(1 / 3), 6),
        "kitchen": (1.0, 4),
    }


def test_a_slice_column_with_too_many_values_is_refused_with_the_cause() -> None:
    classes = np.zeros(300, dtype=int)
    given = EvaluationInput(make_samples(classes), {"label": classes, "id": np.arange(300)})
    metrics = {metric.name: metric for metric in EVALUATORS[TaskKind.CLASSIFICATION](given)}
    assert metrics["accuracy.slice.id=*"].value is None
    assert "300 different values" in str(metrics["accuracy.slice.id=*"].cause)


def test_calibration_error_agrees_with_the_definition_summed_bin_by_bin() -> None:
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0, 1, 2000)
    correct = rng.uniform(0, 1, 2000) < confidence**2
    expected = 0.0
    for low in range(15):
        chosen = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        expected += chosen.mean() * abs(correct[chosen].mean() - confidence[chosen].mean())
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)


def test_a_model_that_is_always_sure_and_half_right_has_a_calibration_error_of_one_half() -> None:
    assert expected_calibration_error(np.ones(100), np.arange(100) % 2 == 0) == pytest.approx(0.5)


def test_errors_of_opposite_sign_in_neighbouring_bins_do_not_cancel() -> None:
    confidence = np.array([0.90, 0.90, 0.99, 0.99])
    correct = np.array([True, True, True, False])
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.5 * 0.10 + 0.5 * 0.49)


def test_confidences_that_are_no_probabilities_give_no_calibration_error() -> None:
    answer = expected_calibration_error(np.array([0.4, 7.0]), np.array([True, False]))
    assert isinstance(answer, Undetermined)
    assert "scores" in answer.cause


@pytest.mark.parametrize(
    ("task", "why"), [(TaskKind.CLASSIFICATION, "no labels"), (TaskKind.ANOMALY, "no labels"), (TaskKind.TENSOR, "outputs")]
)
def test_every_task_says_why_its_primary_metric_is_absent(task: TaskKind, why: str) -> None:
    (metric,) = EVALUATORS[task](EvaluationInput(make_samples(RANKED)))
    assert metric.name == PRIMARY_METRIC[task]
    assert metric.value is None
    assert why in str(metric.cause)


def test_every_metric_of_an_evaluator_is_in_the_table_with_its_unit() -> None:
    given = EvaluationInput(make_samples(RANKED), {"label": LABELS, "room": ["a"] * 5 + ["b"] * 5}, ("x", "y", "z"))
    for task in (TaskKind.CLASSIFICATION, TaskKind.ANOMALY):
        for metric in EVALUATORS[task](given):
            assert definition_of(metric.name).unit == metric.unit


def test_answers_may_arrive_in_any_order() -> None:
    columns = make_sample_columns(RANKED)
    order = np.random.default_rng(0).permutation(10)
    shuffled = check_samples({name: values[order] for name, values in columns.items()}, 10)
    assert np.array_equal(shuffled.correct(LABELS), make_samples(RANKED).correct(LABELS))


def test_accuracy_is_over_the_answered_samples_and_the_missing_ones_are_counted() -> None:
    columns = {name: values[:6] for name, values in make_sample_columns(RANKED).items()}
    samples = check_samples(columns, 10)
    summary = summarize_classification(samples, LABELS, {})
    assert not isinstance(summary, Undetermined)
    assert (summary.top[1].estimate, summary.count, samples.missing_count) == (1.0, 6, 4)


@pytest.mark.parametrize("damage", ["twice", "beyond", "no column", "short column"])
def test_answers_that_a_sound_agent_cannot_write_are_refused(damage: str) -> None:
    columns = make_sample_columns(RANKED)
    if damage == "twice":
        columns["sample"][3] = 2
    elif damage == "beyond":
        columns["sample"][9] = 10
    elif damage == "no column":
        del columns["score_1"]
    else:
        columns["class_1"] = columns["class_1"][:-1]
    with pytest.raises(DeviceReplyInvalid):
        check_samples(columns, 10)


def test_a_model_with_fewer_classes_than_top_k_is_judged_on_the_classes_it_has() -> None:
    ranked = np.hstack([RANKED[:, :2], np.full((10, 3), -1)])
    summary = summarize_classification(make_samples(ranked), LABELS, {})
    assert not isinstance(summary, Undetermined)
    assert list(summary.top) == [1, 2]
