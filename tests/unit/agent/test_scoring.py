"""What is said of one sample's outputs."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from agent.errors import LabelsOutOfRange, RequestInvalid, ShapeMismatch
from agent.protocol import TensorInfo
from agent.scoring import Scored, all_finite, digest, make_scorer

FLOAT_INPUT = TensorInfo("x", [1, 4], "float32")
BATCH = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)


def _score(
    values: list[float], task: str = "classification", scores: str = "logits", top_k: int = 2, class_count: int | None = None
) -> Scored:
    outputs = [np.array([values], np.float32)]
    return make_scorer(task, scores, top_k, class_count, outputs, BATCH, FLOAT_INPUT)(outputs, BATCH)


def test_logits_give_the_softmax_of_the_top_class() -> None:
    scored = _score([1.0, 3.0, 2.0])
    assert scored.classes.tolist() == [1, 2]
    assert scored.scores.tolist() == [3.0, 2.0]
    assert scored.confidence == pytest.approx(np.exp(3) / (np.exp(1) + np.exp(2) + np.exp(3)))


def test_huge_logits_do_not_overflow() -> None:
    assert _score([1e30, -1e30]).confidence == 1.0


def test_probabilities_are_the_confidence_as_they_are() -> None:
    assert _score([0.25, 0.75], scores="probabilities").confidence == 0.75


def test_equal_scores_are_ranked_by_class_number() -> None:
    assert _score([0.5, 0.7, 0.7], top_k=3).classes.tolist() == [1, 2, 0]


def test_nan_ranks_below_every_number_and_leaves_no_confidence() -> None:
    scored = _score([np.nan, -5.0, 1.0], top_k=3)
    assert scored.classes.tolist() == [2, 1, 0]
    assert np.isnan(scored.confidence)


def test_places_beyond_the_models_classes_say_so() -> None:
    scored = _score([0.1, 0.9], top_k=4)
    assert scored.classes.tolist() == [1, 0, -1, -1]
    assert np.isnan(scored.scores[2:]).all()


def test_labels_for_more_classes_than_the_model_has_are_refused() -> None:
    assert _score([0.1, 0.9], class_count=2).classes[0] == 1
    with pytest.raises(LabelsOutOfRange, match="name 3 classes, the model has 2"):
        _score([0.1, 0.9], class_count=3)


def test_classification_of_a_single_value_is_refused() -> None:
    with pytest.raises(ShapeMismatch):
        _score([0.1])


def test_a_single_value_is_the_anomaly_score() -> None:
    assert _score([0.125], task="anomaly").confidence == 0.125


def test_a_reconstruction_is_scored_by_its_mean_squared_error() -> None:
    assert _score([1.0, 2.0, 3.0, 6.0], task="anomaly").confidence == 1.0


def test_a_quantized_input_is_dequantized_before_a_reconstruction_is_compared() -> None:
    model_input = TensorInfo("x", [1, 2], "int8", scale=0.5, zero_point=10)
    batch, outputs = np.array([[12, 14]], np.int8), [np.array([[1.0, 2.0]], np.float32)]
    assert make_scorer("anomaly", "logits", 1, None, outputs, batch, model_input)(outputs, batch).confidence == 0.0


def test_an_output_that_is_no_score_and_no_reconstruction_is_refused() -> None:
    with pytest.raises(ShapeMismatch):
        _score([1.0, 2.0], task="anomaly")


def test_the_tensor_task_has_no_score() -> None:
    scored = _score([1.0], task="tensor")
    assert np.isnan(scored.confidence)
    assert scored.classes.tolist() == [-1, -1]


@pytest.mark.parametrize(("task", "scores"), [("detection", "logits"), ("classification", "odds")])
def test_unknown_words_are_refused(task: str, scores: str) -> None:
    with pytest.raises(RequestInvalid):
        _score([1.0, 2.0], task=task, scores=scores)


def test_the_digest_covers_the_raw_bytes_of_all_outputs_in_order() -> None:
    first, second = np.array([1, 2], np.int8), np.array([[0.5]], np.float32)
    expected = hashlib.sha256(first.tobytes() + second.tobytes()).digest()[:8]
    assert digest([first, second]) == int.from_bytes(expected, "little")
    assert digest([second, first]) != digest([first, second])
    assert digest([np.zeros(0, np.float32)]) == int.from_bytes(hashlib.sha256(b"").digest()[:8], "little")


def test_nan_and_infinity_are_not_finite_and_integers_always_are() -> None:
    assert all_finite([np.array([1.0]), np.array([1], np.int8)])
    assert not all_finite([np.array([1.0]), np.array([np.nan])])
    assert not all_finite([np.array([np.inf], np.float16)])
