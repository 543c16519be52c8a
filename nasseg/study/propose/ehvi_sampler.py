"""A sampler for networks: expected hypervolume improvement, by Gaussian processes over the built networks.

Each objective that training or timing decides has a Gaussian process over features of the network's graph, which mean
the same in every family, and over the parameters. Values at a rung are mapped to final values by a line fitted through
the networks that were trained on, and count as much as that line is worth. Objectives known before training, such as
multiply-adds, are used as they are. From a pool of points that grows with the search, the sampler chooses the point
with the largest expected hypervolume improvement. A limit on a figure that is not known yet multiplies this by the
probability that the limit is kept.
"""

import random
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from nasseg.analyse.front import Floats, pareto_front, reference_box
from nasseg.study.propose.gaussian_process import GaussianProcess
from nasseg.study.propose.graph_features import Described, Points
from nasseg.study.propose.improvement import Outlook, expected_improvement

POOL, FILLS = 128, 12  # points in the pool at first, and how many are described before each choice until it is full
GROWS = 1  # points described before each later choice: most of the time of a choice
MAX_POOL = 512
STARTUP = 3  # finished networks before anything is learned
MAX_FINISHED, MAX_PARTIAL = 256, 128  # seen at once: the front and the latest
CALIBRATED = 5  # networks trained on from a rung before the values of others at that rung count
CODES = 0.5  # weight of differing in all parameters, relative to differing in all features

Key = tuple[tuple[str, Any], ...]  # identifies a point


@dataclass(frozen=True)
class Seen:
    """A network of the search. at_rungs: its objectives' values at each rung; values: at the end, None before.

    breaches: how far it is over each limit; at most 0 if the limit is kept.
    """

    point: Mapping[str, Any]
    at_rungs: Sequence[Sequence[float]] = ()
    values: Sequence[float] | None = None
    breaches: Mapping[str, float] = field(default_factory=dict)


