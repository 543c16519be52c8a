"""A search as it goes: what is done, how good the front is, how long it will still take."""

import time
from dataclasses import dataclass, field

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nasseg.analyse.front import hypervolume, pareto_front, reference_box
from nasseg.study.budget import duration
from nasseg.study.driver import Driver
from nasseg.study.trials import is_interrupted


@dataclass(frozen=True)
class Progress:
    """A moment of a search. Hypervolume is a share of the box that the search's own trials span."""

    done: int
    trials: int
    rejected: int
    failed: int
    front: int
    hypervolume: float
    running: tuple[tuple[str, int], ...]  # family, step
    steps: int
    seconds_left: float | None

    def line(self) -> str:
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        running = ", ".join(f"{family} {step}/{self.steps}" for family, step in self.running)
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.done} of {self.trials} trained, {self.rejected} over a limit{failed}; front {self.front}, "
            f"hypervolume {self.hypervolume:.3f}{left}" + (f" ({running})" if running else "")
        )


@dataclass
class ProgressWatch:
    """Looks at a driver; `steps` is to be kept up to date by what hears of training steps."""

    driver: Driver
    steps: dict[int, int] = field(default_factory=dict)  # candidate -> training step
    _begun: float = field(default_factory=time.monotonic)
    _done_before: int | None = None
    _front: tuple[int, int, float] = (0, 0, 0.0)  # of how many trials: members, hypervolume

    def look(self) -> Progress:
        driver = self.driver
        complete = [t for t in driver.record.trials(TrialState.COMPLETE) if "reused_from" not in t.user_attrs]
        own = [trial for trial in complete if "published" not in trial.user_attrs]
        if len(complete) != self._front[0]:
            self._front = (len(complete), *self._front_of(complete, own))
        if self._done_before is None:
            self._done_before = len(complete)
        new = len(complete) - self._done_before
        failed = driver.record.trials(TrialState.FAIL)
        return Progress(
            done=len(own),
            trials=driver.budget.trials,
            rejected=len(driver.record.trials(TrialState.PRUNED)),
            failed=sum(not is_interrupted(trial) for trial in failed),
            front=self._front[1],
            hypervolume=self._front[2],
            running=tuple(
                (str(item.candidate.settings["family"]), self.steps.get(number, 0))
                for number, item in driver.active.items()
                if item.trial
            ),
            steps=driver.context.recipe.steps,
            seconds_left=self._seconds_left(new, len(own)) if new else None,
        )

    def _seconds_left(self, new: int, done: int) -> float:
        budget = self.driver.budget
        left = (time.monotonic() - self._begun) / new * max(0, budget.trials - done)
        return left if budget.hours is None else min(left, max(0.0, budget.hours * 3600 - budget.seconds))

    def _front_of(self, complete: list[FrozenTrial], own: list[FrozenTrial]) -> tuple[int, float]:
        directions = [figure.direction for figure in self.driver.study.objectives]
        values = np.array([trial.values for trial in complete])
        # Published networks may be far over the limits: they do not stretch the box.
        box = reference_box(np.array([trial.values for trial in own or complete]), directions)
        volume = hypervolume(values, box.reference, directions) / box.volume
        return int(pareto_front(values, directions).sum()), volume
