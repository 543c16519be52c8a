"""Proposals of an EHVISampler, which also chooses among networks that wait at rungs."""

from collections import deque
from collections.abc import Iterable, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from nasseg.figures import Figure
from nasseg.space import Params, Space
from nasseg.study.propose.ehvi_sampler import MAX_FINISHED, MAX_PARTIAL, EHVISampler, Seen, front_and_latest, key_of
from nasseg.study.propose.proposer import MAX_REJECTED, Proposer
from nasseg.study.store.candidate import Proposal
from nasseg.study.store.trial_attributes import CONTINUES, REUSED_FROM, is_stopped


class EHVIProposer(Proposer):
    """Show the sampler each network once, at its highest rung, without a study in between."""

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Figure],
        sampler: EHVISampler,
        seed: int,
        rungs: int = 1,
        first: Iterable[Params] = (),
    ) -> None:
        super().__init__(space, objectives, sampler, seed, rungs, first)
        self._ehvi = sampler
        self._done: list[Seen] = []
        self._waiting: dict[int, Seen] = {}  # by number of the trial that was stopped
        self._over: deque[Seen] = deque(maxlen=MAX_REJECTED)
        self._running: dict[int, Params] = {}  # by token
        self._going_on: dict[int, Seen] = {}  # by number of the trial that is continued
        self._next: Params | None = None

    def best_waiting(self, waiting: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """Return the waiting network that is worth more, trained to the end, than the best new one, if any."""
        trials = [trial for trial in waiting if trial.number in self._waiting][-MAX_PARTIAL:]
        if self.first or not trials:
            return None
        self._next, place = self._choose([self._waiting[trial.number] for trial in trials])
        if place is None:
            return None
        self._going_on[trials[place].number] = self._waiting[trials[place].number]
        return trials[place]

    def drop(self, token: int) -> None:
        """Forget a proposal that is no longer pursued."""
        self._running.pop(token, None)

    def learn(self, trial: FrozenTrial) -> None:
        """Show the sampler a finished or rejected trial. Its point is not drawn again."""
        point = self._remember(trial)
        attributes = trial.user_attrs
        if point is None or trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or REUSED_FROM in attributes:
            return
        self._going_on.pop(attributes.get(CONTINUES, -1), None)
        before = self._waiting.pop(attributes.get(CONTINUES, -1), None)
        reached = before.at_rungs if before else ()
        if is_stopped(trial):
            values = [float(attributes[name]) for name in self._objectives]
            self._waiting[trial.number] = Seen(point, (*reached, values), None, trial.constraints)
        elif trial.state == TrialState.COMPLETE:
            self._done.append(Seen(point, reached, trial.values, trial.constraints))
            if len(self._done) > 2 * MAX_FINISHED:
                self._done = front_and_latest(self._done, self.directions)
        else:
            self._over.append(Seen(point, (), None, trial.constraints))

    def _ask(self) -> tuple[Proposal | None, Params | None]:
        point, self._next = self._next, None
        if point is None or key_of(point) in self.drawn:
            point = self._choose(())[0]
        if point is None or not self._new(point):
            return None, None
        token = next(self._tokens)
        self._running[token] = point
        fixed = optuna.trial.FixedTrial(dict(point))
        self.space.suggest(fixed)
        return Proposal(point, fixed.params, fixed.distributions, token), point

    def _choose(self, waiting: Sequence[Seen]) -> tuple[Params | None, int | None]:
        seen = [*self._done, *self._waiting.values(), *self._over]
        running = [*self._running.values(), *(one.point for one in self._going_on.values())]
        return self._ehvi.choose(seen, self.directions, running, self.drawn, waiting)


def make_proposer(
    space: Space, objectives: Sequence[Figure], sampler: optuna.samplers.BaseSampler, seed: int, rungs: int = 1
) -> Proposer:
    """Return the proposer for a sampler.

    Raises:
        UserError: the sampler is of no use in this space.
    """
    if isinstance(sampler, EHVISampler):
        return EHVIProposer(space, objectives, sampler, seed, rungs)
    return Proposer(space, objectives, sampler, seed, rungs)
