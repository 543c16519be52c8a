"""The driver decides what to try, what to measure next and what to keep. Engines only run jobs.

Cheapest first: cost -> limits -> a known network? -> latency -> limits -> training. Once a candidate has passed every
check that takes milliseconds, it becomes a running trial with a lease. One that breaks a limit on cost or latency is
recorded with the reason and not trained.
"""

import time
from collections.abc import Callable, Sequence

from nasseg.study.context import Context
from nasseg.study.driver.at_work import AtWork
from nasseg.study.driver.budget import Budget
from nasseg.study.driver.claiming import Claiming
from nasseg.study.driver.ended_trials import EndedTrials, Learner
from nasseg.study.driver.endings import Endings
from nasseg.study.driver.housekeeping import Housekeeping
from nasseg.study.driver.known_networks import KnownNetworks
from nasseg.study.driver.next_jobs import NextJobs
from nasseg.study.driver.other_study import Reuse
from nasseg.study.driver.outcomes import Outcomes
from nasseg.study.driver.parked import Parked
from nasseg.study.engines.engine import Engine
from nasseg.study.engines.jobs import Result
from nasseg.study.limits import Rules
from nasseg.study.propose.halving import Halving
from nasseg.study.propose.latency_screen import Screen
from nasseg.study.propose.proposer import Proposer
from nasseg.study.store.record import Record
from nasseg.study.study_file import Study

FRESH_SECONDS = 0.5  # a read this old will do: the record is read again before anything is written


class Driver:
    """The driver of a search. It works until the study's budget is used up.

    seed: of the trainings. reuse: results of another study. screen: skips candidates predicted to break a limit on
    latency. reference_ms: the reference network's time in this study. learners: more listeners to ended trials. say:
    called with lines for the user.
    """

    def __init__(
        self,
        study: Study,
        record: Record,
        engine: Engine,
        context: Context,
        proposer: Proposer,
        budget: Budget,
        seed: int,
        *,
        reuse: Reuse | None = None,
        screen: Screen | None = None,
        reference_ms: float | None = None,
        learners: Sequence[Learner] = (),
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.study, self.record, self.engine, self.context = study, record, engine, context
        self.proposer, self.budget = proposer, budget
        rules = Rules(study)
        known = KnownNetworks(record, rules, share_latencies=bool(study.space.training))
        halving = Halving.of(study, context) if study.file.halving else None
        own = [budget.learn, proposer.learn, known.learn, *(part.learn for part in (halving, screen) if part)]
        self.parked = Parked()
        self.ended_trials = EndedTrials(record, [*own, *learners, self.parked.learn], say)
        self.at_work = AtWork(study.space, context.rungs, screen, reference_ms)
        endings = Endings(record, rules, proposer, self.ended_trials, context.accuracy.steps)
        shared = (self.at_work, self.ended_trials, endings)
        claiming = Claiming(study.space, record, rules, context, budget, *shared, self.parked, known, reuse)
        self.outcomes = Outcomes(rules, screen, self.at_work, endings, claiming, say)
        self.next_jobs = NextJobs(study, record, proposer, budget, seed, halving, *shared, self.parked, claiming)
        self.housekeeping = Housekeeping(record, engine, proposer, budget, *shared, self.parked, claiming)

    def run(self, on_change: Callable[[], None] = lambda: None, on_turn: Callable[[], None] = lambda: None) -> str:
        """Work until the search is over; return the reason, as a sentence.

        on_change: called after each result. on_turn: called between jobs, never during a transaction.

        Raises:
            UserError: something other than a network failed; call `stop`.
        """
        self.ended_trials.sync()
        self.next_jobs.start_published()
        while True:
            on_turn()
            self.housekeeping.turn()
            self.fill()
            at_work = self.at_work.items
            if not at_work and not self.parked.items and (ended := self.next_jobs.ended()):
                return ended
            for result in self.engine.wait(0.5) if at_work else self._pause():
                if self.outcomes.handle(result):
                    on_change()

    def fill(self) -> None:
        """Give every idle worker a job."""
        while self.engine.idle > 0:
            self.ended_trials.sync(FRESH_SECONDS)
            job = self.next_jobs.next()
            if job is None:
                return
            self.at_work.items[job.candidate].since = time.monotonic()
            self.engine.submit(job)

    def stop(self, reason: str) -> int:
        """Cancel running jobs and re-queue our running trials; return how many were re-queued."""
        for number in self.at_work.items:
            self.engine.cancel(number)
        items = [*self.at_work.items.values(), *self.parked.items]
        self.at_work.items.clear()
        self.parked.items.clear()
        return sum(self.record.requeue(item.trial, reason) for item in items if item.trial is not None)

    def _pause(self) -> list[Result]:
        time.sleep(0.5)
        return []
