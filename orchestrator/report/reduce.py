"""From millions of stamps to what a figure can show: pure functions over arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from tsdownsample import MinMaxLTTBDownsampler

from agent.protocol import PHASES
from orchestrator.report.inputs import LatencyDistribution, TelemetrySeries

LATENCY_BINS = 32
TELEMETRY_POINTS = 60

#: The bins cover this part of the queries; single outliers would else flatten the body of the distribution into one bin.
_BODY_QUANTILES = (0.002, 0.99)


def reduce_latency(job_id: str, queries: Mapping[str, npt.NDArray[np.generic]], bins: int = LATENCY_BINS) -> LatencyDistribution | None:
    """Reduce a ``queries`` trace to the histogram of its steady end-to-end latency (pre + invoke + post), in milliseconds.

    ``queries`` holds arrays of one length named as in ``agent.protocol.QUERY_COLUMNS``; durations in nanoseconds.
    Returns None when no steady query was kept.
    """
    steady = np.asarray(queries["phase"]) == PHASES.index("steady")
    if not steady.any():
        return None
    total_ns = sum(
        (np.asarray(queries[name])[steady].astype(np.float64) for name in ("pre_ns", "invoke_ns", "post_ns")), np.zeros(int(steady.sum()))
    )
    latency_ms = np.maximum(total_ns, 1.0) / 1e6
    minimum, maximum = float(latency_ms.min()), float(latency_ms.max())
    low, high = (float(value) for value in np.quantile(latency_ms, _BODY_QUANTILES))
    # A clock that ticks coarsely can put every query on one value: the bins keep a width of at least 0.1 %.
    low, high = min(low, minimum * 1.0005) * 0.9995, max(high, low * 1.001)
    edges = np.geomspace(low, high, bins + 1)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(latency_ms, bins=edges)
    count = int(latency_ms.size)
    return LatencyDistribution(
        job_id=job_id,
        count=count,
        edges_ms=tuple(_rounded(edges, 6)),
        shares=tuple(_rounded(counts / count, 4)),
        below_share=float((latency_ms < low).mean()),
        above_share=float((latency_ms > high).mean()),
        min_ms=minimum,
        max_ms=maximum,
    )


def reduce_telemetry(
    job_id: str,
    sensor: str,
    unit: str,
    time_ns: npt.NDArray[np.generic],
    values: npt.NDArray[np.generic],
    points: int = TELEMETRY_POINTS,
) -> TelemetrySeries | None:
    """Thin one sensor's readings to about ``points``, keeping extremes (MinMaxLTTB: Van Der Donckt et al. 2023, arXiv 2305.00332).

    ``time_ns`` never decreases. Readings that are not finite are left out; returns None when none remains.
    """
    finite = np.isfinite(np.asarray(values, dtype=np.float64))
    time_s = (np.asarray(time_ns)[finite].astype(np.float64)) / 1e9
    kept = np.ascontiguousarray(np.asarray(values, dtype=np.float64)[finite])
    if kept.size == 0:
        return None
    time_s = np.ascontiguousarray(time_s - time_s[0])
    chosen = np.arange(kept.size)
    if kept.size > points:
        chosen = MinMaxLTTBDownsampler().downsample(time_s, kept, n_out=points)  # type: ignore[no-untyped-call]
    return TelemetrySeries(
        job_id=job_id,
        sensor=sensor,
        unit=unit,
        time_s=tuple(_rounded(time_s[chosen], 5)),
        values=tuple(_rounded(kept[chosen], 5)),
        count=int(kept.size),
        minimum=float(kept.min()),
        maximum=float(kept.max()),
    )


def _rounded(values: npt.NDArray[np.float64], digits: int) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]
