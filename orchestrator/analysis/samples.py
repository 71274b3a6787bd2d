"""The per-sample answers of an accuracy run, checked: they come from a device and are not trusted before they passed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.errors import DeviceReplyInvalid
from agent.protocol import sample_columns

Columns: TypeAlias = Mapping[str, Any]

_REINSTALL = "the agent on the device wrote what the protocol does not allow; reinstall it and run again"

#: Groups (classes, values of a slice column) of one kind that get metrics of their own.
MOST_GROUPS = 256


@dataclass(frozen=True)
class SampleAnswers:
    """One row per answered sample, ascending by ``sample``.

    ``classes`` and ``scores`` have shape (answered, k), best class first, -1 where there is no such class; ``sample_count`` is
    how many the data set has.
    """

    sample: NDArray[np.int64]
    digest: NDArray[np.uint64]
    finite: NDArray[np.bool_]
    confidence: NDArray[np.float32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    sample_count: int

    @property
    def missing_count(self) -> int:
        """Samples of the data set that have no answer."""
        return self.sample_count - self.sample.size

    @property
    def non_finite_samples(self) -> tuple[int, ...]:
        """Samples with a NaN or infinite output."""
        return tuple(int(index) for index in self.sample[~self.finite])

    def correct(self, labels: NDArray[np.integer[Any]], k: int = 1) -> NDArray[np.bool_]:
        """Tell per answered sample whether its label is among the top ``k`` classes; ``labels`` has shape (sample_count,).

        A non-finite one is wrong.
        """
        wanted = labels[self.sample][:, None]
        hit: NDArray[np.bool_] = (self.classes[:, :k] == wanted).any(axis=1) & self.finite
        return hit


def check_samples(samples: Columns, sample_count: int) -> SampleAnswers:
    """Check and sort the ``samples`` stream (``agent.protocol.sample_columns``).

    Raises DeviceReplyInvalid when a column is missing or of another length, a sample lies outside of the data set or is answered twice.
    Missing samples are allowed and counted.
    """
    _check_columns(samples)
    index = np.asarray(samples["sample"]).astype(np.int64)
    if index.size and int(index.max()) >= sample_count:
        raise DeviceReplyInvalid(
            f"the device answered sample {int(index.max())} of a data set with {sample_count}",
            _REINSTALL,
        )
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise DeviceReplyInvalid(f"the device answered sample {int(repeated[0])} more than once", _REINSTALL)
    ranks = sum(1 for name in samples if str(name).startswith("class_"))

    def stacked(stem: str, kind: type[np.generic]) -> NDArray[Any]:
        if ranks == 0:
            return np.empty((ordered.size, 0), dtype=kind)
        return np.stack([np.asarray(samples[f"{stem}_{rank}"])[order] for rank in range(ranks)], axis=1)

    return SampleAnswers(
        sample=ordered,
        digest=np.asarray(samples["digest"])[order],
        finite=np.asarray(samples["finite"])[order] != 0,
        confidence=np.asarray(samples["confidence"])[order],
        classes=stacked("class", np.int32),
        scores=stacked("score", np.float32),
        sample_count=sample_count,
    )


def _check_columns(samples: Columns) -> None:
    ranks = sum(1 for name in samples if str(name).startswith("class_"))
    for name, _ in sample_columns(ranks):
        if name not in samples or np.shape(samples[name]) != np.shape(samples["sample"]):
            raise DeviceReplyInvalid(f"the samples stream has no column {name!r} of its length", _REINSTALL)


def labels_of(answers: Columns | None, sample_count: int) -> NDArray[np.int64] | None:
    """Return the labels, shape (sample_count,), of the ``answers`` table, or None when the data set has none."""
    if answers is None or "label" not in answers:
        return None
    labels = np.asarray(answers["label"]).astype(np.int64)
    if labels.shape != (sample_count,):
        raise ValueError(f"{labels.size} labels for {sample_count} samples")
    return labels


def slices_of(answers: Columns | None) -> dict[str, NDArray[np.str_]]:
    """Return the slice columns of the ``answers`` table as text, one value per sample."""
    if answers is None:
        return {}
    return {str(name): np.asarray(answers[name]).astype(str) for name in answers if name != "label"}
