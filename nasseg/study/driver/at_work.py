"""The candidates of a driver that are on their way to a result."""

import math
from collections import deque
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from nasseg.study.engines.jobs import Job, Kind
from nasseg.study.propose.latency_screen import Screen
from nasseg.study.store.candidate import Candidate


@dataclass(eq=False)
class Item:
    """A candidate on its way. trial: set once it is claimed. since: when a worker got its job.

    doubts: how often its latency was in doubt. not_before: when it is timed again, if it is parked for that.
    """

    candidate: Candidate
    trial: FrozenTrial | None = None
    key: str = ""
    attempts: int = 0
    since: float = math.inf
    doubts: int = 0
    not_before: float = -math.inf


class AtWork:
    """Candidates whose job is ready or with a worker, by the number of the job.

    rungs: the steps at which training is stopped, below the last.
    """

    def __init__(self, rungs: tuple[int, ...], screen: Screen | None) -> None:
        self.items: dict[int, Item] = {}
        self._rungs, self._screen = rungs, screen
        self._ready: deque[Job] = deque()
        self._last = 0

    def job(self, item: Item, kind: Kind) -> Job:
        """Return the next job of a candidate, and count it as at work from now on."""
        self._last += 1
        item.since = math.inf
        self.items[self._last] = item
        candidate = item.candidate
        until = self.until(candidate) if kind == "train" else None
        return Job(self._last, kind, candidate.settings, candidate.measurement, item.key, candidate.seed, until)

    def queue(self, item: Item, kind: Kind) -> None:
        """Make the next job of a candidate ready."""
        self._ready.append(self.job(item, kind))

    def take(self) -> Job | None:
        """Return the job that has been ready longest; among networks to time, the one furthest inside the limits."""
        if not self._ready:
            return None
        first = self._ready[0]
        if self._screen and first.kind == "latency":
            first = self._screen.order([job for job in self._ready if job.kind == "latency"])[0]
        self._ready.remove(first)
        return first

    def drop(self, number: int) -> None:
        """Forget a candidate and its job."""
        del self.items[number]
        self._ready = deque(job for job in self._ready if job.candidate != number)

    def until(self, candidate: Candidate) -> int | None:
        """Return the step at which a candidate's training stops; None for the recipe's last."""
        at_a_rung = candidate.rung < len(self._rungs) and not candidate.label
        return self._rungs[candidate.rung] if at_a_rung else None
