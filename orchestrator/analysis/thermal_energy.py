"""Energy per inference: power integrated by the trapezoid rule over the readings' own times, in all and above idle.

Gross: ∫P dt / N. Net: ∫(P − P_idle) dt / N, with P_idle the mean power of the idle stretch before the load. A stretch without readings is
not bridged: it is left out of the energy and of N alike, and said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.thermal_run import NANOSECONDS_PER_SEC, Series, SoakRun

METHOD = "trapezoid rule on the readings' own times, gaps left out"
#: A stretch without a reading that is longer than so many periods is a gap.
GAP_PERIODS = 5
#: The device's own total, where there is one.
BOARD = "power.board_mw"
_NO_CHANNEL = "no power channel: neither the device nor an imported trace tells it"


@dataclass(frozen=True)
class ExternalPower:
    """Power of an external meter: ``time_ns`` on the device's CLOCK_MONOTONIC as telemetry, ``power_mw``; arrays of shape (n,)."""

    time_ns: NDArray[np.int64]
    power_mw: FloatArray
    source: str


@dataclass(frozen=True)
class PowerSource:
    """Where power comes from; ``caution`` is what a reader must know of it."""

    name: str
    series: Series
    period: float
    caution: str | None = None


@dataclass(frozen=True)
class EnergyUse:
    """Millijoules per inference and the powers behind them, mW; what is None has its ``cause``.

    ``covered`` is the share of the steady part that has readings; ``inferences`` are those that ended in it, probes included.
    """

    source: str | None
    caution: str | None
    mean_mw: float | None
    idle_mw: float | None
    gross_mj: float | None
    net_mj: float | None
    covered: float | None
    inferences: int
    cause: str | None
    idle_cause: str | None

    @property
    def words(self) -> str:
        """Where the figures come from and how they were made."""
        if self.source is None:
            return _NO_CHANNEL
        told = f"power from {self.source}, integrated by the {METHOD}"
        if self.covered is not None:
            told += f"; readings cover {100 * self.covered:.1f} % of the steady part"
        return f"{told}; {self.caution}" if self.caution else told


def power_source(run: SoakRun, external: ExternalPower | None = None) -> PowerSource | None:
    """Choose the power to go by: an imported trace, else the board's own total, else the sum of its rails (with a caution)."""
    if external is not None:
        origin = run.runner.origin_monotonic_ns + run.zero_ns
        known = np.flatnonzero(np.isfinite(np.asarray(external.power_mw, dtype=np.float64)))
        order = known[np.argsort(np.asarray(external.time_ns)[known], kind="stable")]
        secs = (np.asarray(external.time_ns, dtype=np.int64)[order] - origin) / NANOSECONDS_PER_SEC
        series = Series(secs, np.asarray(external.power_mw, dtype=np.float64)[order])
        return PowerSource(external.source, series, float(np.median(np.diff(secs))) if secs.size > 1 else np.inf)
    cautions = {sensor.name: sensor.caution for sensor in run.sensors}
    board = run.channels.get(BOARD)
    if board is not None:
        return PowerSource(BOARD, board, _period(board), cautions.get(BOARD))
    rails = {name: series for name, series in run.named("power.").items() if name.endswith("_mw")}
    if not rails:
        return None
    names = ", ".join(sorted(rails))
    caution = f"the sum of {names}: what no rail feeds is not in it, and a rail that feeds another counts twice"
    summed = _summed(list(rails.values()))
    return PowerSource("sum of rails", summed, _period(summed), caution)


def energy_use(run: SoakRun, source: PowerSource | None) -> EnergyUse:
    """Integrate power over the steady part."""
    if source is None:
        return EnergyUse(None, None, None, None, None, None, None, 0, _NO_CHANNEL, _NO_CHANNEL)
    part = source.series.between(0.0, run.steady_secs)
    if part.secs.size < 2:
        cause = f"{source.name} has {part.secs.size} readings in the steady part; 2 are needed"
        return EnergyUse(source.name, source.caution, None, None, None, None, None, 0, cause, cause)
    step = np.diff(part.secs)
    kept = step <= GAP_PERIODS * source.period
    covered_secs = float(step[kept].sum())
    joules = float((step * (part.value[1:] + part.value[:-1]) / 2)[kept].sum()) / 1000
    inferences = _ended_in(run, part.secs, kept)
    idle_mw, idle_cause = _idle(run, source)
    mean_mw = 1000 * joules / covered_secs if covered_secs > 0 else None
    known = inferences > 0 and covered_secs > 0
    missing = None if known else "no inference ended while power was read"
    gross = 1000 * joules / inferences if known else None
    net = None if not known or idle_mw is None else 1000 * (joules - idle_mw / 1000 * covered_secs) / inferences
    caution = source.caution
    if not bool(kept.all()):
        lost = f"{int((~kept).sum())} gaps of {float(step[~kept].sum()):.1f} s in all are left out"
        caution = f"{caution}; {lost}" if caution else lost
    covered = covered_secs / run.steady_secs if run.steady_secs > 0 else None
    return EnergyUse(source.name, caution, mean_mw, idle_mw, gross, net, covered, inferences, missing, missing or idle_cause)


def _idle(run: SoakRun, source: PowerSource) -> tuple[float | None, str | None]:
    if run.rest is None:
        return None, "there was no idle stretch before the load: idle_secs in the spec asks for one"
    value = source.series.between(*run.rest).value
    if value.size < 2:
        return None, f"{source.name} has {value.size} readings in the idle stretch; 2 are needed"
    return float(value.mean()), None


def _ended_in(run: SoakRun, secs: FloatArray, kept: NDArray[np.bool_]) -> int:
    """Count the inferences that ended in the kept intervals between readings."""
    total = 0
    for ends in (run.steady_end, np.sort(run.probe_end)):
        bounds = np.searchsorted(ends, secs, "right")
        total += int(np.diff(bounds)[kept].sum())
    return total


def _period(series: Series) -> float:
    """The usual step between readings: slow sensors are not full of gaps."""
    return float(np.median(np.diff(series.secs))) if series.secs.size > 1 else np.inf


def _summed(rails: list[Series]) -> Series:
    """Add rails up at the times of the first where all of them were read; those of one sensor share their times."""
    common = rails[0].secs
    for rail in rails[1:]:
        common = np.intersect1d(common, rail.secs)
    if common.size:
        return Series(common, np.sum([rail.value[np.searchsorted(rail.secs, common)] for rail in rails], axis=0))
    inside = [rail for rail in rails if rail.secs.size]
    low, high = max(rail.secs[0] for rail in inside), min(rail.secs[-1] for rail in inside)
    times = rails[0].between(float(low), float(high)).secs
    return Series(times, np.sum([np.interp(times, rail.secs, rail.value) for rail in inside], axis=0))
