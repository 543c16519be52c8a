"""Choose points to try, by an Optuna sampler that sees a bounded view of the study.

The view is a study in memory with the front, the latest finished trials and the latest rejected ones. So a proposal
costs the same after 100 trials as after 100,000, and rejections cannot crowd out measured trials. A network stopped at
a rung appears with its highest rung, as a slight breach of a constraint: finished networks come before it, and networks
over a limit after it.
"""

import copy
import itertools
import random
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseGASampler
from optuna.search_space import IntersectionSearchSpace
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from nasseg.analyse.front import pareto_front
from nasseg.figures import Figure
from nasseg.space import Params, Space
from nasseg.study.propose.ehvi_sampler import Key, key_of
from nasseg.study.propose.halving import promotion_order
from nasseg.study.propose.samplers import MAX_FINISHED, check_sampler
from nasseg.study.store.candidate import Proposal
from nasseg.study.store.storage import quiet_optuna
from nasseg.study.store.trial_attributes import CONTINUES, RUNG, is_stopped

MAX_REJECTED = 100
REBUILD_ABOVE = 600
PARTIAL = "not finished"  # a constraint
SLIGHT = 1e-6
REASKS = 2
STEPS = 100  # steps of a walk to a point that was not drawn


class Proposer:
    """Ask a sampler for points of a space that were not drawn before.

    Raises:
        UserError: the sampler is of no use in this space.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Figure],
        sampler: optuna.samplers.BaseSampler,
        seed: int,
        rungs: int = 1,
        first: Iterable[Params] = (),
    ) -> None:
        check_sampler(sampler, space)
        self.space, self.sampler, self.rungs = space, sampler, rungs
        self.directions = [figure.direction for figure in objectives]
        self._objectives = [figure.name for figure in objectives]
        self.drawn: set[Key] = set()
        self.first = deque(first)  # points to propose before those of the sampler
        self._random = random.Random(seed)
        self._finished: list[_Told] = []
        self._stopped: dict[int, tuple[int, FrozenTrial]] = {}  # number -> rung, trial
        self._orders: dict[int, tuple[list[FrozenTrial], list[int]]] = {}  # rung -> trials, and their order
        self._asked: dict[int, int] = {}  # token -> number in the view, of proposals under way
        self._tokens = itertools.count()
        self._view = self._new_view()
        self._outdated, self._complete = False, 0  # number of complete trials in the view
        self._points = space.count()

    def propose(self) -> Proposal | None:
        """Return a new point; None once every point of the space was drawn.

        If the sampler returns a point drawn before, or one that forbid excludes, it is asked again. After a few
        attempts, a walk from the last point looks for a neighbour that was not drawn; failing that, points are drawn
        uniformly.
        """
        while self.first:
            point = self.first.popleft()
            if self._new(point):
                return self._fixed(point)
        if len(self.drawn) >= self._points:
            return None
        found, params = self._ask()
        if found is not None:
            return found
        for _ in range(STEPS if params else 0):
            params = self.space.neighbour(params or {}, self._random)
            if self.space.excluded_by(params) is None and self._new(params):
                return self._fixed(params)
        for _ in range(10 * STEPS):
            params = self.space.sample(self._random)
            if self._new(params):
                return self._fixed(params)
        return None

    def best_waiting(self, waiting: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """Return the waiting network that is worth more, trained to the end, than a new one, if the sampler knows."""
        return None

    def _ask(self) -> tuple[Proposal | None, Params | None]:
        """Ask the sampler for a point that was not drawn; also return its last point."""
        if self._outdated:
            self._rebuild()
        params: Params | None = None
        for _ in range(REASKS):
            with quiet_optuna():
                trial = self._view.ask()
                params = self.space.suggest(trial)
            if self.space.excluded_by(params) is None and self._new(params):
                token = next(self._tokens)
                self._asked[token] = trial.number
                return Proposal(params, trial.params, trial.distributions, token), params
            self._view.tell(trial, state=TrialState.FAIL)
        return None, params

    def drop(self, token: int) -> None:
        """Forget a proposal that is no longer pursued."""
        if token in self._asked:
            self._view.tell(self._asked.pop(token), state=TrialState.FAIL)

    def learn(self, trial: FrozenTrial) -> None:
        """Show the sampler a finished or rejected trial. Its point is not drawn again."""
        self._remember(trial)
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or not trial.params:
            return
        before = self._stopped.pop(trial.user_attrs.get(CONTINUES, -1), None)
        if is_stopped(trial):
            values = [float(trial.user_attrs[name]) for name in self._objectives]
            copied = self._copy(trial, TrialState.COMPLETE, values, {})
            self._stopped[trial.number] = (trial.user_attrs[RUNG], copied)
            self._outdated = True
            return
        told = _Told(trial)
        self._finished.append(told)
        self._outdated |= before is not None or len(self._finished) > REBUILD_ABOVE
        if not self._outdated:
            self._show(self._copy_of(told))

    def _partial(self) -> list[FrozenTrial]:
        """Return the latest trials stopped at a rung, each with its place among those of the rung."""
        latest = [*self._stopped.values()][-MAX_FINISHED // 2 :]
        found = []
        for rung in {rung for rung, _ in latest}:
            trials = [trial for reached, trial in latest if reached == rung]
            before, order = self._orders.get(rung, ([], []))
            if before != trials:
                order = promotion_order(np.array([trial.values for trial in trials]), self.directions, len(trials))
                self._orders[rung] = (trials, order)
            for place, index in enumerate(order):
                again = copy.copy(trials[index])
                vars(again).pop("constraints", None)
                again.system_attrs = dict(again.system_attrs)  # the trial writes its constraints into it
                again.set_constraint(PARTIAL, SLIGHT * (self.rungs - rung + place / len(order)))
                found.append(again)
        return found

    def _rebuild(self) -> None:
        complete = [told for told in self._finished if told.trial.state == TrialState.COMPLETE]
        rejected = [told for told in self._finished if told.trial.state != TrialState.COMPLETE]
        on_front = pareto_front(
            np.array([told.trial.values for told in complete]).reshape(-1, len(self.directions)), self.directions
        )
        front = [told for told, on in zip(complete, on_front, strict=True) if on][:MAX_FINISHED]
        rest = [told for told, on in zip(complete, on_front, strict=True) if not on]
        kept = rest[max(0, len(rest) - (MAX_FINISHED - len(front))) :] if len(front) < MAX_FINISHED else []
        self._finished = front + kept + rejected[-MAX_REJECTED:]
        before = self._view.get_trials(deepcopy=False)
        pending = {token: before[number] for token, number in self._asked.items()}
        shown = [*(self._copy_of(told) for told in self._finished), *self._partial()]
        self._view = self._new_view()
        self._complete = 0
        for trial in [*shown, *pending.values()]:
            self._show(trial)
        self._asked = {token: len(shown) + place for place, token in enumerate(pending)}
        self._outdated = False
        for name, value in vars(self.sampler).items():  # GP remembers its place in the old view
            if isinstance(value, IntersectionSearchSpace):
                setattr(self.sampler, name, IntersectionSearchSpace())

    def _new_view(self) -> optuna.Study:
        self._storage = InMemoryStorage()
        with quiet_optuna():
            study = optuna.create_study(storage=self._storage, directions=self.directions, sampler=self.sampler)
        self._view_id = self._storage.get_study_id_from_name(study.study_name)
        return study

    def _show(self, trial: FrozenTrial) -> None:
        """Add a trial to the view.

        A genetic sampler finds generations by its notes on trials. It never saw the trials of other processes and
        earlier searches, and each view is a new study to it. So generations are counted afresh, in the order of the
        view.
        """
        if isinstance(self.sampler, BaseGASampler) and self.sampler.population_size:
            key = self.sampler._get_generation_key()
            noted = {name: value for name, value in trial.system_attrs.items() if name != key}
            if trial.state == TrialState.COMPLETE:
                noted[key] = self._complete // self.sampler.population_size
                self._complete += 1
            trial.system_attrs = noted
        trial.__class__ = _Shown
        # As add_trial does, without its second check.
        self._storage.create_new_trial(self._view_id, template_trial=trial)

    def _remember(self, trial: FrozenTrial) -> Params | None:
        """Return a trial's point, and do not draw it again; None if it has no point in this space."""
        if trial.params:
            with suppress(ValueError):  # a point of another space: the study file was changed
                point = self.space.suggest(optuna.trial.FixedTrial(trial.params))
                self._new(point)
                return point
        return None

    def _new(self, params: Params) -> bool:
        key = key_of(params)
        if key in self.drawn:
            return False
        self.drawn.add(key)
        return True

    def _fixed(self, params: Params) -> Proposal:
        fixed = optuna.trial.FixedTrial(dict(params))
        self.space.suggest(fixed)
        return Proposal(params, fixed.params, fixed.distributions)

    def _copy_of(self, told: "_Told") -> FrozenTrial:
        if told.copied is None:
            trial, partial = told.trial, {PARTIAL: 0.0} if self.rungs > 1 else {}
            told.copied = self._copy(trial, trial.state, trial.values, partial)
        return told.copied

    def _copy(
        self,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
        constraints: dict[str, float],
    ) -> FrozenTrial:
        return create_trial(
            state=state,
            values=values,
            params=trial.params,
            distributions=trial.distributions,
            constraints={**trial.constraints, **constraints},
        )


@dataclass
class _Told:
    """A trial that the proposer knows. copied: for its view, made when it is first shown."""

    trial: FrozenTrial
    copied: FrozenTrial | None = None


class _Shown(FrozenTrial):
    """A trial of a view. It is cheap to copy and knows its constraints, which TPE asks for at every parameter.

    Each new view copies all trials, which used to take most of the time of a search with halving.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTrial:
        made = object.__new__(_Shown)
        made.__dict__.update(self.__dict__)  # parameters and distributions are never changed in place
        return made

    @cached_property
    def constraints(self) -> dict[str, float]:
        return super().constraints
