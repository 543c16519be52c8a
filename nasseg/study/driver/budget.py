"""The budget of a study: trials, hours, and minutes per trial, over all processes that work on it."""

import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable

from optuna.trial import FrozenTrial

from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import counts

SECONDS = "searched_seconds"  # attribute of the study


class Stopwatch:
    """Measure the time in which at least one of several processes was working, in a value that they share.

    A process that finds its own last value adds the monotonic time since then. One that finds another value adds
    nothing, because another process has already added that time. So parallel processes count once, pauses do not count,
    and a change of the system clock has no effect.
    """

    def __init__(self, read: Callable[[], float], write: Callable[[float], None]) -> None:
        self._read, self._write = read, write
        self._last, self._at = read(), time.monotonic()

    def tick(self) -> float:
        """Return the seconds so far; call it every few seconds."""
        seconds, now = self._read(), time.monotonic()
        if seconds == self._last:
            seconds += now - self._at
            self._write(seconds)
        self._last, self._at = seconds, now
        return seconds


class Budget:
    """The budget of a search. When the hours are over, running jobs are finished and no new ones begin."""

    def __init__(
        self, record: Record, trials: int, hours: float | None = None, max_trial_minutes: float | None = None
    ) -> None:
        self.record, self.trials, self.hours, self.max_trial_minutes = record, trials, hours, max_trial_minutes
        self._stopwatch = Stopwatch(
            lambda: float(record.attributes().get(SECONDS, 0.0)),
            lambda seconds: record.set_attributes({SECONDS: seconds}),
        )
        self.seconds = self.tick()
        self._ended: list[int] = []  # numbers of trials that count

    def tick(self) -> float:
        self.seconds = self._stopwatch.tick()
        return self.seconds

    @property
    def hours_over(self) -> bool:
        return self.hours is not None and self.seconds >= self.hours * 3600

    def learn(self, trial: FrozenTrial) -> None:
        """Take in a trial that ended."""
        if counts(trial):
            insort(self._ended, trial.number)

    def counted(self, unfinished: Iterable[FrozenTrial], before: int | None = None) -> int:
        """Count the trials of all processes that use the budget. before: count only trials with a lower number."""
        ended = len(self._ended) if before is None else bisect_left(self._ended, before)
        return ended + sum(counts(trial) and (before is None or trial.number < before) for trial in unfinished)

    def too_long(self, seconds: float) -> str | None:
        """Return why a job that has run this long must end; None if it may go on."""
        if self.max_trial_minutes is None or seconds <= 60 * self.max_trial_minutes:
            return None
        return f"longer than max_trial_minutes of {self.max_trial_minutes:g}"
