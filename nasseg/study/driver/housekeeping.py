"""Renew leases, end jobs that take too long, and re-queue trials that other processes left behind."""

import math
import time
from dataclasses import dataclass, field

from nasseg.errors import Fault
from nasseg.study.driver.at_work import AtWork
from nasseg.study.driver.budget import Budget
from nasseg.study.driver.claiming import Claiming
from nasseg.study.driver.ended_trials import EndedTrials
from nasseg.study.driver.endings import Endings
from nasseg.study.driver.parked import Parked
from nasseg.study.engines.engine import Engine
from nasseg.study.propose.proposer import Proposer
from nasseg.study.store.lease import RENEW_SECONDS, LeaseWatch
from nasseg.study.store.record import Record

HOUSEKEEPING_SECONDS = 2.0


@dataclass
class Housekeeping:
    """The chores between jobs."""

    record: Record
    engine: Engine
    proposer: Proposer
    budget: Budget
    at_work: AtWork
    ended_trials: EndedTrials
    endings: Endings
    parked: Parked
    claiming: Claiming
    _watch: LeaseWatch = field(default_factory=LeaseWatch, init=False)
    _renewed: float = field(default=-math.inf, init=False)
    _kept: float = field(default=-math.inf, init=False)

    def turn(self) -> None:
        """Do the chores that are due."""
        now = time.monotonic()
        if now - self._renewed > RENEW_SECONDS:
            self._renewed = now
            self._renew()
        self._end_too_long(now)
        if self.parked.due or now - self._kept > HOUSEKEEPING_SECONDS:
            self._kept = now
            self.claiming.unpark()
            self._take_back()
            self.ended_trials.sync()

    def _renew(self) -> None:
        """Renew our leases; drop trials that another process re-queued, because they are no longer ours."""
        self.budget.tick()
        for number, item in list(self.at_work.items.items()):
            if item.trial is not None and not self.record.renew(item.trial):
                self.engine.cancel(number)
                self.at_work.drop(number)
                self.proposer.drop(item.candidate.proposal.token)
        for item in list(self.parked.items):
            if item.trial is not None and not self.record.renew(item.trial):
                self.parked.items.remove(item)
                self.proposer.drop(item.candidate.proposal.token)

    def _end_too_long(self, now: float) -> None:
        for number, item in list(self.at_work.items.items()):
            item.since = now if self.engine.waiting(number) else item.since
            too_long = self.budget.too_long(now - item.since)
            if too_long:
                self.engine.cancel(number)
                self.at_work.drop(number)
                self.endings.fail(item, too_long, Fault.TOO_LONG)

    def _take_back(self) -> None:
        items = [*self.at_work.items.values(), *self.parked.items]
        ours = {item.trial.number for item in items if item.trial}
        self.record.take_back(self._watch, (t for t in self.ended_trials.running() if t.number not in ours))
