"""The statistics that everything else is built from: intervals for shares, differences and ratios, and which percentiles a count supports.

All functions are pure; randomness comes in as a ``numpy.random.Generator``. An interval that cannot be made is an
:class:`Undetermined` with a cause.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, stdtrit

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

#: Smallest number of observations that supports a percentile at 99 % confidence, one-sided, allowing for one observation beyond
#: it: the smallest n with P(Binomial(n, 1 - p) <= 1) <= 0.01. This is LoadGen's early stopping (mlcommons/inference) with its
#: tolerance at zero.
MINIMUM_COUNTS = {50.0: 11, 90.0: 64, 95.0: 130, 99.0: 662, 99.9: 6636}


@dataclass(frozen=True)
class Interval:
    """A point estimate with a two-sided interval; ``method`` names how the interval was made."""

    estimate: float
    low: float
    high: float
    confidence: float
    method: str

    def excludes(self, value: float) -> bool:
        """Tell whether ``value`` lies outside of the interval."""
        return not self.low <= value <= self.high


@dataclass(frozen=True)
class Undetermined:
    """A number that cannot be known from what was measured, and why."""

    cause: str


def content_rng(*parts: str) -> np.random.Generator:
    """Return a generator seeded by content (job keys, digests):

    the same comparison gives the same interval wherever and whenever it is made.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def wilson_interval(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a share, without continuity correction (Wilson, JASA 1927).

    Raises ValueError unless 0 <= successes <= count and count > 0.
    """
    if not 0 <= successes <= count or count == 0:
        raise ValueError(f"{successes} of {count} is no share")
    z = float(ndtri(0.5 + confidence / 2))
    share = successes / count
    spread = z * z / count
    center = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    # At the ends the formula gives exactly 0 or 1; floating point would miss them by an ulp.
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == count else min(1.0, center + half)
    return Interval(share, low, high, confidence, "Wilson score")


def minimum_count(percentile: float) -> int:
    """Return how many observations ``percentile`` (one of MINIMUM_COUNTS) needs; raises KeyError for another."""
    return MINIMUM_COUNTS[percentile]


def supported_percentiles(count: int) -> tuple[float, ...]:
    """Return the percentiles that ``count`` observations support, ascending."""
    return tuple(percentile for percentile, needed in MINIMUM_COUNTS.items() if count >= needed)


def coefficient_of_variation(values: NDArray[np.generic]) -> float | None:
    """Sample standard deviation over mean, as a share; None below two values or when the mean is not positive."""
    if values.size < 2:
        return None
    mean = float(values.mean(dtype=np.float64))
    if mean <= 0:
        return None
    return standard_deviation(values, mean) / mean


def standard_deviation(values: NDArray[np.generic], mean: float) -> float:
    """Sample standard deviation (n - 1) around a mean already known: one pass, one temporary."""
    deviations = np.subtract(values, mean, dtype=np.float64)
    return math.sqrt(float(np.dot(deviations, deviations)) / (values.size - 1))


def paired_bootstrap(
    reference_correct: BoolArray, candidate_correct: BoolArray, rng: np.random.Generator, resamples: int = 10_000, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of mean(candidate) - mean(reference), resampling pairs (Efron and Tibshirani, 1993, chapter 13).

    A pair's difference is -1, 0 or +1, so a resample is one multinomial draw of three counts and costs the same for any number of
    pairs. Without one differing pair every resample is zero and the bootstrap says nothing; then the bound is the exact one on
    the unseen share of differing pairs, 1 - ((1 - confidence) / 2)^(1/n), on both sides. Arrays of shape (n,), n > 0; raises
    ValueError when they differ in shape or are empty.
    """
    if reference_correct.shape != candidate_correct.shape or reference_correct.ndim != 1 or reference_correct.size == 0:
        raise ValueError(f"pairs need two equal non-empty rows of answers, not {reference_correct.shape} and {candidate_correct.shape}")
    count = reference_correct.size
    gained = int(np.count_nonzero(candidate_correct & ~reference_correct))
    lost = int(np.count_nonzero(reference_correct & ~candidate_correct))
    estimate = (gained - lost) / count
    tail = (1 - confidence) / 2
    if gained == lost == 0:
        bound = -math.expm1(math.log(tail) / count)
        return Interval(0.0, -bound, bound, confidence, "exact bound on differing samples (none seen)")
    draws = rng.multinomial(count, [lost / count, (count - lost - gained) / count, gained / count], size=resamples)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / count, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), confidence, f"paired bootstrap, percentile, {resamples} resamples")


def mcnemar_exact(lost: int, gained: int) -> float:
    """Exact two-sided McNemar p-value from the two counts of discordant pairs:

    binomtest(min, lost + gained, 1/2); 1 when there are none.
    """
    if lost < 0 or gained < 0:
        raise ValueError(f"counts of pairs cannot be negative: {lost}, {gained}")
    discordant = lost + gained
    return min(1.0, 2.0 * float(bdtr(min(lost, gained), discordant, 0.5)))


def ratio_interval(reference: Sequence[float], candidate: Sequence[float], confidence: float = 0.95) -> Interval | Undetermined:
    """Ratio candidate / reference of two sets of positive per-job values: geometric means, with Welch's t interval on their logarithms.

    Repeats are few (2 to 10) and their errors multiply, so a t interval on logarithms is used: a bootstrap of two or three values
    cannot reach its stated coverage. Undetermined below two repeats on either side, for values that are not positive, or when
    nothing varies (then the spread between jobs was not observed and an interval of zero width would be a lie).
    """
    for name, values in (("reference", reference), ("candidate", candidate)):
        if len(values) < 2:
            have = "1 repeat" if len(values) == 1 else f"{len(values)} repeats"
            return Undetermined(f"the {name} has {have}; at least 2 are needed to know the spread between jobs")
        if not all(math.isfinite(value) and value > 0 for value in values):
            return Undetermined(f"the {name} holds a value that is not a positive number")
    logs = [np.log(np.asarray(values, dtype=np.float64)) for values in (reference, candidate)]
    variances = [float(log.var(ddof=1)) / log.size for log in logs]
    # Rounding leaves about 1e-32 where all values are equal.
    if sum(variances) < 1e-24:
        return Undetermined("the repeats do not differ at all, so the spread between jobs is unknown")
    freedom = sum(variances) ** 2 / sum(variance**2 / (log.size - 1) for variance, log in zip(variances, logs, strict=True))
    half = float(stdtrit(freedom, 0.5 + confidence / 2)) * math.sqrt(sum(variances))
    difference = float(logs[1].mean() - logs[0].mean())
    return Interval(
        math.exp(difference),
        math.exp(difference - half),
        math.exp(difference + half),
        confidence,
        "Welch t on logarithms of per-job values",
    )