class EHVISampler(BaseSampler):
    """Choose points by expected hypervolume improvement, for Optuna and for nasseg's own searches.

    points: draws and describes them, with the names that the objective function suggests. Conditional parameters need
    nothing more. A name that a point lacks is drawn uniformly.
    """

    def __init__(self, points: Points, seed: int | None = None) -> None:
        self.points = points
        self._random = random.Random(seed)
        self._independent = RandomSampler(seed)
        self._pool: dict[Key, dict[str, Any]] = {}
        self._known: dict[Key, Described | None] = {}
        self._processes: dict[str, GaussianProcess] = {}
        self._given: dict[int, Mapping[str, Any]] = {}

    # Optuna's interface

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        trials = study.get_trials(deepcopy=False)
        seen = [
            Seen(t.params, (), t.values if t.state == TrialState.COMPLETE else None, t.constraints)
            for t in trials
            if t.state in (TrialState.COMPLETE, TrialState.PRUNED)
        ]
        running = [t.params for t in trials if t.state == TrialState.RUNNING and t.number != trial.number]
        names = ["maximize" if d == StudyDirection.MAXIMIZE else "minimize" for d in study.directions]
        taken = {key_of(one.point) for one in seen} | set(map(key_of, running))
        point, _ = self.choose(seen, names, running, taken)
        if point is not None:
            self._given[trial.number] = point

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        point = self._given.get(trial.number, {})
        if param_name in point:
            return point[param_name]
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._given.pop(trial.number, None)

    def reseed_rng(self) -> None:
        self._random.seed()
        self._independent.reseed_rng()

    # The method

    def choose(
        self,
        seen: Sequence[Seen],
        directions: Sequence[str],
        running: Sequence[Mapping[str, Any]] = (),
        taken: Container[Key] = (),
        waiting: Sequence[Seen] = (),
    ) -> tuple[dict[str, Any] | None, int | None]:
        """Return a new point, or the index of the network in `waiting` that is worth more, trained to the end.

        seen: known networks, including those in `waiting`. running: points under way. taken: keys of points not to
        propose. Both results are None if there is nothing to choose from.
        """
        finished = [one for one in seen if one.values is not None]
        self._refill(finished, directions, taken)
        pool = list(self._pool.values())
        at_hand = self._at_hand(seen, directions) if len(finished) >= STARTUP else []
        if sum(one.values is not None for one in at_hand) < STARTUP:
            return (pool[self._random.randrange(len(pool))] if pool else None), None
        places = [place for place, one in enumerate(waiting) if self._describe(one.point)]
        candidates = [*pool, *(waiting[place].point for place in places)]
        if not candidates:
            return None, None
        scores = self._scores(at_hand, directions, running, candidates)
        if len(pool) > MAX_POOL:
            for place in np.argsort(scores[: len(pool)])[: len(pool) - MAX_POOL]:
                del self._pool[key_of(pool[place])]
        best = int(np.argmax(scores))
        return (pool[best], None) if best < len(pool) else (None, places[best - len(pool)])

    def _refill(self, finished: Sequence[Seen], directions: Sequence[str], taken: Container[Key]) -> None:
        """Remove taken points from the pool, and draw new ones: at random, and every other time near the front."""
        self._pool = {key: point for key, point in self._pool.items() if key not in taken}
        front: list[Seen] = []
        if len(finished) >= STARTUP:
            on = pareto_front(_values(finished), directions)
            front = [one for one, is_on in zip(finished, on, strict=True) if is_on]
        before = len(self._known)
        wanted = before + (FILLS if before < POOL else GROWS)
        for draw in range(4 * (wanted - before)):  # some are drawn again
            near = front and (before + draw) % 2
            point = self.points.near(self._random.choice(front).point, self._random) if near else None
            point = self.points.draw(self._random) if point is None else point
            if (key := key_of(point)) not in taken and self._describe(point):
                self._pool[key] = point
            if len(self._known) >= wanted:
                break

    def _describe(self, point: Mapping[str, Any]) -> Described | None:
        key = key_of(point)
        if key not in self._known:
            self._known[key] = self.points.describe(point)
        return self._known[key]

    def _at_hand(self, seen: Sequence[Seen], directions: Sequence[str]) -> list[Seen]:
        """Return the networks that a choice uses: a bounded number, so that it takes no longer in a long search.

        Those that cannot be described are left out: tighter limits may exclude what was finished before.
        """
        finished = front_and_latest([one for one in seen if one.values is not None], directions)
        partial = [one for one in seen if one.values is None][-MAX_PARTIAL:]
        return [one for one in (*finished, *partial) if self._describe(one.point)]

    def _scores(
        self,
        seen: Sequence[Seen],
        directions: Sequence[str],
        running: Sequence[Mapping[str, Any]],
        candidates: Sequence[Mapping[str, Any]],
    ) -> Floats:
        """Return the expected improvement of each candidate, counting running ones at their expected values."""
        running = [point for point in running if self._describe(point)]
        asked = [*running, *candidates]
        points = [*(one.point for one in seen), *asked]
        described = [self._described(point) for point in points]
        known = [one.known for one in described[len(seen) :]]
        rows = _coordinates(points, [one.features for one in described])
        there, here = rows[: len(seen)], rows[len(seen) :]
        sign = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
        mean, error = np.zeros((2, len(asked), len(sign)))
        first: int | None = None
        for index in range(len(sign)):
            if all(index in one for one in known):
                mean[:, index] = [sign[index] * one[index] for one in known]
            else:
                first = index if first is None else first
                data = _observed(seen, index)
                found = self._process(f"objective {index}", there, data, here, len(running))
                mean[:, index], error[:, index] = sign[index] * found[0], found[1]
        error[: len(running)] = 0
        front = _values(seen) * sign
        sure = (error == 0).all(axis=0)  # known values of candidates widen the box, so that the worst count, too
        corners = np.vstack([front, np.where(sure, mean, front[0])])
        reference = reference_box(corners, ["minimize"] * len(sign)).reference
        front = np.vstack([front, mean[: len(running)]])
        outlook = Outlook(mean[len(running) :], error[len(running) :])
        scores = expected_improvement(outlook, front, reference, first or 0)
        return scores * self._kept(seen, there, here[len(running) :])

    def _kept(self, seen: Sequence[Seen], there: Floats, here: Floats) -> Floats:
        """Return the probability that candidates keep each limit that some network broke."""
        kept = np.ones(len(here))
        for name in sorted({name for one in seen for name, breach in one.breaches.items() if breach > 0}):
            data = [(row, one.breaches[name], 0.0) for row, one in enumerate(seen) if name in one.breaches]
            if len(data) >= STARTUP:
                mean, error = self._process(f"limit {name}", there, data, here, 0)
                kept *= ndtr(-mean / error)
        return kept

    def _process(
        self, name: str, there: Floats, data: Sequence[tuple[int, float, float]], here: Floats, running: int
    ) -> tuple[Floats, Floats]:
        """Return mean and error of candidates. data: row, value and variance. running: how many are treated as seen."""
        process = self._processes.setdefault(name, GaussianProcess())
        rows, values, noise = (np.array(column) for column in zip(*data, strict=True))
        process.fit(there[rows], values, noise)
        mean, error = process.predict(here)
        if running:
            more = [np.concatenate([a, b]) for a, b in ((values, mean[:running]), (noise, np.zeros(running)))]
            process.fit(np.vstack([there[rows], here[:running]]), *more)
            again, error = process.predict(here)
            mean = np.concatenate([mean[:running], again[running:]])
        return mean, error

    def _described(self, point: Mapping[str, Any]) -> Described:
        found = self._describe(point)
        assert found is not None
        return found


