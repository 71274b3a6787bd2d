"""What one sample's outputs say: top classes and confidence, an anomaly score, a digest, whether all values are finite. Pure functions."""

from __future__ import annotations

import hashlib
from typing import Callable, List, NamedTuple, Optional

import numpy as np

from agent.errors import LabelsOutOfRange, RequestInvalid, ShapeMismatch
from agent.preprocess import Step, dequantizer
from agent.protocol import TensorInfo

TASKS = ("classification", "anomaly", "tensor")
SCORES = ("logits", "probabilities")

NO_CLASS = -1


class Scored(NamedTuple):
    """``classes`` (top_k,) i4 and ``scores`` (top_k,) f4, best first; places without a class are -1 and NaN. ``confidence`` is NaN where
    none exists.
    """

    confidence: float
    classes: np.ndarray
    scores: np.ndarray


#: From the outputs of one query (dequantized, in the model's order) and the batch that went in.
Scorer = Callable[[List[np.ndarray], np.ndarray], Scored]


def make_scorer(
    task: str, scores: str, top_k: int, class_count: Optional[int], values: List[np.ndarray], batch: np.ndarray, model_input: TensorInfo
) -> Scorer:
    """Return the scorer of a task, checked against one answered query (``values`` and ``batch``).

    classification: the first output, flattened, holds one score per class; confidence is the softmax of the top class (``logits``) or its
    score itself (``probabilities``). anomaly: a single value is the score; an output as large as the input is a reconstruction, and the
    score is their mean squared error (MLPerf Tiny's anomaly detection). tensor: no score.

    Raises :class:`RequestInvalid` for an unknown word, :class:`ShapeMismatch` for outputs the task cannot read, :class:`LabelsOutOfRange`
    when the labels name more classes than the model has.
    """
    if task not in TASKS or scores not in SCORES or not 0 <= top_k <= 100:
        message = f"task {task!r} (of {TASKS}), scores {scores!r} (of {SCORES}), top_k {top_k}: one of them is unknown"
        raise RequestInvalid(message, "submit with an orchestrator of the agent's version")
    if task == "classification":
        return _classification(scores, top_k, class_count, values[0])
    none = Scored(float("nan"), np.full(top_k, NO_CLASS, np.int32), np.full(top_k, np.nan, np.float32))
    if task == "tensor":
        return lambda values, batch: none
    return _anomaly(none, values[0], batch, dequantizer(model_input))


def _classification(scores: str, top_k: int, class_count: Optional[int], example: np.ndarray) -> Scorer:
    found = example.size
    if found < 2:
        message = f"classification needs an output of two classes or more; the model's first output has the shape {list(example.shape)}"
        raise ShapeMismatch(message, "use the task anomaly or tensor for this model")
    if class_count is not None and class_count > found:
        remedy = "use labels below the model's class count, or the dataset this model was made for"
        raise LabelsOutOfRange(f"the labels name {class_count} classes, the model has {found}", remedy)
    kept = min(top_k, found)
    is_logits = scores == "logits"

    def score(values: List[np.ndarray], batch: np.ndarray) -> Scored:
        flat = values[0].reshape(-1).astype(np.float64)
        order = rank(flat)
        classes = np.full(top_k, NO_CLASS, np.int32)
        classes[:kept] = order[:kept]
        best = np.full(top_k, np.nan, np.float32)
        best[:kept] = flat[order[:kept]]
        top = flat[order[0]]
        return Scored(softmax_of_top(flat, top) if is_logits else float(top), classes, best)

    return score


def rank(flat: np.ndarray) -> np.ndarray:
    """Return class numbers, best first: equal scores by the lower number, NaN as the lowest score of all."""
    return np.argsort(-np.where(np.isnan(flat), -np.inf, flat), kind="stable")


def softmax_of_top(flat: np.ndarray, top: float) -> float:
    """Return the softmax of the highest score ``top``; NaN unless all scores are finite."""
    if not np.isfinite(flat).all():
        return float("nan")
    return float(1.0 / np.exp(flat - top).sum())


def _anomaly(none: Scored, example: np.ndarray, batch: np.ndarray, dequantize: Optional[Step]) -> Scorer:
    if example.size == 1:
        return lambda values, batch: none._replace(confidence=float(values[0].reshape(-1)[0]))
    if example.size != batch.size:
        message = f"anomaly needs one score, or an output like the input {list(batch.shape)}; the model gives {list(example.shape)}"
        raise ShapeMismatch(message, "use the task tensor for this model")

    def score(values: List[np.ndarray], batch: np.ndarray) -> Scored:
        given = batch if dequantize is None else dequantize(batch)
        error = values[0].reshape(-1).astype(np.float64) - given.reshape(-1)
        return none._replace(confidence=float(np.mean(error * error)))

    return score


def digest(raw: List[np.ndarray]) -> int:
    """Return the first 8 bytes, as a little-endian number, of the SHA-256 of the raw bytes of all outputs, in order."""
    digester = hashlib.sha256()
    for output in raw:
        digester.update(np.ascontiguousarray(output).data if output.size else b"")
    return int.from_bytes(digester.digest()[:8], "little")


def all_finite(raw: List[np.ndarray]) -> bool:
    """Return whether no output holds a NaN or an infinity."""
    return all(output.dtype.kind != "f" or bool(np.isfinite(output).all()) for output in raw)
