"""A search as it goes: what is done, how good the front is, how long it will still take."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasseg.analyse.compute_spent import Account, Compute
from nasseg.analyse.front import hypervolume, pareto_front, reference_box
from nasseg.study.driver.driver import Driver
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


class Tally:
    """Counts trials as they end. objectives: the names of their values."""

    def __init__(self, objectives: list[str]) -> None:
        self._objectives = objectives
        self.finished: dict[int, FrozenTrial] = {}
        self.stopped: set[int] = set()  # numbers of trials that wait at a rung
        self.rejected = self.failed = 0
        self.account = Account()

    @property
    def own(self) -> list[FrozenTrial]:
        """The finished trials without published networks."""
        return [trial for trial in self.finished.values() if PUBLISHED not in trial.user_attrs]

    @property
    def done(self) -> int:
        return len(self.own) + len(self.stopped)

    def learn(self, trial: FrozenTrial) -> None:
        """Hear of a trial that ended."""
        if not is_interrupted(trial):  # else it waits at its rung again
            self.stopped.discard(trial.user_attrs.get(CONTINUES, -1))
        if trial.state == TrialState.FAIL:
            self.failed += not is_interrupted(trial)
        elif REUSED_FROM not in trial.user_attrs:
            if trial.state == TrialState.COMPLETE:
                self.finished[trial.number] = trial
            elif is_stopped(trial):
                self.stopped.add(trial.number)
            else:
                self.rejected += 1
        self._note(trial)

    def _note(self, trial: FrozenTrial) -> None:
        if "miou" in trial.user_attrs:  # trained, or copied from what was
            self.account.add(row_of(trial, self._objectives))
        elif trial.state == TrialState.PRUNED:
            self.account.reject(trial.user_attrs.get("macs"))


class ProgressWatch:
    """Looks at a driver. tally: hears of its trials. steps: candidate -> training step, kept up to date by others."""

    def __init__(self, driver: Driver, tally: Tally, steps: Mapping[int, int]) -> None:
        self.driver, self.tally, self.steps = driver, tally, steps
        self._front: tuple[int, int, float] = (0, 0, 0.0)  # of how many trials: members, hypervolume
        driver.ended_trials.sync()
        self._begun, self._done_before = time.monotonic(), tally.done

    def look(self) -> Progress:
        driver, tally = self.driver, self.tally
        if len(tally.finished) != self._front[0]:
            self._front = (len(tally.finished), *self._front_of([*tally.finished.values()], tally.own))
        unfinished = driver.ended_trials.unfinished
        return Progress(
            done=tally.done,
            trials=driver.budget.trials,
            stopped=len(tally.stopped),
            rejected=tally.rejected,
            failed=tally.failed,
            front=self._front[1],
            hypervolume=self._front[2],
            running=tuple(self._running()),
            seconds_left=self._seconds_left(tally.done),
            compute=tally.account.compute(
                {trial.user_attrs[CONTINUES] for trial in unfinished if CONTINUES in trial.user_attrs}
            ),
        )

    def _running(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield family, rung, step and last step of the networks that run."""
        at_work, recipe = self.driver.at_work, self.driver.context.recipe
        for number, item in at_work.items.items():
            if item.trial:
                until = at_work.until(item.candidate) or recipe.steps
                family = str(item.candidate.settings["family"])
                yield family, item.candidate.rung, self.steps.get(number, 0), until

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
