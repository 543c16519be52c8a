"""Give a candidate within the limits on cost its next job, unless its network is known or being trained.

A candidate is parked while another running trial trains its network. It is also parked, until it is timed again, if its
latency is over a limit but was timed beside other work.

In a space with parameters of the recipe, trials of one network share its latency: each process times it once.
"""

import time
from dataclasses import dataclass, replace

from optuna.trial import FrozenTrial

from nasseg.errors import Fault
from nasseg.records import eval_key
from nasseg.space import Space
from nasseg.study.context import Context
from nasseg.study.driver.at_work import AtWork, Item
from nasseg.study.driver.budget import Budget
from nasseg.study.driver.ended_trials import EndedTrials
from nasseg.study.driver.endings import Endings, known_of
from nasseg.study.driver.known_networks import KnownNetworks
from nasseg.study.driver.other_study import Reuse
from nasseg.study.driver.parked import Parked
from nasseg.study.limits import Rules
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import ACCURACY_FROM

AGAIN_SECONDS = (30.0, 60.0, 120.0)  # the wait before a doubtful latency is timed again, the first, second, third time


@dataclass
class Claiming:
    """Claims candidates, and parks those whose network is at work elsewhere."""

    space: Space
    record: Record
    rules: Rules
    context: Context
    budget: Budget
    at_work: AtWork
    ended_trials: EndedTrials
    endings: Endings
    parked: Parked
    known: KnownNetworks
    reuse: Reuse | None

    def admit(self, item: Item) -> None:
        """Handle a candidate that keeps the limits on cost: answer, park or claim it."""
        candidate = item.candidate
        protocol = self.context.protocol_of(self.space.recipe_settings(candidate.training), candidate.seed)
        item.key = eval_key(known_of(item).arch_id, protocol)
        if not self._settle(item):
            self._claim(item)

    def promote(self, item: Item, constraints: dict[str, float]) -> bool:
        """Claim a promotion; return False if another process claimed it first."""
        item.trial = self.record.claim(item.candidate, item.key, constraints, self.rules.figures(known_of(item)))
        self.ended_trials.sync()
        if not self.ended_trials.running(item.key, before=item.trial.number):
            return True
        self.endings.fail(item, "interrupted: another process promoted it", Fault.INTERRUPTED)
        return False

    def resume(self, item: Item) -> None:
        """Resume an interrupted trial that is now ours."""
        assert item.trial is not None
        if item.candidate.continues is not None or not self._answered(item, item.trial):
            self._go_on(item)

    def train(self, item: Item) -> None:
        """Queue a candidate's training, unless another study has its accuracy."""
        if self.known.share(known_of(item)):
            self.parked.due = True
        found = self.reuse.accuracy_of(item.key, known_of(item)) if self.reuse else None
        if found is None:
            self.at_work.queue(item, "train")
        else:
            self.endings.trained(item, found[0], {ACCURACY_FROM: found[1]})

    def time_again(self, item: Item) -> None:
        """Park a candidate with a doubtful latency; after several times, leave it to another call of the search."""
        if not self.endings.doubted(item):
            return
        if item.doubts < len(AGAIN_SECONDS):
            item.not_before = time.monotonic() + AGAIN_SECONDS[item.doubts]
            item.doubts += 1
            self.parked.items.append(item)
        else:
            self.parked.left.add(item.key)
            self.endings.leave(item, "its latency could not be measured: the machine was busy")

    def unpark(self) -> None:
        """Continue with candidates whose network is no longer at work, or that are due to be timed again."""
        self.ended_trials.sync()
        self.parked.due = False
        for item in list(self.parked.items):
            trial = item.trial
            if time.monotonic() < item.not_before or self._at_work(item.key, trial.number if trial else None):
                continue
            self.parked.items.remove(item)
            if trial is None:
                if not self._settle(item):
                    self._claim(item)
            elif not self._answered(item, trial):
                self._go_on(item)

    def _at_work(self, key: str, before: int | None = None) -> bool:
        """Return whether a trial with an earlier claim trains the network, or waits to."""
        if self.ended_trials.running(key, before):
            return True
        # An idle process takes waiting trials, unless they were left to another call or the hours are over.
        waits = not self.budget.hours_over and key not in self.parked.left
        return waits and bool(self.ended_trials.waiting(key, before))

    def _settle(self, item: Item) -> bool:
        """Answer a candidate from the record if its network is in it; park it if its network is being trained."""
        self.ended_trials.sync()
        trial = self.known.answer(item.candidate, item.key)
        if trial is not None:
            self.endings.tell(trial, item)
        elif self._at_work(item.key):
            self.parked.items.append(item)
        else:
            return False
        return True

    def _claim(self, item: Item) -> None:
        """Turn a candidate into a running trial and continue, unless another process filled the budget first."""
        measurement = known_of(item)
        constraints, figures = self.rules.constraints(measurement), self.rules.figures(measurement)
        item.trial = self.record.claim(item.candidate, item.key, constraints, figures)
        self.ended_trials.sync()
        others = self.budget.counted(self.ended_trials.unfinished, before=item.trial.number)
        if not item.candidate.label and others >= self.budget.trials:
            self.endings.fail(item, "interrupted: another process began the last trial", Fault.INTERRUPTED)
        else:
            self._go_on(item)

    def _go_on(self, item: Item) -> None:
        """Queue the next job of a claimed trial; park it if a trial claimed earlier has the same network."""
        assert item.trial is not None
        if self._at_work(item.key, item.trial.number):
            self.parked.items.append(item)
        elif known_of(item).latency and not self.endings.in_doubt(item):
            self.train(item)
        elif not self._share_latency(item):
            self.at_work.queue(item, "latency")

    def _share_latency(self, item: Item) -> bool:
        """Use another trial's latency of this network, or wait for it; return False if no other trial has one."""
        known = known_of(item)
        shared = self.known.timed(known)
        if shared is None:
            waits = bool(item.candidate.training) and self.at_work.is_timing(known.arch_id)
            if waits:
                self.parked.items.append(item)
            return waits
        timed = replace(item.candidate, measurement=shared)
        if self.endings.in_doubt(replace(item, candidate=timed)):
            return False
        item.candidate = timed
        if self.endings.timed(item):
            self.train(item)
        return True

    def _answered(self, item: Item, trial: FrozenTrial) -> bool:
        """End our running trial with the figures of an earlier trial of its network, if there is one."""
        if not self.known.copy(trial, item.candidate.label, item.key):
            return False
        self.endings.tell(self.record.reread(trial), item)
        return True
