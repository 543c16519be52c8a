"""Choose the networks to promote from a rung: multi-objective successive halving.

A network is trained to the first rung and stopped. Of all networks that reached a rung, the best share of 1 / factor
may continue to the next, each from its own weights. They are ranked by peeling off the rung's non-dominated fronts.
Within a front, the next network is the one farthest from those already taken, in objectives scaled to the rung's range.
Only networks that reach the last rung count as finished. After MO-ASHA (Schmucker et al., "Multi-objective Asynchronous
Successive Halving", 2021), which stops networks; this promotes them.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasseg.analyse.early_figures import ENOUGH
from nasseg.analyse.front import Floats, is_dominated, pareto_fronts
from nasseg.analyse.rungs import ranks_badly
from nasseg.study.store.trial_attributes import (
    CONTINUES,
    PUBLISHED,
    REUSED_FROM,
    RUNG,
    STRAIGHT,
    is_interrupted,
    is_stopped,
)

if TYPE_CHECKING:
    from nasseg.study.context import Context
    from nasseg.study.study_file import Study


def promotion_order(values: Floats, directions: Sequence[str], count: int) -> list[int]:
    """Return the best `count` rows of values [n, m], best first; rows with a NaN or an infinity are left out.

    Fronts are peeled off one by one. Within a front, the first row is the best in the first objective, and each next
    row is the one farthest from all rows of that front taken so far. Objectives are scaled to their range over all
    rows.
    """
    left = np.flatnonzero(np.isfinite(values).all(axis=1))
    low, high = (edge(values[left], axis=0) for edge in (np.min, np.max)) if len(left) else (0.0, 1.0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    order: list[int] = []
    for front in pareto_fronts(values[left], directions):
        if len(order) >= count:
            break
        order += _spread(left[front], scaled, directions[0])
    return order[:count]


def _spread(front: np.ndarray, scaled: Floats, direction: str) -> list[int]:
    first = scaled[front, 0] * (-1 if direction == "maximize" else 1)
    taken = [int(np.argmin(first))]
    rows = scaled[front]
    apart = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(axis=2))  # [n, n]
    distance = np.full(len(front), np.inf)
    for _ in range(len(front) - 1):
        distance = np.minimum(distance, apart[taken[-1]])
        distance[taken] = -1.0
        taken.append(int(np.argmax(distance)))
    return [int(front[place]) for place in taken]


class Halving:
    """The trials that wait at rungs. `rungs`: their steps, ending with the recipe's own.

    straight: the share of compute for networks that are trained to the end whatever their rungs say, in case rungs rank
    badly. Once they are seen to rank badly, that is all new compute. trained: the index of the first objective that
    training decides.
    """

    def __init__(
        self,
        rungs: tuple[int, ...],
        factor: int,
        objectives: Sequence[str],
        directions: Sequence[str],
        straight: float = 0.0,
        trained: int = 0,
    ):
        self.rungs, self.factor, self.straight = rungs, factor, straight
        self._objectives, self._directions, self._trained = objectives, directions, trained
        self._spent = {True: 0, False: 0}  # steps of those trained straight, and of the others
        self._reached: dict[int, list[float]] = {}  # by trial: its values at its rungs
        self._pairs: list[tuple[float, float]] = []  # at the rung before the last, and at the end
        self._badly = False  # whether they seem to rank badly
        self._marked: list[FrozenTrial] = []
        self._stopped: list[list[FrozenTrial]] = [[] for _ in rungs]
        self._values: list[list[list[float]]] = [[] for _ in rungs]
        self._went_on: set[int] = set()
        self._ranked: dict[int, tuple[int, list[FrozenTrial]]] = {}

    @classmethod
    def of(cls, study: "Study", context: "Context") -> "Halving":
        setting, objectives = study.file.halving, study.objectives
        assert setting is not None
        rungs = (*context.rungs, context.recipe.steps)
        trained = next(place for place, figure in enumerate(objectives) if figure.phase == "trained")
        names, directions = [f.name for f in objectives], [f.direction for f in objectives]
        return cls(rungs, setting.factor, names, directions, setting.straight, trained)

    def learn(self, trial: FrozenTrial) -> None:
        """Take in a trial that ended."""
        attributes = trial.user_attrs
        if CONTINUES in attributes and not is_interrupted(trial):
            self._went_on.add(attributes[CONTINUES])
        if is_stopped(trial) and REUSED_FROM not in attributes and attributes[RUNG] < len(self.rungs) - 1:
            self._stopped[attributes[RUNG]].append(trial)
            self._values[attributes[RUNG]].append([attributes[name] for name in self._objectives])
            if STRAIGHT in attributes:
                self._marked.append(trial)
        self._account(trial)

    def _account(self, trial: FrozenTrial) -> None:
        attributes, stopped = trial.user_attrs, is_stopped(trial)
        if REUSED_FROM in attributes or PUBLISHED in attributes or not (stopped or trial.state == TrialState.COMPLETE):
            return
        self._spent[STRAIGHT in attributes] += self._price(trial)
        before = self._reached.pop(attributes.get(CONTINUES, -1), [])
        if stopped:
            self._reached[trial.number] = [*before, attributes[self._objectives[self._trained]]]
        elif before:
            self._compare(before[-1], trial.values[self._trained])

    def _compare(self, early: float, final: float) -> None:
        """Take in a network's value at the rung before the last and at the end."""
        self._pairs.append((early, final))
        self._badly = ranks_badly(self._pairs)

    def _price(self, trial: FrozenTrial) -> int:
        """Return the steps of a trial. If it is trained straight, all that remain count at the rung that decided it."""
        rung, since = trial.user_attrs[RUNG], trial.user_attrs.get(STRAIGHT)
        if since is not None and since != rung:
            return 0
        begun = self.rungs[rung - 1] if rung else 0
        return self.rungs[rung if since is None else -1] - begun

    def goes_straight(self, unfinished: Collection[FrozenTrial], pending: Collection[bool]) -> bool:
        """Return whether what begins next, a new or a waiting network, is trained to the end whatever its rungs say.

        That is every network until it is known how well rungs rank, every one if they rank badly, and else networks for
        a share of the compute.

        unfinished: trials that run or wait. pending: for each new network that will become a trial, whether it goes
        straight.
        """
        if not self.straight or len(self._pairs) < ENOUGH or self._badly:
            return self.straight > 0
        spent = dict(self._spent)
        for trial in unfinished:
            if RUNG in trial.user_attrs and PUBLISHED not in trial.user_attrs:
                spent[STRAIGHT in trial.user_attrs] += self._price(trial)
        for straight in pending:
            spent[straight] += self.rungs[-1 if straight else 0]
        return spent[True] * (1 - self.straight) <= spent[False] * self.straight

    def marked(self, unfinished: Collection[FrozenTrial]) -> list[FrozenTrial]:
        """Return the networks at a rung that go straight to the end."""
        self._marked = [trial for trial in self._marked if trial.number not in self._went_on]
        gone = {trial.user_attrs.get(CONTINUES) for trial in unfinished}
        return [trial for trial in self._marked if trial.number not in gone]

    def waiting(self, unfinished: Collection[FrozenTrial]) -> list[FrozenTrial]:
        """Return all networks that wait at rungs."""
        gone = self._went_on | {trial.user_attrs.get(CONTINUES) for trial in unfinished}
        return [trial for trials in self._stopped for trial in trials if trial.number not in gone]

    def promotable(self, unfinished: Collection[FrozenTrial], last: bool = False) -> Iterator[FrozenTrial]:
        """Yield the trials that may be promoted, from the highest rung first, the best first.

        unfinished: trials that run or wait. last: nothing new will begin; one trial of the highest rung reached is then
        promoted in any case, so that a small search does not end without a finished network.
        """
        gone = self._went_on | {trial.user_attrs.get(CONTINUES) for trial in unfinished}
        reached = [rung for rung in reversed(range(len(self.rungs) - 1)) if self._stopped[rung]]
        for rung in reached:
            yield from (trial for trial in self._best(rung) if trial.number not in gone)
        if last and not unfinished and reached and not any(t.number in gone for t in self._stopped[reached[0]]):
            order = promotion_order(np.array(self._values[reached[0]]), self._directions, 1)
            yield from (self._stopped[reached[0]][place] for place in order)

    def _best(self, rung: int) -> list[FrozenTrial]:
        trials = self._stopped[rung]
        count, ranked = self._ranked.get(rung, (0, []))
        if count != len(trials):
            values = np.array(self._values[rung])
            order = promotion_order(values, self._directions, len(trials) // self.factor)
            if not order and len(trials) > 1 and is_dominated(values, self._directions).sum() == len(trials) - 1:
                order = promotion_order(values, self._directions, 1)  # the first dominates all the others
            ranked = [trials[place] for place in order]
            self._ranked[rung] = (len(trials), ranked)
        return ranked
