"""Skip candidates that cannot keep a limit on latency, before timing them.

A predictor is fitted to this study's measurements on this device (measure/latency/predictor.py). A candidate is
hopeless if its prediction, multiplied by the 1st percentile of measured / predicted, is still over a limit. The
percentile is over networks left out of the fit. So one candidate in a hundred is skipped wrongly, or one in n + 1 if
fewer than 99 networks (n) were left out. Predictions are only stored in the reason for skipping a candidate.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from optuna.trial import FrozenTrial

from nasseg.families import arch_of
from nasseg.figures import FIGURES
from nasseg.measure.environment import environment
from nasseg.records import Latency, LatencyProtocol, Measurement, Size
from nasseg.study.limits import Rules
from nasseg.study.store.candidate import Candidate
from nasseg.study.store.trial_attributes import ARCH, MEASUREMENT

if TYPE_CHECKING:
    # Fitting needs SciPy, and only a screen needs fitting.
    from nasseg.measure.latency.predictor import Predictor

MAX_LEARNED = 200  # networks, the latest ones; a fit to more is no better
GROWTH = 1.2  # refit once there are this many times as many networks
COVERAGE = 0.98  # coverage of the interval whose lower end is the 1st percentile


class _HasSettings(Protocol):
    @property
    def settings(self) -> dict[str, Any]: ...


Candidates = TypeVar("Candidates", bound=_HasSettings)


@dataclass(frozen=True)
class Hopeless:
    """The reason for skipping a candidate: a sentence, equal for all that miss this limit, then the prediction.

    constraints: for the sampler, as for measured figures; for a prediction, the least by which it is over the limit.
    """

    reason: str
    constraints: dict[str, float]


def passed_over(candidate: Candidate, rules: Rules, screen: "Screen | None") -> Hopeless | None:
    """Return why a costed candidate is not timed: it breaks a limit on cost, or is predicted to break one on latency.

    Published networks are exempt.
    """
    measurement = candidate.measurement
    assert measurement is not None
    if candidate.label:
        return None
    broken = rules.over_limit(measurement, "cost")
    found = Hopeless(broken, {}) if broken else screen.judge(candidate) if screen else None
    return found and Hopeless(found.reason, rules.constraints(measurement) | found.constraints)


class Screen:
    """The latency predictor of a search: learns from ended trials, and judges candidates once it knows `after` of them.

    limits: of the study; those on latencies are used. protocol: of its latencies. after: at least MIN_FITTED of
    nasseg.measure.latency.predictor, which is 30.
    """

    def __init__(self, limits: Mapping[str, Mapping[str, float]], protocol: LatencyProtocol, after: int) -> None:
        own = {name for name, figure in FIGURES.items() if figure.phase == "latency"}
        self._limits = {name: limit["max"] for name, limit in limits.items() if name in own and "max" in limit}
        self._protocol, self._after = protocol, after
        self._learned: dict[str, tuple[str, dict[str, float]]] = {}  # arch_id -> arch as JSON, measured figures
        self._heard = self._heard_at_fit = 0
        self.predictors: dict[str, Predictor] = {}  # by figure

    def learn(self, trial: FrozenTrial) -> None:
        """Take in a trial that ended."""
        if not self._limits or MEASUREMENT not in trial.user_attrs:
            return
        measurement = Measurement.from_json(trial.user_attrs[MEASUREMENT])
        if measurement.latency and measurement.arch_id not in self._learned and self._trusts(measurement.latency):
            figures = {name: FIGURES[name].of(measurement) for name in self._limits}
            known = {name: value for name, value in figures.items() if value is not None}
            self._learned[measurement.arch_id] = (trial.user_attrs[ARCH], known)
            self._heard += 1
            if len(self._learned) > MAX_LEARNED:
                del self._learned[next(iter(self._learned))]

    def _trusts(self, latency: Latency) -> bool:
        """Return whether a latency comes from this device and was undisturbed."""
        if latency.disturbed or latency.protocol != self._protocol:
            return False
        device = latency.protocol.device
        there, here = latency.environment, environment(device)
        on_target = latency.protocol.backend == "command"
        return on_target or (there.place(device), there.torch) == (here.place(device), here.torch)

    def judge(self, candidate: _HasSettings) -> Hopeless | None:
        """Return why a candidate is not worth timing; None if it may be."""
        if not self._fitted():
            return None
        work = self._work(candidate.settings)
        for name, predictor in self.predictors.items():
            found, limit = predictor.predict_work(work), self._limits[name]
            if found.low_ms > limit:
                reason = (
                    f"{name} is predicted to be over the limit of {limit:.6g}\n{found.ms:.3g} is predicted, at "
                    f"least {found.low_ms:.3g}; the model is {predictor.mape:.1%} off on average, on "
                    f"{predictor.n} networks left out of its fit"
                )
                return Hopeless(reason, {f"{name} max": (found.low_ms - limit) / limit})
        return None

    def order(self, candidates: Sequence[Candidates]) -> list[Candidates]:
        """Order candidates by their predicted margin to the limits, the largest first; unchanged without a model."""
        if not self._fitted():
            return list(candidates)
        return sorted(candidates, key=lambda one: self._share(one.settings))

    def _share(self, settings: Mapping[str, Any]) -> float:
        """Return how much of the tightest limit is used."""
        work = self._work(settings)
        return max(found.predict_work(work).ms / self._limits[name] for name, found in self.predictors.items())

    def _work(self, settings: Mapping[str, Any]) -> dict[str, float]:
        return _features(json.dumps(settings, sort_keys=True), self._protocol.num_classes, self._protocol.input_size)

    def _fitted(self) -> bool:
        """Return whether there is a model. Refit it first if much was learned since."""
        if self._limits and self._heard >= max(self._after, GROWTH * self._heard_at_fit):
            from nasseg.measure.latency.predictor import fit_work

            work = [self._work(json.loads(arch)) for arch, _ in self._learned.values()]
            self.predictors = {
                name: fit_work(
                    work,
                    [figures[name] for _, figures in self._learned.values()],
                    image_shape=(1, 3, *self._protocol.input_size),
                    coverage=COVERAGE,
                )
                for name in self._limits
            }
            self._heard_at_fit = self._heard
        return bool(self.predictors)


@lru_cache(2 * MAX_LEARNED)
def _features(settings: str, num_classes: int, input_size: Size) -> dict[str, float]:
    """Return the predictor's features of a network given as JSON; recording it again takes about 0.01 s."""
    from nasseg.measure.latency.predictor import features

    return features(arch_of(json.loads(settings)).graph(num_classes, input_size))
