"""What a report is made of: results, and what the caller has reduced or compared beforehand. Plain numbers, no files, no clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.results import ResultEnvelope
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import ThermalStory


@dataclass(frozen=True)
class LatencyDistribution:
    """The steady end-to-end latencies of one job as a histogram with logarithmic bins.

    :func:`orchestrator.report.reduce.reduce_latency` makes it.

    ``edges_ms`` has one value more than ``shares``. ``shares`` are parts of all ``count`` queries; what lies outside the bins is
    ``below_share`` and ``above_share``, so that all of them add up to 1. ``min_ms`` and ``max_ms`` are the extremes that were seen.
    """

    job_id: str
    count: int
    edges_ms: tuple[float, ...]
    shares: tuple[float, ...]
    below_share: float
    above_share: float
    min_ms: float
    max_ms: float


@dataclass(frozen=True)
class PairComparison:
    """One accuracy job against another, sample by sample.

    Against the reference variant in the same place, or the same variant in another place: the two jobs say which. ``difference`` is
    job minus reference with its 95 % interval, in ``unit``: ``points`` (percentage points) or empty (a fraction) for
    rates, else the unit of the task's metric.
    ``agreement`` and ``bit_exact_share`` are parts of 1. None means unknown, and ``cause`` says why.
    """

    job_id: str
    reference_job_id: str
    sample_count: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = "points"
    mcnemar_p: float | None = None
    flips_to_wrong: int | None = None
    flips_to_right: int | None = None
    agreement: float | None = None
    bit_exact_share: float | None = None
    cause: str | None = None


@dataclass(frozen=True)
class TelemetrySeries:
    """One sensor during one job, thinned for drawing; seconds from its start.

    ``count``, ``minimum`` and ``maximum`` are those of the full series.
    """

    job_id: str
    sensor: str
    unit: str
    time_s: tuple[float, ...]
    values: tuple[float, ...]
    count: int
    minimum: float
    maximum: float


@dataclass(frozen=True)
class SeriesLine:
    """One channel of a soak, thinned for drawing: ascending seconds from the first steady query. A value None breaks the line: a gap."""

    name: str
    unit: str
    time_s: tuple[float, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class SeriesState:
    """When a flag was set, or a cooling device above nothing: (from, to, part of the channel's ``highest``), seconds as above."""

    name: str
    words: str
    highest: float
    stretches: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class LatencyBins:
    """The runtime's own call (``invoke``) over the steady part, from every query: mean and extremes of those that ended in each bin.

    ``time_s`` are middles of bins ``width_s`` long. None where no query ended, or no reading lay in the bin. ``clock_share`` is the clock
    against its highest value in this run.
    """

    width_s: float
    count: int
    time_s: tuple[float, ...]
    mean_ms: tuple[float | None, ...]
    low_ms: tuple[float | None, ...]
    high_ms: tuple[float | None, ...]
    temperature_c: tuple[float | None, ...]
    clock_share: tuple[float | None, ...]


@dataclass(frozen=True)
class WindowLines:
    """The story's windows, thinned: ``time_s`` are their starts, and the last one's end with its values again. None is not known."""

    time_s: tuple[float, ...]
    rate_qps: tuple[float | None, ...]
    mean_ms: tuple[float | None, ...]
    clock_percent: tuple[float | None, ...]
    power_mw: tuple[float | None, ...]


@dataclass(frozen=True)
class ThermalSeries:
    """What one attempt of a soak recorded, small enough to draw: :func:`orchestrator.report.reduce_thermal.reduce_soak` makes it.

    ``phases`` are (name, from, to) in seconds; ``left_out`` counts channels that are in the traces and not drawn.
    """

    start_s: float
    end_s: float
    phases: tuple[tuple[str, float, float], ...] = ()
    temperatures: tuple[SeriesLine, ...] = ()
    clocks: tuple[SeriesLine, ...] = ()
    powers: tuple[SeriesLine, ...] = ()
    states: tuple[SeriesState, ...] = ()
    latency: LatencyBins | None = None
    windows: WindowLines | None = None
    left_out: int = 0


@dataclass(frozen=True)
class ThermalPanel:
    """One attempt of one soak job: whose it is, what it tells, and what it looked like."""

    variant: str
    device: str
    story: ThermalStory
    series: ThermalSeries
    emulated: Emulation = Emulation.NONE
    repeat: int = 0


@dataclass(frozen=True)
class ReportExtras:
    """What stands beside the envelopes: distributions, comparisons and series already reduced, and how the experiment was started.

    ``untried_profiles`` are the device profiles that nobody has tried on the hardware they describe.
    """

    latencies: tuple[LatencyDistribution, ...] = ()
    comparisons: tuple[PairComparison, ...] = ()
    telemetry: tuple[TelemetrySeries, ...] = ()
    soaks: tuple[ThermalPanel, ...] = ()
    spec_file: str = ""
    spec_text: str = ""
    command: str = ""
    untried_profiles: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportInput:
    """Everything one report shows. ``generated_utc`` is an ISO time, or empty when the page should not say when it was made."""

    results: Sequence[ResultEnvelope]
    extras: ReportExtras = ReportExtras()
    edgematrix_version: str = ""
    generated_utc: str = ""
