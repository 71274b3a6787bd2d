"""Comparing two timings on a machine that is never quite still: interleaved pairs, judged against the noise of the baseline with itself.

A round measures the baseline, the candidate and the baseline again, in random order, close together in time. Candidate over baseline is
the ratio in question; the baseline over itself (A/A) shows what ratios this machine gives when nothing differs. Both are summarized by
their median with a distribution-free interval from order statistics (Hahn and Meeker, Statistical Intervals, section 5.2), whose coverage
is 95 % or more.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: What one measurement gives: values by name, e.g. ``{"median": ns, "mean": ns}``.
Measurement = Mapping[str, float]

CONFIDENCE = 0.95
MIN_PAIRS = 30

PASS, FAIL, UNDETERMINED = "pass", "fail", "undetermined"


@dataclass(frozen=True)
class Round:
    """One round: the baseline, the candidate, and the baseline once more."""

    baseline: Measurement
    candidate: Measurement
    again: Measurement


@dataclass(frozen=True)
class Interval:
    """A median and the limits between which it lies with at least 95 % confidence."""

    median: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Bar:
    """What a value must not exceed, and, where deviating either way counts, what it must reach."""

    high: float
    low: float | None = None

    def __str__(self) -> str:
        return f"≤ {self.high:g}" if self.low is None else f"{self.low:g} to {self.high:g}"

    @property
    def limits(self) -> tuple[float, ...]:
        return (self.high,) if self.low is None else (self.low, self.high)


@dataclass(frozen=True)
class Judgement:
    """A ratio or an absolute value against its bar; ``same`` is the A/A interval of a ratio."""

    pairs: int
    estimate: Interval
    bar: Bar
    verdict: str
    same: Interval | None = None


def interleave(baseline: Callable[[], Measurement], candidate: Callable[[], Measurement], rounds: int, seed: int) -> list[Round]:
    """Measure ``rounds`` rounds. The order within each is random (from ``seed``), so that neither drift nor succession favours a side."""
    order = random.Random(seed)
    measured = []
    for _ in range(rounds):
        turns = [("baseline", baseline), ("candidate", candidate), ("again", baseline)]
        order.shuffle(turns)
        measured.append(Round(**{name: measure() for name, measure in turns}))
    return measured


def judge_ratio(rounds: Sequence[Round], value: str, bar: Bar) -> Judgement:
    """Judge candidate over baseline by ``value``. A bar inside the A/A interval is undetermined: it drowns in noise."""
    estimate = median_interval([item.candidate[value] / item.baseline[value] for item in rounds])
    same = median_interval([item.again[value] / item.baseline[value] for item in rounds])
    verdict = UNDETERMINED if any(same.holds(limit) for limit in bar.limits) else _verdict(estimate, bar)
    return Judgement(len(rounds), estimate, bar, verdict if len(rounds) >= MIN_PAIRS else UNDETERMINED, same)


def judge_value(values: Sequence[float], bar: Bar) -> Judgement:
    """Judge an absolute value, measured several times, by its median."""
    estimate = median_interval(values)
    return Judgement(len(values), estimate, bar, _verdict(estimate, bar))


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its interval between order statistics; with fewer than six values that is their whole range."""
    ordered = sorted(values)
    count = len(ordered)
    if count == 0:
        raise ValueError("a median needs at least one value")
    below = 0.0
    rank = 0
    # The median lies below the rank-th smallest value with the probability that at most rank - 1 of count coins show heads.
    while rank < count // 2:
        below += math.comb(count, rank) / 2**count
        if below > (1 - CONFIDENCE) / 2:
            break
        rank += 1
    index = max(rank - 1, 0)
    return Interval(statistics.median(ordered), ordered[index], ordered[count - 1 - index])


def _verdict(estimate: Interval, bar: Bar) -> str:
    low = -math.inf if bar.low is None else bar.low
    if low <= estimate.low and estimate.high <= bar.high:
        return PASS
    return FAIL if estimate.low > bar.high or estimate.high < low else UNDETERMINED
