"""The hypervolume that a network is expected to add to a front, before it is trained."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from nasseg.analyse.front import Floats

SAMPLES = 256  # points over the objectives other than the first; a power of two


@dataclass(frozen=True)
class Outlook:
    """The objectives' values of n candidates in m objectives, all minimised, as independent normal distributions.

    mean, error: their means and standard deviations. An error of 0: the value is known.
    """

    mean: Floats  # [n, m]
    error: Floats  # [n, m]


def expected_improvement(outlook: Outlook, front: Floats, reference: Floats, first: int) -> Floats:
    """Return the expected hypervolume improvement [n] of candidates, up to a factor that they share.

    front: values [k, m], minimised, of finished networks. reference: the worst corner [m]. first: the index of an
    objective that training decides; in this one the integral is solved in closed form.

    Let u be values of the other objectives, between the best known ones and the reference. Let b(u) be the best value
    of objective `first` among the points of the front whose other objectives are at most u, or the reference's if there
    are none. The hypervolume that a point y adds is the integral over u of how far y is below b(u) in objective
    `first`, wherever y's other objectives are at most u. For independent normals, the integrand's expectation is the
    one-dimensional expected improvement (Jones et al., 1998), in closed form, times a probability for each other
    objective. u comes from a Sobol sequence, or from an even grid if there is only one other objective. Emmerich et
    al., "Hypervolume-based expected improvement", 2011.
    """
    others = [index for index in range(len(reference)) if index != first]
    known = np.vstack([front, outlook.mean])[:, others]
    low = np.minimum(known.min(axis=0), reference[others])
    u = low + _even(len(others)) * (reference[others] - low)
    covered = (front[:, None, others] <= u[None]).all(axis=2)
    best = np.where(covered, front[:, first, None], reference[first]).min(axis=0, initial=reference[first])
    added = _below(outlook.mean[:, first, None], outlook.error[:, first, None], best[None])
    for place, index in enumerate(others):
        added *= _probability(outlook.mean[:, index, None], outlook.error[:, index, None], u[None, :, place])
    return np.asarray(added.mean(axis=1))


def _even(dimensions: int) -> Floats:
    if dimensions == 0:
        return np.zeros((1, 0))
    if dimensions == 1:
        return (np.arange(SAMPLES)[:, None] + 0.5) / SAMPLES
    from scipy.stats import qmc  # slow to import

    return np.asarray(qmc.Sobol(dimensions, rng=0).random(SAMPLES))


def _below(mean: Floats, error: Floats, best: Floats) -> Floats:
    """Return how far a normal is expected to be below each best value, counting 0 where it is above."""
    sure = np.maximum(0.0, best - mean)
    spread = np.where(error > 0, error, 1.0)
    z = (best - mean) / spread
    unsure = (best - mean) * ndtr(z) + spread * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.where(error > 0, np.maximum(0.0, unsure), sure)


def _probability(mean: Floats, error: Floats, bound: Floats) -> Floats:
    """Return the probability that a normal is at most a bound."""
    return np.where(error > 0, ndtr((bound - mean) / np.where(error > 0, error, 1.0)), mean <= bound)
