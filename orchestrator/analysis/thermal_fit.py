"""One or two thermal bodies fitted to a temperature under constant power: T(t) = S − Σ Aᵢ·e^(−t/τᵢ).

Least squares with a start from a grid of time constants, on which the rest of the model is linear (variable projection, Golub and Pereyra,
1973). Residuals of a quantised, sampled temperature are not independent, so the covariance is the heteroskedasticity- and
autocorrelation-consistent one (Newey and West, 1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import stdtrit

from orchestrator.analysis.statistics import FloatArray

#: More readings than this are averaged in groups: the mean of an exponential over a short time is the same exponential.
MOST_READINGS = 2_000
_GRID = 28
#: Two bodies must differ by this factor to be told apart.
_APART = 1.8
#: How much the interval is widened: the covariance of so many lags comes out too small on finite data (seen on simulated boards).
_WIDENED = 1.3
#: Two bodies are taken when they lower Akaike's criterion by this much for the effective number of readings.
_BETTER = 10.0


@dataclass(frozen=True)
class BodyFit:
    """A fit: ``taus`` ascending, seconds; ``amplitudes`` and ``steady`` °C; ``t`` counts from the first reading.

    ``covariance`` is that of (ln τᵢ, Aᵢ, S). ``half_widths`` are those of the 95 % intervals of ln τᵢ.
    """

    taus: FloatArray
    amplitudes: FloatArray
    steady: float
    covariance: FloatArray
    half_widths: FloatArray
    steady_half_width: float
    rmse: float
    r_squared: float
    count: int

    @property
    def bodies(self) -> int:
        return int(self.taus.size)

    def effective_criterion(self, effective: float) -> float:
        """Akaike's criterion with the small-sample correction for an effective number of independent readings."""
        parameters = 2 * self.bodies + 2
        correction = 2 * parameters * (parameters + 1) / max(effective - parameters - 1, 1.0)
        return effective * math.log(max(self.rmse, 1e-9) ** 2) + 2 * parameters + correction


def quantum_of(values: FloatArray) -> float:
    """Return the smallest step between two different readings, °C; 0 when there are not two."""
    steps = np.diff(np.unique(values))
    steps = steps[steps > 1e-6]
    return float(steps.min()) if steps.size else 0.0


def scatter_of(values: FloatArray) -> float:
    """Return what the sensor itself scatters by, °C: its last digit and the noise from one reading to the next."""
    steps = np.diff(values)
    noise = float(np.std(steps)) / math.sqrt(2) if steps.size else 0.0
    return math.hypot(quantum_of(values) / math.sqrt(12), noise)


def fit_bodies(secs: FloatArray, value: FloatArray, bodies: int) -> BodyFit | None:
    """Fit one or two bodies to readings, ascending in time, at least eight; None when no such model can be had from them."""
    secs, value = _thinned(secs - secs[0], value)
    span = float(secs[-1])
    if secs.size < 8 or span <= 0:
        return None
    grid = np.geomspace(max(float(np.median(np.diff(secs))), span / 3000), span * 10, _GRID)
    begin = _begin(secs, value, bodies, grid)
    low, high = np.full(begin.size, -np.inf), np.full(begin.size, np.inf)
    low[:bodies], high[:bodies] = math.log(grid[0] / 2), math.log(grid[-1] * 2)
    solved = least_squares(
        lambda p: _model(secs, p, bodies) - value, begin, jac=lambda p: _slopes(secs, p, bodies), bounds=(low, high), x_scale="jac"
    )
    order = np.argsort(solved.x[:bodies])
    parameters = np.concatenate([solved.x[:bodies][order], solved.x[bodies : 2 * bodies][order], solved.x[-1:]])
    residuals = value - _model(secs, parameters, bodies)
    covariance = _covariance(_slopes(secs, parameters, bodies), residuals)
    if not bool(np.isfinite(covariance).all()):
        return None
    half = _WIDENED * float(stdtrit(max(secs.size - parameters.size, 1), 0.975)) * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    spread = float(((value - value.mean()) ** 2).sum())
    return BodyFit(
        taus=np.exp(parameters[:bodies]),
        amplitudes=parameters[bodies:-1],
        steady=float(parameters[-1]),
        covariance=_WIDENED**2 * covariance,
        half_widths=half[:bodies],
        steady_half_width=float(half[-1]),
        rmse=float(np.sqrt((residuals**2).mean())),
        r_squared=1 - float((residuals**2).sum()) / spread if spread > 0 else 0.0,
        count=int(secs.size),
    )


