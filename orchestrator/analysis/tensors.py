"""Error of a model's outputs against those of the reference variant, for tasks that have no labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import DeviceReplyInvalid
from orchestrator.analysis.statistics import Undetermined

#: Values handled at once: outputs may fill gigabytes, their 64-bit copies shall not.
_BLOCK_VALUES = 4_000_000


@dataclass(frozen=True)
class TensorError:
    """Error over ``count`` samples present and finite on both sides.

    ``sqnr_db`` = 20 log10(|x| / |x - y|) with x the reference, all samples together; ``rmse`` and ``max_abs`` in the outputs' own
    unit; ``cosine`` is the mean over samples (1 where both are zero, 0 where one is).
    """

    count: int
    sqnr_db: float | Undetermined
    rmse: float
    max_abs: float
    cosine: float


def compare_outputs(reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> TensorError | Undetermined:
    """Compare two ``outputs`` streams (``sample`` of shape (n,), ``values`` of shape (n, size)), matched by sample.

    Undetermined when sizes differ or no sample is finite on both sides; raises DeviceReplyInvalid when a stream holds a sample twice.
    """
    x_index, y_index = (_sample_index(stream) for stream in (reference, candidate))
    x, y = np.asarray(reference["values"]), np.asarray(candidate["values"])
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        return Undetermined(f"the reference has {_size(x)} output values a sample and this run {_size(y)}")
    _, x_rows, y_rows = np.intersect1d(x_index, y_index, assume_unique=True, return_indices=True)
    step = max(1, _BLOCK_VALUES // max(1, x.shape[1]))
    signal = noise = cosines = max_abs = 0.0
    count = 0
    for start in range(0, x_rows.size, step):
        block_x = x[x_rows[start : start + step]].astype(np.float64)
        block_y = y[y_rows[start : start + step]].astype(np.float64)
        finite = np.isfinite(block_x).all(axis=1) & np.isfinite(block_y).all(axis=1)
        block_x, block_y = block_x[finite], block_y[finite]
        if block_x.size == 0:
            continue
        error = block_x - block_y
        signal += float(np.square(block_x).sum())
        noise += float(np.square(error).sum())
        max_abs = max(max_abs, float(np.abs(error).max()))
        cosines += float(_cosines(block_x, block_y).sum())
        count += block_x.shape[0]
    if count == 0:
        return Undetermined("no sample has finite outputs in both runs")
    return TensorError(
        count=count,
        sqnr_db=_decibels(signal, noise),
        rmse=math.sqrt(noise / (count * x.shape[1])),
        max_abs=max_abs,
        cosine=cosines / count,
    )


def _sample_index(stream: Mapping[str, Any]) -> NDArray[Any]:
    index = np.asarray(stream["sample"])
    if np.unique(index).size != index.size:
        raise DeviceReplyInvalid(
            "the device sent the outputs of one sample more than once", "check the agent on the device, then run again"
        )
    return index


def _size(values: NDArray[Any]) -> str:
    return str(values.shape[1]) if values.ndim == 2 else "no"


def _decibels(signal: float, noise: float) -> float | Undetermined:
    if noise == 0:
        return Undetermined("the outputs equal the reference's: there is no noise")
    if signal == 0:
        return Undetermined("the reference's outputs are all zero: there is no signal")
    return 10 * math.log10(signal / noise)


def _cosines(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    norm_x, norm_y = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    lengths = norm_x * norm_y
    both_zero = (norm_x == 0) & (norm_y == 0)
    cosines: NDArray[np.float64] = np.where(
        lengths > 0, (x * y).sum(axis=1) / np.where(lengths > 0, lengths, 1), np.where(both_zero, 1.0, 0.0)
    )
    return cosines
