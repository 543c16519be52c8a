"""A Gaussian process with one length scale, as small as a search needs it."""

import math

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from nasseg.analyse.front import Floats

LENGTHS = (0.7, 1.4, 2.8, 5.6)
NOISES = (0.02, 0.1, 0.4)  # variance of values around the smooth function, over the variance of that function
GROWTH = 1.2  # length scale and noise are chosen again when there are this many times as many values


class GaussianProcess:
    """Regression with a Matern 5/2 kernel (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006).

    Length scale and noise come from a small grid by marginal likelihood, the scale of values from the data.
    """

    def __init__(self) -> None:
        self._chosen, self._chosen_at = (LENGTHS[1], NOISES[1]), 0

    def fit(self, points: Floats, values: Floats, noise: Floats) -> None:
        """Learn values [n] at points [n, d]. noise [n]: the variance of each beyond the common one, in their unit."""
        self._mean = float(np.average(values, weights=1 / (noise + values.var() + 1e-12)))
        self._spread = float(values.std()) or 1.0
        scaled, extra, apart = (values - self._mean) / self._spread, noise / self._spread**2, distance(points, points)
        if len(values) >= GROWTH * self._chosen_at:
            self._chosen_at = len(values)
            tried = {(length, own): _fit(apart, length, own + extra, scaled) for length in LENGTHS for own in NOISES}
            self._chosen = max(tried, key=lambda key: tried[key][3])
        length, own = self._chosen
        self._points = points
        self._lower, self._white, self._scale, _ = _fit(apart, length, own + extra, scaled)

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation [n] of the smooth function at points [n, d]."""
        shared = solve_triangular(self._lower, matern(distance(self._points, points), self._chosen[0]), lower=True)
        level = solve_triangular(self._lower, np.ones(len(self._points)), lower=True)
        # The mean far from all values is only an estimate: of few values it is off by much (universal kriging).
        of_mean = (1 - shared.T @ level) ** 2 / (level @ level)
        variance = self._scale * (np.maximum(1e-6, 1 - (shared**2).sum(axis=0)) + of_mean)
        return self._mean + self._spread * (shared.T @ self._white), self._spread * np.sqrt(variance)


def distance(a: Floats, b: Floats) -> Floats:
    """Return the distances [n, m] between the rows of a [n, d] and b [m, d]."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(0.0, squared))


def matern(apart: Floats, length: float) -> Floats:
    """Return the Matern 5/2 correlation at these distances."""
    scaled = math.sqrt(5) * apart / length
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def _fit(apart: Floats, length: float, noise: Floats, values: Floats) -> tuple[Floats, Floats, float, float]:
    """Return the Cholesky factor, the whitened values, the scale of the variance and the log likelihood."""
    lower = cholesky(matern(apart, length) + np.diag(noise), lower=True)
    white = solve_triangular(lower, values, lower=True)
    scale = float(white @ white + 2) / (len(values) + 2)  # as if there were two more values, exactly as expected
    return lower, white, scale, -0.5 * len(values) * math.log(scale) - float(np.log(np.diag(lower)).sum())
