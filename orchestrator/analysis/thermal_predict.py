"""When would it reach its limit elsewhere? The fitted heating, moved by the difference of the ambient temperatures.

The bodies are linear: at the same power, every temperature lies above the ambient by the same amount. A device at rest in a warmer room
starts warmer by the difference and ends warmer by it. For one body this is τ·ln((T_ss − T0)/(T_ss − T_limit)).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.analysis.statistics import FloatArray, content_rng
from orchestrator.analysis.thermal_fit import temperature_at
from orchestrator.domain.thermal import Estimate, LimitPrediction, Onset, ThermalFit, ThermalStory

#: Ambient temperatures of which every story tells, °C above its own.
_BEYOND_C = (0.0, 5.0, 10.0, 20.0)
_DRAWS = 400
_MOMENTS = 2_000
#: A reading this many residuals from the curve is not explained by the sensor's noise and last digit.
_SCATTER = 4.0
#: A prediction looks no further ahead than so many of the slowest time constant: then all is said.
_LONGEST_TAUS = 12.0


def predict(story: ThermalStory, ambient_c: float, limit_c: float | None = None) -> LimitPrediction | None:
    """Predict when the control temperature reaches a limit at another ambient, at the same power from a device at rest there.

    The limit is the one given, else the temperature at which this soak throttled, else the profile's or the zone's trip point. None
    without an offered heating fit, a known ambient or a limit.
    """
    return _predicted(story.fits, story.onset, story.ambient_c, ambient_c, limit_c, story.limit_c)


def predict_from(fit: ThermalFit, own_ambient_c: float, ambient_c: float, limit_c: float) -> LimitPrediction | None:
    """As :func:`predict`, from a fit alone, as a recipe holds it."""
    return _predicted((fit,), None, own_ambient_c, ambient_c, limit_c, None)


def heating_of(story: ThermalStory) -> tuple[ThermalFit | None, float | None]:
    """Return what a recipe keeps for predictions: the offered heating fit without its covariance, and the level that counts as limit."""
    fit = next((fit for fit in story.fits if fit.segment == "heating" and fit.offered), None)
    if fit is None:
        return None, None
    return fit.model_copy(update={"covariance": ()}), _throttling_level(fit, story.onset, story.limit_c)


def predictions(
    fits: Sequence[ThermalFit], onset: Onset | None, ambient_c: float | None, profile_limit_c: float | None
) -> tuple[LimitPrediction, ...]:
    """Predict for the soak's own ambient temperature and some warmer ones."""
    if ambient_c is None:
        return ()
    made = (_predicted(fits, onset, ambient_c, ambient_c + beyond, None, profile_limit_c) for beyond in _BEYOND_C)
    return tuple(item for item in made if item is not None)


def _predicted(
    fits: Sequence[ThermalFit],
    onset: Onset | None,
    own_ambient_c: float | None,
    ambient_c: float,
    limit_c: float | None,
    profile_limit_c: float | None,
) -> LimitPrediction | None:
    fit = next((fit for fit in fits if fit.segment == "heating" and fit.offered), None)
    if limit_c is None:
        limit_c = _throttling_level(fit, onset, profile_limit_c)
    if fit is None or fit.steady_c is None or own_ambient_c is None or limit_c is None:
        return None
    shift = ambient_c - own_ambient_c
    steady_c = fit.steady_c.value + shift
    at_secs = _reached(fit, limit_c - shift)
    words = f"at {ambient_c:g} °C ambient it ends at {steady_c:.1f} °C"
    if at_secs is None:
        words += f" and does not reach {limit_c:.1f} °C"
    else:
        interval = "" if at_secs.low is None or at_secs.high is None else f" ({at_secs.low:.1f} to {at_secs.high:.1f})"
        words += f" and reaches {limit_c:.1f} °C after {at_secs.value:.1f} s{interval}"
    return LimitPrediction(
        ambient_c=ambient_c, limit_c=limit_c, steady_c=steady_c, reaches=at_secs is not None, at_secs=at_secs, words=words
    )


def _throttling_level(fit: ThermalFit | None, onset: Onset | None, profile_limit_c: float | None) -> float | None:
    """Where it throttled, by the fitted curve: a reading is late and rounded, the curve is neither.

    The curve is that of the mean load. Where the reading is further from it than the sensor's scatter, the load was another one just then,
    and the reading counts.
    """
    if onset is None:
        return profile_limit_c
    if fit is None or fit.steady_c is None or fit.rmse_c is None:
        return onset.temperature_c
    moment = np.array([max(onset.at_secs - fit.start_secs, 0.0)])
    taus, amplitudes = np.array([[tau.value for tau in fit.tau_secs]]), np.array([fit.amplitude_c])
    level = float(temperature_at(moment, taus, amplitudes, np.array([fit.steady_c.value]))[0, 0])
    reading = onset.temperature_c
    return level if reading is None or abs(reading - level) <= _SCATTER * fit.rmse_c else reading


def _reached(fit: ThermalFit, level_c: float) -> Estimate | None:
    """When the fitted curve passes a level for the first time, seconds from the first steady query; None when it never does.

    The interval is that of the fit's parameters, drawn from their covariance; its upper end is None where too many draws never get there.
    """
    assert fit.steady_c is not None  # offered fits have one
    bodies = len(fit.tau_secs)
    center = np.array([*(np.log(tau.value) for tau in fit.tau_secs), *fit.amplitude_c, fit.steady_c.value])
    best = _crossings(center[None, :], bodies, level_c)[0]
    if not np.isfinite(best):
        return None
    if best == 0:
        # Before the fit begins nothing is known of the curve but that it was there by then.
        return Estimate(value=max(fit.start_secs, 0.0), low=0.0, high=max(fit.start_secs, 0.0))
    value = float(best) + fit.start_secs
    if not fit.covariance:
        return Estimate(value=value)
    # Seeded by what is drawn: the same fit gives the same interval.
    rng = content_rng("limit", repr(fit.covariance), f"{level_c:.6f}")
    draws = rng.multivariate_normal(center, np.array(fit.covariance), size=_DRAWS, check_valid="ignore", method="svd")
    low, high = np.quantile(_crossings(draws, bodies, level_c), [0.025, 0.975], method="nearest")
    return Estimate(
        value=value,
        low=float(low) + fit.start_secs if np.isfinite(low) else None,
        high=float(high) + fit.start_secs if np.isfinite(high) else None,
    )


def _crossings(models: FloatArray, bodies: int, level_c: float) -> FloatArray:
    """Return, for models of shape (models, parameters), the time from the segment's start at which each first reaches the level.

    0 where it begins above it, infinite where it never does.
    """
    taus, amplitudes, steady = np.exp(models[:, :bodies]), models[:, bodies:-1], models[:, -1]
    longest = _LONGEST_TAUS * float(np.median(taus[:, -1]))
    moments = np.concatenate([[0.0], np.geomspace(longest / 1e5, longest, _MOMENTS)])
    above = temperature_at(moments, taus, amplitudes, steady) - level_c
    first = np.argmax(above >= 0, axis=1)
    rows = np.arange(models.shape[0])
    never = ~(above >= 0).any(axis=1)
    before = np.maximum(first - 1, 0)
    y0, y1 = above[rows, before], above[rows, first]
    share = np.divide(-y0, y1 - y0, out=np.zeros_like(y0), where=(y1 - y0) > 0)
    crossed = np.where(first == 0, 0.0, moments[before] + share * (moments[first] - moments[before]))
    return np.where(never, np.inf, crossed)
