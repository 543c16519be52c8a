"""Pareto fronts and hypervolumes, exact.

Values are arrays [n, m]: n trials by m objectives, each with its direction. Internally, everything is minimised.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasseg.errors import UserError, unknown

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SIGN = {"minimize": 1.0, "maximize": -1.0}


def pareto_front(values: ArrayLike, directions: Sequence[str]) -> Mask:
    """Return a mask [n] of the rows of values [n, m] that no other row dominates.

    A row dominates another if it is at least as good everywhere and better somewhere. So equal rows are both on the
    front or both off it. A row with a NaN is never on the front and dominates nothing.
    """
    front = np.zeros(len(_minimised(values, directions)), dtype=bool)
    front[next(pareto_fronts(values, directions), [])] = True
    return front


def pareto_fronts(values: ArrayLike, directions: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """Yield the indices [k] of the rows of values [n, m] on the front, then those on the front of the rest, and so on.

    Rows with a NaN are on no front.
    """
    points = _minimised(values, directions)
    known = np.flatnonzero(~np.isnan(points).any(axis=1))
    if not len(known):
        return
    # Ranks keep the order, so infinities and negative zeros need no care. Among distinct rows in lexicographic
    # order, only an earlier one can dominate a later one.
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in points[known].T], axis=1)
    rows, inverse = np.unique(ranks, axis=0, return_inverse=True)
    left = np.arange(len(rows))
    while len(left):
        front, on = np.zeros(len(rows), dtype=bool), _undominated(rows[left])
        front[left[on]] = True
        yield known[front[inverse.reshape(-1)]]
        left = left[~on]


def is_dominated(values: ArrayLike, directions: Sequence[str]) -> Mask:
    """Return a mask [n] of the rows of values [n, m] that another row dominates. Rows with a NaN are not dominated."""
    known = ~np.isnan(_minimised(values, directions)).any(axis=1)
    return known & ~pareto_front(values, directions)


def front_probability(
    values: ArrayLike, errors: ArrayLike, directions: Sequence[str], draws: int = 400, seed: int = 0
) -> Floats:
    """Return how often each row of values [n, m] would be on the front if all were measured again: [n], 0..1.

    A parametric bootstrap: each of `draws` times, every value is drawn from a normal distribution about the measured
    one, with the standard error in errors [n, m] and cut at four of them. An error of 0 means exact. Rows with a NaN
    are never on the front.
    """
    points, spread = _minimised(values, directions), np.abs(np.asarray(errors, dtype=np.float64))
    chance = np.zeros(len(points))
    # A row whose best value is dominated by another's worst is never on the front.
    low, high = points - 4 * spread, points + 4 * spread
    known = np.flatnonzero(~np.isnan(points).any(axis=1))
    sure = high[known][pareto_front(high[known], ["minimize"] * points.shape[1])]
    rows = np.array([i for i in known if not _beaten(low[i], sure)], dtype=np.int64)
    rng = np.random.default_rng(seed)
    for _ in range(draws if len(rows) else 0):
        noise = np.clip(rng.standard_normal((len(rows), points.shape[1])), -4, 4)
        chance[rows] += pareto_front(points[rows] + spread[rows] * noise, ["minimize"] * points.shape[1])
    return chance / draws


def hypervolume(values: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> float:
    """Return the volume between the rows of values [n, m] and a reference point [m], in the product of the units.

    Rows that are not better than the reference in every objective, or not finite, contribute nothing. The result is
    exact for any m. Time grows as n log n for two objectives, at most n^2 for three, and by a factor of n for each one
    more.
    """
    points, corner = _boxed(values, reference, directions)
    points = points[(points < corner).all(axis=1)]
    return _volume(points, corner)


def hypervolume_history(values: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> Floats:
    """Return the hypervolume of the first 1, 2, ... n rows of values [n, m]: [n]."""
    points, corner = _boxed(values, reference, directions)
    front = np.empty((0, points.shape[1]))
    total, history = 0.0, np.zeros(len(points))
    for index, point in enumerate(points):
        if (point < corner).all() and not (front <= point).all(axis=1).any():
            # The point adds its own box, without the part that the front already covers.
            covered = np.maximum(front, point)
            total += max(0.0, float(np.prod(corner - point)) - _volume(covered, corner))
            front = np.vstack([front[~(front >= point).all(axis=1)], point])
        history[index] = total
    return history


@dataclass(frozen=True, eq=False)
class Box:
    """The box that normalises a hypervolume: from the reference point [m] to the best value of each objective [m]."""

    reference: Floats
    ideal: Floats

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Box):
            return NotImplemented
        return np.array_equal(self.reference, other.reference) and np.array_equal(self.ideal, other.ideal)

    @property
    def volume(self) -> float:
        return float(np.prod(np.abs(self.reference - self.ideal)))


def reference_box(values: ArrayLike, directions: Sequence[str], margin: float = 0.1) -> Box:
    """Return the box that normalises hypervolumes to 0..1.

    The reference point is the worst value of each objective over the rows of values [n, m], widened by `margin` of the
    objective's range, so that the worst rows count, too. The opposite corner is the best value of each objective. An
    objective that does not vary is widened by `margin` of its value. More trials can move the box: compare hypervolumes
    of two studies only over the same box.

    Raises:
        UserError: no row is finite.
    """
    points = _minimised(values, directions)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise UserError("a reference point needs at least one finished trial")
    best, worst = points.min(axis=0), points.max(axis=0)
    spread = np.where(worst > best, worst - best, np.where(best != 0, np.abs(best), 1.0))
    sign = _signs(directions)
    return Box(reference=sign * (worst + margin * spread), ideal=sign * best)


def _beaten(point: Floats, others: Floats) -> bool:
    """Return whether one of others [n, m] (minimised) dominates point [m]."""
    return bool(((others <= point).all(axis=1) & (others < point).any(axis=1)).any())


def _signs(directions: Sequence[str]) -> Floats:
    for direction in directions:
        if direction not in _SIGN:
            raise unknown("direction", direction, _SIGN)
    return np.array([_SIGN[direction] for direction in directions])


def _minimised(values: ArrayLike, directions: Sequence[str]) -> Floats:
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != len(directions) or not directions:
        raise UserError(
            f"values must be trials by objectives [n, {len(directions)}], got an array {list(points.shape)}"
        )
    return points * _signs(directions)


def _boxed(values: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> tuple[Floats, Floats]:
    """Return values and reference point, minimised. Rows that are not finite are made too bad to count."""
    points = _minimised(values, directions)
    corner = _minimised(np.asarray(reference, dtype=np.float64)[None], directions)[0]
    if not np.isfinite(corner).all():
        raise UserError(f"a reference point must be finite, got {corner.tolist()}")
    return np.where(np.isfinite(points).all(axis=1, keepdims=True), points, np.inf), corner


def _undominated(rows: NDArray[np.int64]) -> Mask:
    """Return a mask [n] of distinct, sorted rows [n, m] (lexicographic, minimised) that no earlier row dominates."""
    n, m = rows.shape
    if m > 3:
        front = np.ones(n, dtype=bool)
        for index in range(n):  # comparing with the front is enough: domination is transitive
            front[index] = not (rows[:index][front[:index]] <= rows[index]).all(axis=1).any()
        return front
    padded = np.zeros((n, 3), dtype=np.int64)
    padded[:, :m] = rows
    corner = int(rows.max(initial=0)) + 1
    stairs = _Stairs(corner, corner)
    return np.array([stairs.add(y, z) > 0 for _, y, z in padded.tolist()])


class _Stairs:
    """The undominated points of the plane (minimised), and the area they cover up to a corner beyond all of them."""

    def __init__(self, x: float, y: float) -> None:
        self.corner_x, self.corner_y = x, y
        self.xs: list[float] = []  # ascending
        self.ys: list[float] = []  # descending

    def add(self, x: float, y: float) -> float:
        """Add a point and return how much the covered area grows; 0 if the point is already covered."""
        xs, ys = self.xs, self.ys
        right = bisect_right(xs, x)
        if right and ys[right - 1] <= y:
            return 0.0
        first = last = bisect_left(xs, x)
        left, top, gained = x, ys[first - 1] if first else self.corner_y, 0.0
        while last < len(xs) and ys[last] >= y:
            gained += (xs[last] - left) * (top - y)
            left, top = xs[last], ys[last]
            last += 1
        gained += ((xs[last] if last < len(xs) else self.corner_x) - left) * (top - y)
        xs[first:last], ys[first:last] = [x], [y]
        return gained


def _volume(points: Floats, corner: Floats) -> float:
    """Return the volume that points [n, m] (minimised) cover up to the corner [m], by sweeping over slabs.

    No point is beyond the corner.
    """
    m = len(corner)
    if not len(points):
        return 0.0
    if m == 1:
        return float(corner[0] - points.min())
    if m == 2:
        stairs = _Stairs(*corner.tolist())
        return sum(stairs.add(x, y) for x, y in points.tolist())
    points = points[np.argsort(points[:, -1], kind="stable")]
    heights = np.diff(points[:, -1], append=corner[-1]).tolist()
    if m == 3:
        stairs, area, total = _Stairs(*corner[:2].tolist()), 0.0, 0.0
        for (x, y, _), height in zip(points.tolist(), heights, strict=True):
            area += stairs.add(x, y)
            total += area * height
        return total
    return sum(
        (height * _volume(points[: i + 1, :-1], corner[:-1]) for i, height in enumerate(heights) if height > 0), 0.0
    )
