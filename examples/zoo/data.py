"""The digits data and its one fixed split.

scikit-learn carries the 1,797 test images of UCI's optdigits: 8x8 pixels with values 0..16, written by 13 people. The images stand in the
file's original order, in which neighbours are often from one hand; who wrote which is not recorded. Splitting by position instead of
shuffling asks the harder and more honest question: does the network read hands that it mostly has not seen?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

#: Positions in scikit-learn's order: [0, 900) trains, [900, 1100) calibrates the quantizers, [1100, 1797) tests.
TRAIN_END = 900
CALIBRATION_END = 1100

#: Digits drawn with at least one closed loop; a 4 counts as having none.
CLOSED_DIGITS = (0, 6, 8, 9)


@dataclass(frozen=True)
class Split:
    """Images ``x`` (N, 8, 8, 1) float32 in 0..16, labels ``y`` (N,) int64 in 0..9 and ``position`` in scikit-learn's order."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    position: NDArray[np.int64]


def load_splits() -> tuple[Split, Split, Split]:
    """Return the train, calibration and test splits."""
    digits = load_digits()
    x = digits.images.astype(np.float32)[..., np.newaxis]
    y = digits.target.astype(np.int64)
    position = np.arange(len(y))
    edges = (slice(0, TRAIN_END), slice(TRAIN_END, CALIBRATION_END), slice(CALIBRATION_END, None))
    train, calibration, test = (Split(x[edge], y[edge], position[edge]) for edge in edges)
    return train, calibration, test


def ink_terciles(train: Split, split: Split) -> NDArray[np.str_]:
    """Name each image ``light``, ``medium`` or ``heavy`` by its summed pixel value; the two thresholds are the train split's terciles."""
    thresholds = np.quantile(train.x.sum(axis=(1, 2, 3)), [1 / 3, 2 / 3])
    return np.array(["light", "medium", "heavy"])[np.digitize(split.x.sum(axis=(1, 2, 3)), thresholds)]


def class_groups(split: Split) -> NDArray[np.str_]:
    """Name each image's digit ``closed`` (drawn with a loop: 0 6 8 9) or ``open``."""
    return np.where(np.isin(split.y, CLOSED_DIGITS), "closed", "open")


def file_thirds(split: Split) -> NDArray[np.str_]:
    """Name the third of the split, in file order, that each image lies in; writers differ along the file."""
    third = np.arange(len(split.y)) * 3 // len(split.y)
    return np.array(["first", "middle", "last"])[third]
