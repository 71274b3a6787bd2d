"""The single numbers of a soak, as metrics: each with its value or the cause of its absence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.analysis.soak_metric_names import SIGN_FAMILY, SOAK_DEFINITIONS
from orchestrator.analysis.thermal_clock import LoadClock, mean_ratio
from orchestrator.analysis.thermal_energy import EnergyUse
from orchestrator.analysis.thermal_onset import Throttling
from orchestrator.analysis.thermal_run import Series, SoakRun
from orchestrator.analysis.thermal_windows import Windows
from orchestrator.domain.results import Metric
from orchestrator.domain.states import Emulation
from orchestrator.domain.thermal import Estimate, ProbeRecord, ThermalFit

_UNITS = {definition.name: definition.unit for definition in SOAK_DEFINITIONS}

#: Under an emulated CPU these still say what they say.
_TRUE_UNDER_EMULATION = ("probe_changed_samples",)
_WITHHELD = "emulated CPU: nothing that depends on its speed is told"


@dataclass(frozen=True)
class Findings:
    """Everything the scalars are drawn from."""

    run: SoakRun
    windows: Windows
    throttling: Throttling
    control: Series | None
    ambient_c: float | None
    limit_c: float | None
    clock: LoadClock | None
    energy: EnergyUse
    fits: Sequence[ThermalFit]
    probe: ProbeRecord


def scalars(found: Findings) -> tuple[Metric, ...]:
    """Return every metric of a soak, in the order of SOAK_DEFINITIONS, and the time of each sign of throttling, the deciding one first."""
    metrics = {
        metric.name: metric
        for part in (_throughput(found), _throttling(found), _cpu(found), _temperatures(found), _energy(found), _fits(found), _rest(found))
        for metric in part
    }
    if found.run.emulated is Emulation.CPU:
        metrics = {
            name: metric if name in _TRUE_UNDER_EMULATION else Metric(name=name, value=None, unit=metric.unit, cause=_WITHHELD)
            for name, metric in metrics.items()
        }
    return (*(metrics[definition.name] for definition in SOAK_DEFINITIONS), *_signs(found))


def granted_cores(series: Series | None, start: float, end: float) -> float | None:
    """Return how many CPU seconds per second a counter grew by over a part of the run; None below two readings."""
    if series is None:
        return None
    inside = series.between(start, end)
    if inside.secs.size < 2:
        return None
    # One sampling period before or after the part there usually is a reading to interpolate with.
    low, high = max(start, float(series.secs[0])), min(end, float(series.secs[-1]))
    values = np.interp([low, high], series.secs, series.value)
    return float(values[1] - values[0]) / (high - low) if high > low else None


def _throughput(found: Findings) -> Iterator[Metric]:
    windows = found.windows
    count = int(windows.completions.sum())
    few = f"{windows.start.size} whole windows of {windows.secs:g} s; 2 are needed"
    if windows.start.size < 2:
        for name in ("burst_qps", "sustained_qps", "sustained_burst", "stability_percent", "degradation_percent"):
            yield _metric(name, None, few)
        return
    burst, sustained = float(windows.rate_qps[0]), float(windows.rate_qps[-1])
    idle = "no query ended in the first window"
    yield _metric("burst_qps", burst, "", int(windows.completions[0]))
    yield _metric("sustained_qps", sustained, "", int(windows.completions[-1]))
    yield _metric("sustained_burst", sustained / burst if burst > 0 else None, idle, count)
    best = float(windows.rate_qps.max())
    yield _metric("stability_percent", 100 * float(windows.rate_qps.min()) / best if best > 0 else None, "no query ended", count)
    first, last = float(windows.mean_ms[0]), float(windows.mean_ms[-1])
    known = np.isfinite(first) and np.isfinite(last) and first > 0
    yield _metric(
        "degradation_percent", 100 * (last / first - 1) if known else None, "no query ended in the first or the last window", count
    )


def _throttling(found: Findings) -> Iterator[Metric]:
    onset = found.throttling.onset
    yield _metric("time_to_throttle_secs", onset.at_secs if onset else None, found.throttling.words)
    yield _metric("throttled_fraction", found.throttling.fraction, found.throttling.words)
    ratio = mean_ratio(found.clock, 0.0, found.run.steady_secs) if found.clock else None
    yield _metric("clock_ratio", ratio, "this device shows no CPU clock")


def _signs(found: Findings) -> Iterator[Metric]:
    if found.throttling.onset is None or found.run.emulated is Emulation.CPU:
        return
    first: dict[str, float] = {}
    for sign in found.throttling.onset.signs:
        first.setdefault(sign.cause.value, sign.at_secs)
    for cause, at_secs in first.items():
        yield Metric(name=f"{SIGN_FAMILY.name}{cause}", value=at_secs, unit=SIGN_FAMILY.unit)


def _cpu(found: Findings) -> Iterator[Metric]:
    run = found.run
    for name, channel in (("granted_cpu_cores", "cgroup.cpu_secs"), ("runner_cpu_cores", "runner_cpu_secs")):
        cores = granted_cores(run.channels.get(channel), 0.0, run.steady_secs)
        none = "the agent had no control group of its own" if name == "granted_cpu_cores" else f"the device shows no {channel}"
        yield _metric(name, cores, f"{channel} was not read twice in the steady part" if channel in run.channels else none)


def _temperatures(found: Findings) -> Iterator[Metric]:
    none = "no thermal zone of this device was read in the steady part"
    part = found.control.between(0.0, found.run.steady_secs) if found.control else None
    has = part is not None and part.value.size > 0
    start = found.control.at(0.0) if found.control else None
    if start is None and part is not None and has:
        start = float(part.value[0])
    yield _metric("start_c", start if has else None, none)
    yield _metric("peak_c", float(part.value.max()) if part is not None and has else None, none)
    sustained = None
    if found.control is not None and found.windows.start.size:
        value = found.control.between(float(found.windows.start[-1]), float(found.windows.end[-1])).value
        sustained = float(value.mean()) if value.size else None
    yield _metric("sustained_c", sustained, none if not has else "no reading in the last window")
    ambient, limit = found.ambient_c, found.limit_c
    rise = sustained - ambient if sustained is not None and ambient is not None else None
    unknown = none if sustained is None else "the ambient temperature is unknown: state it in the spec"
    yield _metric("rise_c", rise, unknown)
    reachable = rise is not None and ambient is not None and limit is not None and limit > ambient
    cause = unknown if rise is None else "the device's profile states no limit above the ambient temperature (thermal.throttle_c)"
    yield _metric("normalised_rise", rise / (limit - ambient) if reachable else None, cause)  # type: ignore[operator]


def _energy(found: Findings) -> Iterator[Metric]:
    energy = found.energy
    cause, idle_cause = energy.cause or "", energy.idle_cause or energy.cause or ""
    yield _metric("mean_power_mw", energy.mean_mw, cause)
    yield _metric("idle_power_mw", energy.idle_mw, idle_cause)
    yield _metric("energy_gross_mj", energy.gross_mj, cause, energy.inferences)
    yield _metric("energy_net_mj", energy.net_mj, idle_cause, energy.inferences)


def _fits(found: Findings) -> Iterator[Metric]:
    for name, segment, part in (
        ("heating_tau_secs", "heating", "tau"),
        ("heating_steady_c", "heating", "steady"),
        ("cooling_tau_secs", "cooling", "tau"),
    ):
        fit = next((fit for fit in found.fits if fit.segment == segment), None)
        if fit is None or not fit.offered or fit.steady_c is None:
            yield _metric(name, None, fit.cause or "" if fit else f"there is no {segment} segment to fit")
            continue
        yield _estimate(name, fit.tau_secs[-1] if part == "tau" else fit.steady_c)


def _rest(found: Findings) -> Iterator[Metric]:
    changed = None if found.probe.verdict in ("not asked", "undetermined") else float(len(found.probe.changes))
    yield _metric("probe_changed_samples", changed, found.probe.words, found.probe.samples)
    soak, steady_ns = found.run.runner.soak, found.run.runner.steady_ns
    unsaid = "the runner did not report it"
    yield _metric("dropped_count", float(soak.dropped_count) if soak else None, unsaid)
    yield _metric("dropped_for_probes_count", float(soak.dropped_for_probes) if soak else None, unsaid)
    yield _metric("probe_time_percent", 100 * soak.probe_ns / steady_ns if soak and steady_ns else None, unsaid)
    cost = found.run.outcome.sampling
    share = 100 * cost.cpu_secs / cost.wall_secs if cost is not None and cost.wall_secs > 0 else None
    yield _metric("sampling_cpu_percent", share, "the supervisor did not report it")


def _estimate(name: str, estimate: Estimate) -> Metric:
    return Metric(name=name, value=estimate.value, unit=_UNITS[name], low=estimate.low, high=estimate.high)


def _metric(name: str, value: float | None, cause: str, count: int | None = None) -> Metric:
    return Metric(name=name, value=value, unit=_UNITS[name], count=count, cause=cause if value is None else None)
