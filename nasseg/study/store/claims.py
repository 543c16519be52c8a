"""Trainings of a table or a front, shared between processes so that each is done once.

A trial is claimed, trained under a lease and ended. If a process dies, another one takes over its trials.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from optuna.trial import FrozenTrial, TrialState

from nasseg.errors import Fault
from nasseg.study.store.candidate import Candidate
from nasseg.study.store.lease import LEASE_SECONDS, RENEW_SECONDS, LeaseWatch
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import LEASE, has_fault
from nasseg.train.loop import Guard
from nasseg.train.run import Tell

LOOK_SECONDS = 1.0


class Lost(Exception):  # noqa: N818
    """Another process judged this one dead and took over the trial."""


class Claims:
    """The trials of a record that this process works on."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._watch = LeaseWatch()

    def waiting(self) -> Iterator[FrozenTrial]:
        """Yield re-queued trials, which are now ours, including those of processes known to be gone."""
        self.record.take_back(self._watch, self.record.trials(TrialState.RUNNING))
        while (waiting := self.record.take_waiting()) is not None:
            yield waiting

    def left_behind(self, tell: Tell) -> Iterator[FrozenTrial]:
        """Yield `waiting` until the processes of all other running trials are known to be alive.

        For a process on another machine, or from before this machine's last boot, that takes LEASE_SECONDS.
        """
        told = False
        while True:
            yield from self.waiting()
            running = self.record.trials(TrialState.RUNNING)
            if not any(self._watch.is_undecided(trial.number, trial.user_attrs.get(LEASE)) for trial in running):
                return
            if not told:
                tell(f"waiting up to {LEASE_SECONDS:.0f} s to see whether another process is gone")
                told = True
            time.sleep(LOOK_SECONDS)

    def claim(
        self, candidate: Candidate, key: str, figures: dict[str, float], is_same: Callable[[FrozenTrial], bool]
    ) -> FrozenTrial | None:
        """Return a new trial that is ours; None if the same one is done, under way, or known to diverge."""
        for trial in filter(is_same, self.record.trials()):
            diverged = has_fault(trial, Fault.DIVERGED)
            if diverged or trial.state in (TrialState.COMPLETE, TrialState.RUNNING):
                return None
        claimed = self.record.claim(candidate, key, {}, figures)
        rivals = filter(is_same, self.record.trials(TrialState.RUNNING))
        if any(rival.number < claimed.number for rival in rivals):
            self.record.fail(claimed, "interrupted: another process began it first", Fault.INTERRUPTED)
            return None
        return self.record.reread(claimed)

    def guard(self, trial: FrozenTrial, guard: Guard) -> Guard:
        """Return a guard of training steps that also renews the lease.

        It raises Lost if another process took the trial.
        """
        renewed = time.monotonic()

        @contextmanager
        def both() -> Iterator[None]:
            nonlocal renewed
            if time.monotonic() - renewed > RENEW_SECONDS:
                renewed = time.monotonic()
                if not self.record.renew(trial):
                    raise Lost
            with guard():
                yield

        return both
