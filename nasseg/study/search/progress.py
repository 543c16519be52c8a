"""A search as it goes: what is done, how good the front is, how long it will still take."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasseg.analyse.compute_spent import Account, Compute
from nasseg.analyse.front import hypervolume, pareto_front, reference_box
from nasseg.study.search.driver import Driver
from nasseg.study.store.read_study import row_of
from nasseg.study.store.trial_attributes import CONTINUES, PUBLISHED, REUSED_FROM, is_interrupted, is_stopped
from nasseg.words import duration


@dataclass(frozen=True)
class Progress:
    """A moment of a search. Hypervolume is a share of the box that the search's own trials span.

    done: networks trained, to the end or to a rung at which they were stopped. running: family, rung, step, and the
    step at which it is stopped or done. compute: seconds trained and saved, as `nasseg status` counts them.
    """

    done: int
    trials: int
    stopped: int
    rejected: int
    failed: int
    front: int
    hypervolume: float
    running: tuple[tuple[str, int, int, int], ...]
    seconds_left: float | None
    compute: Compute

    def line(self) -> str:
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        running = ", ".join(
            f"{family}{f' rung {rung}' if rung else ''} {step}/{until}" for family, rung, step, until in self.running
        )
        of = self.compute
        parts = {"limits": of.by_limits, "duplicates": of.by_duplicates, "halving": of.by_halving}
        by = ", ".join(f"{duration(seconds)} by {what}" for what, seconds in parts.items() if seconds)
        saved = f"; saved about {by}" if by else ""
        stopped = f" ({self.stopped} of them to a rung)" if self.stopped else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.done} of {self.trials} trained{stopped}, {self.rejected} over a limit{failed}; front {self.front}, "
            f"hypervolume {self.hypervolume:.3f}; trained for {duration(of.trained)}{saved}{left}"
            + (f" ({running})" if running else "")
        )


class ProgressWatch:
    """Looks at a driver. steps: candidate -> training step, kept up to date by what hears of them."""

    def __init__(self, driver: Driver, steps: Mapping[int, int]) -> None:
        self.driver, self.steps = driver, steps
        self._finished: dict[int, FrozenTrial] = {}
        self._stopped: set[int] = set()
        self._rejected = self._failed = 0
        self._account = Account()
        self._front: tuple[int, int, float] = (0, 0, 0.0)  # of how many trials: members, hypervolume
        self._begun, self._done_before = time.monotonic(), 0
        driver.heard.add(self._learn)
        driver.heard.sync()
        self._done_before = len(self._own) + len(self._stopped)

    @property
    def _own(self) -> list[FrozenTrial]:
        return [trial for trial in self._finished.values() if PUBLISHED not in trial.user_attrs]

    def _learn(self, trial: FrozenTrial) -> None:
        if not is_interrupted(trial):  # else it waits at its rung again
            self._stopped.discard(trial.user_attrs.get(CONTINUES, -1))
        if trial.state == TrialState.FAIL:
            self._failed += not is_interrupted(trial)
        elif REUSED_FROM not in trial.user_attrs:
            if trial.state == TrialState.COMPLETE:
                self._finished[trial.number] = trial
            elif is_stopped(trial):
                self._stopped.add(trial.number)
            else:
                self._rejected += 1
        self._note(trial)

    def _note(self, trial: FrozenTrial) -> None:
        attributes = trial.user_attrs
        if "miou" in attributes:  # trained, or copied from what was
            self._account.add(row_of(trial, [figure.name for figure in self.driver.study.objectives]))
        elif trial.state == TrialState.PRUNED:
            self._account.reject(attributes.get("macs"))

    def look(self) -> Progress:
        driver, own = self.driver, self._own
        if len(self._finished) != self._front[0]:
            self._front = (len(self._finished), *self._front_of([*self._finished.values()], own))
        done = len(own) + len(self._stopped)
        return Progress(
            done=done,
            trials=driver.budget.trials,
            stopped=len(self._stopped),
            rejected=self._rejected,
            failed=self._failed,
            front=self._front[1],
            hypervolume=self._front[2],
            running=tuple(
                (
                    str(item.candidate.settings["family"]),
                    item.candidate.rung,
                    self.steps.get(number, 0),
                    driver.until(item.candidate) or driver.context.recipe.steps,
                )
                for number, item in driver.active.items()
                if item.trial
            ),
            seconds_left=self._seconds_left(done),
            compute=self._account.compute(
                {trial.user_attrs[CONTINUES] for trial in driver.heard.unfinished if CONTINUES in trial.user_attrs}
            ),
        )

    def _seconds_left(self, done: int) -> float | None:
        budget, new = self.driver.budget, done - self._done_before
        if new < 1 or done >= budget.trials:  # how many promotions remain nobody knows
            return None
        left = (time.monotonic() - self._begun) / new * max(0, budget.trials - done)
        return left if budget.hours is None else min(left, max(0.0, budget.hours * 3600 - budget.seconds))

    def _front_of(self, complete: list[FrozenTrial], own: list[FrozenTrial]) -> tuple[int, float]:
        directions = [figure.direction for figure in self.driver.study.objectives]
        values = np.array([trial.values for trial in complete])
        # Published networks may be far over the limits: they do not stretch the box.
        box = reference_box(np.array([trial.values for trial in own or complete]), directions)
        volume = hypervolume(values, box.reference, directions) / box.volume
        return int(pareto_front(values, directions).sum()), volume
