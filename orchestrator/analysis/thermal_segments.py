"""Which parts of a soak may be fitted, and whether their fits may be shown: heating before any throttling, and the cool-down.

Throttling makes power depend on temperature, and then the linear model does not hold; a fit that is not sure of its time constants is
refused with the cause. The thresholds were chosen on simulated boards so that an offered time constant is within 10 % of the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.thermal_energy import PowerSource
from orchestrator.analysis.thermal_fit import BodyFit, best_fit, quantum_of, scatter_of
from orchestrator.analysis.thermal_run import Series, SoakRun
from orchestrator.analysis.thermal_scalars import granted_cores
from orchestrator.analysis.thermal_windows import Windows
from orchestrator.domain.soak import FixedRate
from orchestrator.domain.thermal import Estimate, Onset, ThermalFit, ThrottleCause

FEWEST_READINGS = 40
#: The temperature must change by so many °C and so many steps of its sensor.
LEAST_CHANGE_C = 3.0
FEWEST_STEPS = 8
_NO_TEMPERATURE_C = 1_000.0
#: The segment must last for so many of its slowest time constant.
LEAST_SPAN_TAUS = 1.0
#: The 95 % interval of the slowest time constant must lie within this share of it.
WIDEST_INTERVAL = 0.08
#: The faster of two bodies is told when it spans so many sampling periods and is known to this share, else left out.
FEWEST_PERIODS = 12
WIDEST_FAST_INTERVAL = 0.06
#: After so many of its time constants the fast body has died away.
FAST_IS_OVER = 6.0
LEAST_R_SQUARED = 0.98
#: Scatter beyond the sensor's own (noise and last digit) by this factor, and beyond this share of the change, is not scatter.
MOST_SCATTER = 1.5
MOST_SCATTER_SHARE = 0.005
#: The load's mean must be the same in each third of the segment to this share; smaller deviations are allowed for in the fit.
LOAD_TOLERANCE = 0.20

Segment = Literal["heating", "cooling"]


def fit_segments(
    run: SoakRun, channel: str | None, control: Series | None, onset: Onset | None, windows: Windows, power: PowerSource | None
) -> tuple[ThermalFit, ...]:
    """Fit the heating and the cool-down of the control temperature; refused fits are there, with their cause."""
    if channel is None or control is None:
        return ()
    fits = []
    if run.steady_end.size:
        start, end = _heating_span(run, onset, windows)
        unsteady = _unsteady(run, start, end, power)
        fits.append(
            _fit("heating", channel, run, control, start, end, unsteady, "before it throttled" if onset else "", _worked(run, power))
        )
    cooling = _cooling_span(run)
    if cooling is not None:
        fits.append(_fit("cooling", channel, run, control, *cooling, None, "", ()))
    return tuple(fits)


def fit_part(part: Series, until: str = "", loads: Sequence[Series] = ()) -> tuple[BodyFit | None, str | None, Series]:
    """Fit readings under a steady load: the fit, why it may not be shown (None when it may), and the readings it was made from.

    ``until`` says in the cause what ended the segment. ``loads`` are measures of what was worked until each moment; the deviations of the
    one that explains most are allowed for, or none.
    """
    cause = _too_little(part, until)
    tried = [best_fit(part.secs, part.value, load) for load in (None, *loads)] if cause is None else []
    found = min((fit for fit in tried if fit is not None), key=lambda fit: fit.rmse, default=None)
    if found is None:
        return None, cause or "no such model can be had from these readings", part
    cause = _doubt(found, part, until)
    if cause is None and _unsure_fast(found, part):
        # The slow body is sure, and once the fast one has died away the model is the same without it.
        moment = FAST_IS_OVER * float(found.taus[0])
        later = part.between(float(part.secs[0]) + moment, float(part.secs[-1]))
        if later.secs.size < FEWEST_READINGS:
            fast = float(found.taus[0])
            return found, f"the faster time constant of {fast:.3g} s is not known well, and its body was still warming up at the end", part
        return found.after_fast(moment), None, later
    return found, cause, part


def _fit(
    segment: Segment,
    channel: str,
    run: SoakRun,
    control: Series,
    start: float,
    end: float,
    unsteady: str | None,
    until: str,
    loads: Sequence[Series],
) -> ThermalFit:
    start, end = max(_pieces(run, start, end), key=lambda piece: piece[1] - piece[0], default=(start, end))
    found, cause, part = (None, unsteady, control) if unsteady else fit_part(control.between(start, end), until, loads)
    if found is not None:
        start = float(part.secs[0])
    return _described(segment, channel, start, end, found, cause)


def _too_little(part: Series, until: str) -> str | None:
    when = f" {until}" if until else ""
    if part.value.size < FEWEST_READINGS:
        return f"there are {part.value.size} readings{when}; {FEWEST_READINGS} are needed"
    if float(np.abs(part.value).max()) > _NO_TEMPERATURE_C:
        return f"the readings reach {float(np.abs(part.value).max()):.3g} °C{when}: that is no temperature"
    change = float(np.ptp(part.value))
    if change < LEAST_CHANGE_C:
        return f"the temperature changed by {change:.1f} °C{when}; {LEAST_CHANGE_C:g} are needed"
    quantum = quantum_of(part.value)
    if change < FEWEST_STEPS * quantum:
        return f"the sensor tells steps of {quantum:g} °C and the temperature changed by {change:.1f} °C{when}: too coarse"
    return None


def _doubt(fit: BodyFit, part: Series, until: str) -> str | None:
    """Say why a fit may not be shown, None when it may."""
    when = f" {until}" if until else ""
    span, slow = float(part.secs[-1] - part.secs[0]), float(fit.taus[-1])
    change = float(np.ptp(part.value))
    if fit.r_squared < LEAST_R_SQUARED:
        return f"the model explains {100 * fit.r_squared:.1f} % of the variation; {100 * LEAST_R_SQUARED:g} are needed"
    if span < LEAST_SPAN_TAUS * slow:
        return f"the segment lasts {span:.0f} s{when}, less than {LEAST_SPAN_TAUS:g} of its slowest time constant ({slow:.0f} s)"
    scatter = scatter_of(part.value)
    if fit.rmse > max(MOST_SCATTER * scatter, MOST_SCATTER_SHARE * change):
        return f"the residuals of {fit.rmse:.2f} °C are more than the sensor's scatter of {scatter:.2f} °C: the load or the air changed"
    share = float(np.expm1(fit.half_widths[-1]))
    if share > WIDEST_INTERVAL:
        return f"the time constant of {slow:.3g} s is known to ± {100 * share:.0f} % only; {100 * WIDEST_INTERVAL:g} are asked for"
    return None


def _unsure_fast(fit: BodyFit, part: Series) -> bool:
    """Whether the faster of two bodies is too fast for the sampling, or not known well enough, to be told."""
    if fit.bodies == 1:
        return False
    periods = float(fit.taus[0]) / max(float(np.median(np.diff(part.secs))), 1e-9)
    return periods < FEWEST_PERIODS or float(np.expm1(fit.half_widths[0])) > WIDEST_FAST_INTERVAL


def _heating_span(run: SoakRun, onset: Onset | None, windows: Windows) -> tuple[float, float]:
    start = run.load_start if run.flat_out else 0.0
    if onset is None:
        return start, run.last_query_end
    # The power had changed when the sign was seen: one sampling period before it, for latency one window.
    margin = windows.secs if onset.cause is ThrottleCause.LATENCY else min(run.period, 1.0)
    return start, onset.at_secs - margin


def _cooling_span(run: SoakRun) -> tuple[float, float] | None:
    """From the end of all work (the runner still writes its report after the last query) to the end of the recording, or the marker."""
    starts = run.event_times("cooldown_started")
    if not starts.size:
        starts = run.event_times("runner_ended")
    starts = starts[starts >= run.last_query_end]
    if not starts.size or not run.telemetry_secs.size:
        return None
    start = float(starts[0])
    ends = np.concatenate([run.event_times("cooldown_ended"), run.event_times("marker"), run.telemetry_secs[-1:]])
    return start, float(ends[ends >= start].min(initial=np.inf)) if (ends >= start).any() else start


def _pieces(run: SoakRun, start: float, end: float) -> Iterator[tuple[float, float]]:
    """Cut a span where a fan changed its step: the device is another one then."""
    changes = [start, end]
    for name, series in run.named("cooling.").items():
        if "fan" in name.lower():
            part = series.between(start, end)
            changes += [float(secs) for secs in part.secs[1:][np.diff(part.value) != 0]]
    yield from pairwise(sorted(changes))


def _unsteady(run: SoakRun, start: float, end: float, power: PowerSource | None) -> str | None:
    """Say in words when the load was not constant, by power, else by CPU time, else by completions."""
    if not run.flat_out and not (not isinstance(run.soak.pattern, str) and isinstance(run.soak.pattern.fixed_rate, FixedRate)):
        return "the load pattern rests in between, so the power is not constant"
    start = max(start, 0.0)
    if end - start <= 0:
        return "it throttled from the beginning"
    edges = np.linspace(start, end, 4)
    for word, means in (("power", _power_means(power, edges)), ("CPU time", _cpu_means(run, edges)), ("speed", _rates(run, edges))):
        if means is not None and means.size == 3 and means.mean() > 0:
            worst = float(np.abs(means / means.mean() - 1).max())
            if worst > LOAD_TOLERANCE:
                return f"the load was not constant: {word} differed by {100 * worst:.0f} % between parts of the segment"
            return None
    return None


def _worked(run: SoakRun, power: PowerSource | None) -> list[Series]:
    """What the device had worked until each moment, as CPU time and as energy above the power at rest, as far as they were read."""
    used = run.channels.get("cgroup.cpu_secs") or run.channels.get("runner_cpu_secs")
    found = [used] if used is not None else []
    rest = power.series.between(*run.rest).value if power is not None and run.rest is not None else np.empty(0)
    if power is not None and rest.size:
        above = power.series.value - rest.mean()
        steps = np.diff(power.series.secs) * (above[1:] + above[:-1]) / 2
        found.append(Series(power.series.secs, np.concatenate([[0.0], np.cumsum(steps)])))
    return found


def _power_means(power: PowerSource | None, edges: FloatArray) -> FloatArray | None:
    if power is None:
        return None
    parts = [power.series.between(float(low), float(high)).value for low, high in pairwise(edges)]
    return np.array([part.mean() for part in parts]) if all(part.size for part in parts) else None


def _cpu_means(run: SoakRun, edges: FloatArray) -> FloatArray | None:
    used = run.channels.get("cgroup.cpu_secs") or run.channels.get("runner_cpu_secs")
    means = [granted_cores(used, float(low), float(high)) for low, high in pairwise(edges)]
    known = [mean for mean in means if mean is not None]
    return np.array(known) if len(known) == len(means) else None


def _rates(run: SoakRun, edges: FloatArray) -> FloatArray:
    return np.diff(np.searchsorted(run.steady_end, edges)) / np.diff(edges)


def _described(segment: Segment, channel: str, start: float, end: float, fit: BodyFit | None, cause: str | None) -> ThermalFit:
    if fit is None:
        return ThermalFit(
            segment=segment,
            channel=channel,
            start_secs=start,
            end_secs=end,
            bodies=None,
            tau_secs=(),
            amplitude_c=(),
            steady_c=None,
            rmse_c=None,
            r_squared=None,
            offered=False,
            cause=cause,
        )
    return ThermalFit(
        segment=segment,
        channel=channel,
        start_secs=start,
        end_secs=end,
        bodies=2 if fit.bodies == 2 else 1,
        tau_secs=tuple(
            Estimate(value=float(tau), low=float(tau * np.exp(-half)), high=float(tau * np.exp(half)))
            for tau, half in zip(fit.taus, fit.half_widths, strict=True)
        ),
        amplitude_c=tuple(float(amplitude) for amplitude in fit.amplitudes),
        steady_c=Estimate(value=fit.steady, low=fit.steady - fit.steady_half_width, high=fit.steady + fit.steady_half_width),
        rmse_c=fit.rmse,
        r_squared=fit.r_squared,
        offered=cause is None,
        cause=cause,
        covariance=tuple(tuple(float(value) for value in row) for row in fit.covariance) if cause is None else (),
    )