def best_fit(secs: FloatArray, value: FloatArray) -> BodyFit | None:
    """Fit one body, and two where one is too few: they must explain more than their parameters do, and each must be seen."""
    one, two = fit_bodies(secs, value, 1), fit_bodies(secs, value, 2)
    if two is None or one is None:
        return one or two
    thin_secs, thin_value = _thinned(secs - secs[0], value)
    residuals = thin_value - _model(thin_secs, np.concatenate([np.log(two.taus), two.amplitudes, [two.steady]]), 2)
    effective = thin_secs.size / _correlation_length(residuals)
    seen = float(np.abs(two.amplitudes).min()) > max(quantum_of(value) / 2, 2 * two.rmse / math.sqrt(effective))
    apart = float(two.taus[1] / two.taus[0]) > _APART
    better = two.effective_criterion(effective) < one.effective_criterion(effective) - _BETTER
    return two if better and seen and apart else one


def temperature_at(secs: FloatArray, taus: FloatArray, amplitudes: FloatArray, steady: FloatArray) -> FloatArray:
    """Return T at times of shape (times,) for models of shape (models, bodies) and (models,): an array of shape (models, times)."""
    total = np.repeat(steady[:, None], secs.size, axis=1)
    for body in range(taus.shape[1]):
        total -= amplitudes[:, body, None] * np.exp(-secs[None, :] / taus[:, body, None])
    return total


def _thinned(secs: FloatArray, value: FloatArray) -> tuple[FloatArray, FloatArray]:
    group = -(-secs.size // MOST_READINGS)
    if group <= 1:
        return secs, value
    whole = secs.size // group * group
    return secs[:whole].reshape(-1, group).mean(axis=1), value[:whole].reshape(-1, group).mean(axis=1)


def _model(secs: FloatArray, p: FloatArray, bodies: int) -> FloatArray:
    decay: FloatArray = np.exp(-secs[:, None] / np.exp(p[:bodies]))
    result: FloatArray = p[-1] - decay @ p[bodies:-1]
    return result


def _slopes(secs: FloatArray, p: FloatArray, bodies: int) -> FloatArray:
    tau = np.exp(p[:bodies])
    decay = np.exp(-secs[:, None] / tau)
    return np.hstack([-(decay * p[bodies:-1]) * (secs[:, None] / tau), -decay, np.ones((secs.size, 1))])


def _begin(secs: FloatArray, value: FloatArray, bodies: int, grid: FloatArray) -> FloatArray:
    """Return the best point of the grid: for given time constants the amplitudes and the end are a linear problem, all solved at once."""
    decay = np.exp(-secs[:, None] / grid)
    gram, total, projected = decay.T @ decay, decay.sum(axis=0), decay.T @ value
    chosen = [(i,) for i in range(grid.size)]
    if bodies == 2:
        chosen = [(i, j) for i in range(grid.size) for j in range(i + 1, grid.size) if grid[j] > _APART * grid[i]]  # type: ignore[misc]
    index = np.array(chosen)
    normal = np.empty((index.shape[0], bodies + 1, bodies + 1))
    right = np.empty((index.shape[0], bodies + 1))
    for a in range(bodies):
        for b in range(bodies):
            normal[:, a, b] = gram[index[:, a], index[:, b]]
        normal[:, a, bodies] = normal[:, bodies, a] = -total[index[:, a]]
        right[:, a] = -projected[index[:, a]]
    normal[:, bodies, bodies] = secs.size
    right[:, bodies] = value.sum()
    # A trace of the diagonal keeps slow bodies, which look like a constant, from making the system singular.
    normal += 1e-9 * secs.size * np.eye(bodies + 1)
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    explained = (solution * right).sum(axis=1)
    best = int(np.argmax(explained))
    return np.concatenate([np.log(grid[index[best]]), solution[best]])


def _covariance(slopes: FloatArray, residuals: FloatArray) -> FloatArray:
    scores = slopes * residuals[:, None]
    lags = min(residuals.size // 6, 400)
    middle = scores.T @ scores
    for lag in range(1, lags + 1):
        shifted = scores[lag:].T @ scores[:-lag]
        middle += (1 - lag / (lags + 1)) * (shifted + shifted.T)
    bread = np.linalg.pinv(slopes.T @ slopes)
    freedom = max(residuals.size - slopes.shape[1], 1)
    result: FloatArray = bread @ middle @ bread * residuals.size / freedom
    return result


def _correlation_length(residuals: NDArray[np.float64]) -> float:
    """How many readings count as one: twice the sum of the autocorrelation until it first falls to zero, at least 1."""
    centered = residuals - residuals.mean()
    spectrum = np.abs(np.fft.rfft(centered, 2 * centered.size)) ** 2
    correlation = np.fft.irfft(spectrum)[: centered.size]
    if correlation[0] <= 0:
        return 1.0
    correlation /= correlation[0]
    negative = np.flatnonzero(correlation <= 0)
    until = int(negative[0]) if negative.size else correlation.size
    return max(1.0, 1 + 2 * float(correlation[1:until].sum()))
