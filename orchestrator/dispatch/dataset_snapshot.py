"""Turn one dataset of a spec into what travels (the inputs) and what stays (labels and slice columns), checking everything on the way."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.dispatch.npz import ArrayUnreadable, NpzFile, npy_bytes
from orchestrator.domain.mistakes import Mistake, Path, Source, did_you_mean
from orchestrator.domain.plan import PlannedDataset, PlannedInputs
from orchestrator.domain.results import DatasetInfo
from orchestrator.domain.spec import Dataset, Task
from orchestrator.domain.states import TaskKind

LABEL_COLUMN = "label"
MAX_SAMPLES = 2**31 - 1

_Array = np.ndarray[Any, np.dtype[Any]]
#: Keeps bytes under their digest: what kind they are → SHA-256 and size.
Keep = Callable[[bytes, str], tuple[str, int]]


@dataclass
class DatasetReading:
    """One reading of a dataset; ``mistakes`` grows while it is read, so that all of them are told."""

    dataset: Dataset
    task: Task
    source: Source
    path: Path
    mistakes: list[Mistake] = field(default_factory=list)

    def plan(self, data: bytes, keep: Keep) -> PlannedDataset | None:
        """Return the planned dataset, or None when there are mistakes."""
        try:
            archive = NpzFile(data)
        except ArrayUnreadable as error:
            self._mistake("file", error.message, error.remedy)
            return None
        inputs = self._inputs(archive)
        count = len(inputs) if inputs is not None else None
        labels = self._labels(archive, count)
        slices = {name: self._slice(archive, index, name, count) for index, name in enumerate(self.dataset.slices)}
        if self.mistakes or inputs is None:
            return None
        kept = {name: column for name, column in slices.items() if column is not None}
        return self._planned(data, inputs[: self.dataset.limit], labels, kept, keep)

    def _planned(self, data: bytes, inputs: _Array, labels: _Array | None, slices: dict[str, _Array], keep: Keep) -> PlannedDataset:
        sha256, size = keep(npy_bytes(inputs), "inputs")
        columns = {} if labels is None else {LABEL_COLUMN: labels[: self.dataset.limit]}
        columns.update({name: column[: self.dataset.limit] for name, column in slices.items()})
        answers_sha256, answers_size = keep(_parquet(columns), "answers") if columns else (None, None)
        class_count = len(self.dataset.class_names) or None
        if class_count is None and labels is not None and self.task.kind == TaskKind.CLASSIFICATION:
            class_count = int(labels.max()) + 1
        return PlannedDataset(
            info=DatasetInfo(
                file=self.dataset.file,
                sha256=hashlib.sha256(data).hexdigest(),
                sample_count=len(inputs),
                class_count=class_count,
                class_names=self.dataset.class_names,
            ),
            inputs=PlannedInputs(
                sha256=sha256,
                size_bytes=size,
                sample_count=len(inputs),
                sample_shape=inputs.shape[1:],
                dtype=inputs.dtype.name,
            ),
            answers_sha256=answers_sha256,
            answers_size_bytes=answers_size,
            slices=tuple(slices),
        )

    def _array(self, archive: NpzFile, at: Path, name: str) -> _Array | None:
        if name not in archive.names:
            self._mistake(at, f"{self.dataset.file} has no array {name!r}", did_you_mean(name, archive.names))
            return None
        try:
            return archive.read(name)
        except ArrayUnreadable as error:
            self._mistake(at, error.message, error.remedy)
            return None

    def _inputs(self, archive: NpzFile) -> _Array | None:
        inputs = self._array(archive, ("inputs",), self.dataset.inputs)
        if inputs is None:
            return None
        called = f"the inputs {self.dataset.inputs!r}"
        if inputs.ndim == 0 or len(inputs) == 0 or inputs.size == 0:
            self._mistake("inputs", f"{called} have the shape {inputs.shape}: there is no sample", "the first axis counts the samples")
        elif inputs.dtype.kind not in "biuf" or inputs.dtype.itemsize > 8:
            self._mistake("inputs", f"{called} are {inputs.dtype}", "save them as numbers: float32, int8, uint8 or the like")
        elif inputs.dtype.kind == "f" and not (finite := np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)).all():
            bad = np.flatnonzero(~finite)
            message = f"{called} hold NaN or infinite values in {len(bad)} samples, first in sample {bad[0]}"
            self._mistake("inputs", message, "remove or repair them")
        elif len(inputs) > MAX_SAMPLES:
            self._mistake("inputs", f"{called} have {len(inputs)} samples, more than the {MAX_SAMPLES} allowed", "use fewer samples")
        else:
            return inputs
        return None

    def _labels(self, archive: NpzFile, count: int | None) -> _Array | None:
        name = self.dataset.labels
        if name is None:
            return None
        labels = self._array(archive, ("labels",), name)
        if labels is None or not self._counts("labels", name, labels, count):
            return None
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            message = f"the labels {name!r} have the shape {labels.shape}"
            self._mistake("labels", message, "give one whole number for each sample (the argmax, if they are one-hot)")
        elif labels.dtype.kind not in "biu" and not _are_whole(labels):
            self._mistake("labels", f"the labels {name!r} are {labels.dtype}, not whole numbers", "number the classes from 0")
        elif self.task.kind != TaskKind.TENSOR:
            return self._labels_in_range(name, labels)
        else:
            return labels.astype(np.int64)
        return None

    def _labels_in_range(self, name: str, labels: _Array) -> _Array | None:
        names = self.dataset.class_names
        limit = 2 if self.task.kind == TaskKind.ANOMALY else len(names) or 2**31
        wrong = np.flatnonzero((labels < 0) | (labels >= limit))
        if len(wrong) == 0:
            return labels.astype(np.int64)
        said = f"the labels {name!r} hold {labels[wrong[0]]} (sample {wrong[0]}; {len(wrong)} samples in all are out of range)"
        if self.task.kind == TaskKind.ANOMALY:
            self._mistake("labels", said, "an anomaly task has the labels 0 (normal) and 1 (anomaly)")
        else:
            allowed = (
                f"class_names has {len(names)} classes, so labels are 0 to {len(names) - 1}" if names else "labels count the classes from 0"
            )
            self._mistake("labels", said, allowed)
        return None

    def _slice(self, archive: NpzFile, index: int, name: str, count: int | None) -> _Array | None:
        at = ("slices", index)
        if name == LABEL_COLUMN:
            message = f"a slice column cannot be called {LABEL_COLUMN!r}"
            self._mistake(at, message, "accuracy by class is always shown; rename the array if it is another thing")
            return None
        column = self._array(archive, at, name)
        if column is None or not self._counts(at, name, column, count):
            return None
        if column.ndim != 1 or column.dtype.kind not in "biuU":
            message = f"the slice column {name!r} is {column.dtype} of shape {column.shape}"
            self._mistake(at, message, "give one text or whole number for each sample")
            return None
        return column

    def _counts(self, at: str | Path, name: str, column: _Array, count: int | None) -> bool:
        found = len(column) if column.ndim else 0
        if count is None or found == count:
            return True
        self._mistake(at, f"{name!r} has {found} entries for {count} samples of {self.dataset.inputs!r}", "give one for each sample")
        return False

    def _mistake(self, at: str | Path, message: str, remedy: str) -> None:
        inner = (at,) if isinstance(at, str) else at
        self.mistakes.append(self.source.mistake((*self.path, *inner), message, remedy))


def _are_whole(labels: _Array) -> bool:
    return labels.dtype.kind == "f" and bool(np.isfinite(labels).all()) and np.array_equal(labels, np.trunc(labels))


def _parquet(columns: dict[str, _Array]) -> bytes:
    table = pa.table({name: pa.array(column.tolist() if column.dtype.kind == "U" else column) for name, column in columns.items()})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
