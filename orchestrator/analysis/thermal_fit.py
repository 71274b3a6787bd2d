"""One or two thermal bodies fitted to a temperature under a steady load: T(t) = S − Σ Aᵢ·(e^(−t/τᵢ) − cᵢ(t)).

cᵢ is what the load's measured deviation from its mean does to the body, δ(t) convolved with e^(−t/τᵢ)/τᵢ: a device at rest before the load
answers to the deviation as it does to the load itself. Without a measured load c is zero.

Least squares with a start from a grid of time constants, on which the rest of the model is linear (variable projection, Golub and Pereyra,
1973). Residuals of a quantised, sampled temperature are not independent, so the covariance is the heteroskedasticity- and
autocorrelation-consistent one (Newey and West, 1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from orchestrator.analysis.statistics import FloatArray
from orchestrator.analysis.thermal_run import Series

#: More readings than this are averaged in groups: the mean of an exponential over a short time is the same exponential.
MOST_READINGS = 2_000
_GRID = 28
#: Two bodies must differ by this factor to be told apart.
_APART = 1.8
#: How much the interval is widened: the covariance of so many lags comes out too small on finite data (seen on simulated boards).
_WIDENED = 1.3
#: The step in ln τ of a numeric derivative.
_NUDGE = 1e-4
#: Two bodies are taken when they lower Akaike's criterion by this much for the effective number of readings.
_BETTER = 10.0


@dataclass(frozen=True)
class BodyFit:
    """A fit: ``taus`` ascending, seconds; ``amplitudes`` and ``steady`` °C; ``t`` counts from the first reading.

    ``covariance`` is that of (ln τᵢ, Aᵢ, S). ``half_widths`` are those of the 95 % intervals of ln τᵢ. ``effective`` is the number of
    independent readings that the ``count`` correlated ones amount to.
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
    effective: float

    @property
    def bodies(self) -> int:
        return int(self.taus.size)

    def after_fast(self, moment: float) -> BodyFit:
        """Return the slow body alone, of a fit of two, for times from ``moment`` on, when the fast one has died away."""
        tau, gone = float(self.taus[1]), math.exp(-moment / float(self.taus[1]))
        amplitude = float(self.amplitudes[1]) * gone
        # From (ln τ, A, S) to (ln τ, A·e^(−moment/τ), S).
        turn = np.array([[1.0, 0.0, 0.0], [amplitude * moment / tau, gone, 0.0], [0.0, 0.0, 1.0]])
        kept = np.ix_([1, 3, 4], [1, 3, 4])
        return replace(
            self,
            taus=self.taus[1:],
            amplitudes=np.array([amplitude]),
            covariance=turn @ self.covariance[kept] @ turn.T,
            half_widths=self.half_widths[1:],
        )

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


def fit_bodies(secs: FloatArray, value: FloatArray, bodies: int, load: Series | None = None) -> BodyFit | None:
    """Fit one or two bodies to readings, ascending in time, at least eight; None when no such model can be had from them.

    ``load`` is what the device has worked until each moment (CPU seconds, joules above idle), on the same time axis.
    """
    # Imported where it is needed: it takes half a second, and every worker and command would pay it at its start.
    from scipy.optimize import least_squares

    shape = _Shape(secs, load)
    secs, value = _thinned(secs - secs[0], value)
    span = float(secs[-1])
    if secs.size < 8 or span <= 0:
        return None
    grid = np.geomspace(max(float(np.median(np.diff(secs))), span / 3000), span * 10, _GRID)
    begin = _begin(shape.decay(grid), value, bodies, grid)
    low, high = np.full(begin.size, -np.inf), np.full(begin.size, np.inf)
    low[:bodies], high[:bodies] = math.log(grid[0] / 2), math.log(grid[-1] * 2)
    solved = least_squares(
        lambda p: shape.model(p, bodies) - value, begin, jac=lambda p: shape.slopes(p, bodies), bounds=(low, high), x_scale="jac"
    )
    order = np.argsort(solved.x[:bodies])
    parameters = np.concatenate([solved.x[:bodies][order], solved.x[bodies : 2 * bodies][order], solved.x[-1:]])
    residuals = value - shape.model(parameters, bodies)
    covariance = _covariance(shape.slopes(parameters, bodies), residuals)
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
        effective=secs.size / _correlation_length(residuals),
    )


def best_fit(secs: FloatArray, value: FloatArray, load: Series | None = None) -> BodyFit | None:
    """Fit one body, and two where one is too few: they must explain more than their parameters do, and each must be seen."""
    one, two = fit_bodies(secs, value, 1, load), fit_bodies(secs, value, 2, load)
    if two is None or one is None:
        return one or two
    seen = float(np.abs(two.amplitudes).min()) > max(quantum_of(value) / 2, 2 * two.rmse / math.sqrt(two.effective))
    apart = float(two.taus[1] / two.taus[0]) > _APART
    better = two.effective_criterion(two.effective) < one.effective_criterion(two.effective) - _BETTER
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


class _Shape:
    """The shape that each body gives the temperature, for any time constants: e^(−t/τ) less what the load's deviation did."""

    def __init__(self, secs: FloatArray, load: Series | None) -> None:
        self._secs, _ = _thinned(secs - secs[0], secs)
        self._deviation: FloatArray | None = None
        if load is None or load.secs.size < 2 or load.secs[0] > secs[0] or load.secs[-1] < secs[-1]:
            return
        self._step = float(self._secs[-1]) / (self._secs.size - 1)
        edges = np.arange(self._secs.size) * self._step
        worked = np.diff(np.interp(edges + secs[0], load.secs, load.value))
        if worked.mean() > 0:
            self._edges, self._deviation = edges, worked / worked.mean() - 1

    def decay(self, taus: FloatArray) -> FloatArray:
        """Return the shapes of time constants of shape (k,), an array of shape (readings, k)."""
        plain: FloatArray = np.exp(-self._secs[:, None] / taus)
        if self._deviation is None:
            return plain
        from scipy.signal import lfilter  # as above

        for column, tau in enumerate(taus):
            kept = math.exp(-self._step / float(tau))
            answer = np.concatenate([[0.0], lfilter([1 - kept], [1, -kept], self._deviation)])
            plain[:, column] -= np.interp(self._secs, self._edges, answer)
        return plain

    def model(self, p: FloatArray, bodies: int) -> FloatArray:
        """Return the temperature for parameters (ln τᵢ, Aᵢ, S)."""
        result: FloatArray = p[-1] - self.decay(np.exp(p[:bodies])) @ p[bodies:-1]
        return result

    def slopes(self, p: FloatArray, bodies: int) -> FloatArray:
        """Return the derivatives of the temperature by each parameter, shape (readings, parameters)."""
        tau = np.exp(p[:bodies])
        decay = self.decay(tau)
        if self._deviation is None:
            by_tau = decay * (self._secs[:, None] / tau)
        else:
            by_tau = (self.decay(tau * math.exp(_NUDGE)) - self.decay(tau * math.exp(-_NUDGE))) / (2 * _NUDGE)
        return np.hstack([-by_tau * p[bodies:-1], -decay, np.ones((self._secs.size, 1))])


def _begin(decay: FloatArray, value: FloatArray, bodies: int, grid: FloatArray) -> FloatArray:
    """Return the best point of the grid: for given time constants the amplitudes and the end are a linear problem, all solved at once."""
    count = value.size
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
    normal[:, bodies, bodies] = count
    right[:, bodies] = value.sum()
    # A trace of the diagonal keeps slow bodies, which look like a constant, from making the system singular.
    normal += 1e-9 * count * np.eye(bodies + 1)
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
