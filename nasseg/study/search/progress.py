"""A search's progress: finished networks, the quality of the front, the time left."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasseg.analyse.compute_spent import Account, Compute
from nasseg.analyse.trials import Doubts, FrontShare, broken_limit, share_of
from nasseg.limits import Limits
from nasseg.study.driver.driver import Driver
from nasseg.study.store.read_study import row_of
from nasseg.study.store.trial_attributes import (
    ARCH_ID,
    CONTINUES,
    DISTURBED,
    PUBLISHED,
    REUSED_FROM,
    is_interrupted,
    is_stopped,
)
from nasseg.words import duration


@dataclass(frozen=True)
class Progress:
    """The state of a search. Hypervolume is a share of the box that the networks within all limits span so far.

    box_moved: the latest network was the worst or best in an objective, so the share may have fallen. done: networks
    trained to the end, or to the rung that stopped them. running: family, rung, step, and the step at which it stops or
    ends. compute: seconds trained and saved, as `nasseg status` counts them.
    """

    done: int
    trials: int
    stopped: int
    rejected: int
    failed: int
    front: int
    hypervolume: float
    box_moved: bool
    running: tuple[tuple[str, int, int, int], ...]
    seconds_left: float | None
    compute: Compute
    doubts: Doubts

    def line(self) -> str:
        """Return the state in a line, the most important first: 80 columns hold the time left and the front."""
        left = "" if self.seconds_left is None else f"about {duration(self.seconds_left)} left; "
        running = ", ".join(
            f"{family}{f' rung {rung}' if rung else ''} {step}/{until}" for family, rung, step, until in self.running
        )
        of = self.compute
        parts = {"limits": of.by_limits, "duplicates": of.by_duplicates, "halving": of.by_halving}
        by = ", ".join(f"{duration(seconds)} by {what}" for what, seconds in parts.items() if seconds)
        further = [
            f"{self.failed} failed" if self.failed else "",
            f"{self.stopped} only to a rung" if self.stopped else "",
            f"{self.doubts.disturbed} timed beside other work" if self.doubts.disturbed else "",
            f"trained for {duration(of.trained)}",
            f"saved about {by}" if by else "",
            running,
        ]
        moved = " (its box moved)" if self.box_moved else ""
        return (
            f"{left}{self.done} of {self.trials} trained, {self.rejected} over a limit; "
            f"front {self.front}, hypervolume {self.hypervolume:.3f}{moved}; " + "; ".join(filter(None, further))
        )


class Tally:
    """Count trials as they end. objectives: the names of their values.

    values: objective values of the networks within all limits. Only these count for the front.
    """

    def __init__(self, objectives: list[str], limits: Limits) -> None:
        self._objectives, self._limits = objectives, limits
        self.values: list[list[float]] = []
        self.finished: dict[int, FrozenTrial] = {}
        self.stopped: set[int] = set()  # numbers of trials waiting at a rung
        self.rejected = self.failed = 0
        self.account = Account()
        self._timed: dict[str, bool] = {}  # arch_id -> whether beside other work

    @property
    def doubts(self) -> Doubts:
        return Doubts(len(self._timed), sum(self._timed.values()))

    @property
    def own(self) -> list[FrozenTrial]:
        """The finished trials without published networks."""
        return [trial for trial in self.finished.values() if PUBLISHED not in trial.user_attrs]

    @property
    def done(self) -> int:
        return len(self.own) + len(self.stopped)

    def learn(self, trial: FrozenTrial) -> None:
        """Take in a trial that ended."""
        if DISTURBED in trial.user_attrs:
            self._timed[trial.user_attrs[ARCH_ID]] = trial.user_attrs[DISTURBED]
        if not is_interrupted(trial):  # an interrupted one waits at its rung again
            self.stopped.discard(trial.user_attrs.get(CONTINUES, -1))
        if trial.state == TrialState.FAIL:
            self.failed += not is_interrupted(trial)
        elif REUSED_FROM not in trial.user_attrs:
            if trial.state == TrialState.COMPLETE:
                self.finished[trial.number] = trial
                if not broken_limit(self._limits, row_of(trial, self._objectives)):
                    self.values.append(trial.values)
            elif is_stopped(trial):
                self.stopped.add(trial.number)
            else:
                self.rejected += 1
        self._note(trial)

    def _note(self, trial: FrozenTrial) -> None:
        if "miou" in trial.user_attrs:  # trained, or copied from a trained one
            self.account.add(row_of(trial, self._objectives))
        elif trial.state == TrialState.PRUNED:
            self.account.reject(trial.user_attrs.get("macs"))


class ProgressWatch:
    """An observer of a driver. tally: counts its trials. steps: candidate -> training step, updated by others."""

    def __init__(self, driver: Driver, tally: Tally, steps: Mapping[int, int]) -> None:
        self.driver, self.tally, self.steps = driver, tally, steps
        self._front = FrontShare(0, 0.0, None)
        self._moved, self._counted = False, 0
        driver.ended_trials.sync()
        self._begun, self._done_before = time.monotonic(), tally.done

    def look(self) -> Progress:
        driver, tally = self.driver, self.tally
        directions = [figure.direction for figure in driver.study.objectives]
        if len(tally.values) != self._counted:
            before, self._front = self._front, share_of(np.array(tally.values), directions)
            self._counted, self._moved = len(tally.values), before.box is not None and before.box != self._front.box
        unfinished = driver.ended_trials.unfinished
        return Progress(
            done=tally.done,
            trials=driver.budget.trials,
            stopped=len(tally.stopped),
            rejected=tally.rejected,
            failed=tally.failed,
            front=self._front.members,
            hypervolume=self._front.share,
            box_moved=self._moved,
            running=tuple(self._running()),
            seconds_left=self._seconds_left(tally.done),
            compute=tally.account.compute(
                {trial.user_attrs[CONTINUES] for trial in unfinished if CONTINUES in trial.user_attrs}
            ),
            doubts=tally.doubts,
        )

    def _running(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield family, rung, step and last step of the running networks."""
        at_work, recipe = self.driver.at_work, self.driver.context.recipe
        for number, item in at_work.items.items():
            if item.trial:
                until = at_work.until(item.candidate) or recipe.steps
                family = str(item.candidate.settings["family"])
                yield family, item.candidate.rung, self.steps.get(number, 0), until

    def _seconds_left(self, done: int) -> float | None:
        budget, new = self.driver.budget, done - self._done_before
        if new < 1 or done >= budget.trials:  # the number of promotions left is unknown
            return None
        left = (time.monotonic() - self._begun) / new * max(0, budget.trials - done)
        return left if budget.hours is None else min(left, max(0.0, budget.hours * 3600 - budget.seconds))