def _coordinates(points: Sequence[Mapping[str, Any]], known: Sequence[Sequence[float]]) -> Floats:
    """Return points as rows whose distances mean something: features of equal spread, and parameters as codes."""
    features = np.array(known)
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0) / features.shape[1] ** 0.5
    names = {item: place for place, item in enumerate(dict.fromkeys(i for point in points for i in point.items()))}
    codes = np.zeros((len(points), len(names)))
    for row, point in enumerate(points):
        codes[row, [names[item] for item in point.items()]] = CODES
    varied = codes.std(axis=0) > 0
    active = max(1.0, (codes[:, varied] > 0).sum() / len(points))
    return np.hstack([scaled, codes[:, varied] / active**0.5])


def _values(seen: Sequence[Seen]) -> Floats:
    """Return the values [n, m] of finished networks."""
    return np.array([one.values for one in seen if one.values is not None], dtype=np.float64)


def front_and_latest(finished: list[Seen], directions: Sequence[str]) -> list[Seen]:
    """Return at most MAX_FINISHED: the front (the latest of a large one), and the latest of the others."""
    if len(finished) <= MAX_FINISHED:
        return finished
    on = pareto_front(_values(finished), directions)
    front = [one for one, is_on in zip(finished, on, strict=True) if is_on][-MAX_FINISHED // 2 :]
    rest = [one for one, is_on in zip(finished, on, strict=True) if not is_on]
    return rest[len(front) - MAX_FINISHED :] + front


def _observed(seen: Sequence[Seen], index: int) -> list[tuple[int, float, float]]:
    """Return row, value and variance of the known final values of an objective, or of estimates from a rung.

    At each rung a line is fitted through the networks trained on, its slope shrunk as if two more had shown no slope.
    """
    data = [(row, one.values[index], 0.0) for row, one in enumerate(seen) if one.values is not None]
    lines: dict[int, tuple[float, float, float, float] | None] = {}
    for row, one in enumerate(seen):
        rung = len(one.at_rungs) - 1
        if one.values is not None or rung < 0:
            continue
        if rung not in lines:
            pairs = [(o.at_rungs[rung][index], o.values[index]) for o in seen if o.values and len(o.at_rungs) > rung]
            lines[rung] = _line(pairs)
        line = lines[rung]
        if line:
            slope, early, final, variance = line
            data.append((row, final + slope * (one.at_rungs[rung][index] - early), variance))
    return data


def _line(pairs: Iterable[tuple[float, float]]) -> tuple[float, float, float, float] | None:
    """Return slope, both means and the variance around the line; None if nothing can be learned from a rung."""
    early, final = np.array(list(pairs)).reshape(-1, 2).T
    if len(early) < CALIBRATED or early.std() == 0:
        return None
    x, y = early - early.mean(), final - final.mean()
    slope = float(x @ y) / float(x @ x + 2 * x.var())
    left = float(((y - slope * x) ** 2).sum()) / (len(x) - 2) + 0.01 * float(y.var())
    return None if slope <= 0 else (slope, float(early.mean()), float(final.mean()), left)


def key_of(point: Mapping[str, Any]) -> Key:
    """Return the key that identifies a point."""
    return tuple(sorted(point.items()))
