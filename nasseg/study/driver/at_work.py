"""The candidates that a driver is working on."""

import math
from collections import deque
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from nasseg.space import Space
from nasseg.study.engines.jobs import Job, Kind
from nasseg.study.propose.latency_screen import Screen
from nasseg.study.store.candidate import Candidate


@dataclass(eq=False)
class Item:
    """A candidate on its way to a result.

    trial: set once it is claimed. key: its eval_key, set once it was costed. attempts: how often in a row its job
    failed. since: when a worker got its job, by time.monotonic(). doubts: how often it was parked to be timed again.
    not_before: the earliest time for that.
    """

    candidate: Candidate
    trial: FrozenTrial | None = None
    key: str = ""
    attempts: int = 0
    since: float = math.inf
    doubts: int = 0
    not_before: float = -math.inf


class AtWork:
    """Candidates whose job is ready or at a worker, by job number.

    space: of the study. rungs: the steps at which halving stops a training before its last one. screen: orders the
    networks to time. reference_ms: the reference network's time.
    """

    def __init__(self, space: Space, rungs: tuple[int, ...], screen: Screen | None, reference_ms: float | None) -> None:
        self.items: dict[int, Item] = {}
        self._space, self._rungs, self._screen, self._reference_ms = space, rungs, screen, reference_ms
        self._ready: deque[Job] = deque()
        self._last = 0

    def job(self, item: Item, kind: Kind) -> Job:
        """Return the next job of a candidate, and note the candidate as at work."""
        self._last += 1
        item.since = math.inf
        self.items[self._last] = item
        candidate = item.candidate
        until = self.until(candidate) if kind == "train" else None
        return Job(
            self._last,
            kind,
            candidate.settings,
            candidate.measurement,
            item.key,
            candidate.seed,
            until,
            self._reference_ms,
            self._space.recipe_settings(candidate.training),
        )

    def queue(self, item: Item, kind: Kind) -> None:
        """Add the next job of a candidate to the ready ones."""
        self._ready.append(self.job(item, kind))

    def take(self) -> Job | None:
        """Take the job that has been ready longest; None if none is ready.

        If that job times a network and there is a screen, take the timing of the network that is predicted to be
        furthest inside the limits.
        """
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

    def is_timing(self, arch_id: str) -> bool:
        """Return whether the network with this id is being timed, or soon will be, for a claimed candidate."""
        known = (item.candidate.measurement for item in self.items.values() if item.trial is not None)
        return any(one is not None and one.arch_id == arch_id and one.latency is None for one in known)

    def until(self, candidate: Candidate) -> int | None:
        """Return the step at which a candidate's training stops; None for the recipe's last."""
        at_a_rung = candidate.rung < len(self._rungs) and not candidate.label
        return self._rungs[candidate.rung] if at_a_rung else None
