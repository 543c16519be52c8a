"""The driver decides: what to try, what to measure next, what to keep. Engines only run jobs.

Cheapest first: cost -> limits -> the same network again? -> latency -> limits -> training. A candidate becomes a
running trial, with a lease, when it has passed all that costs milliseconds; what fails a limit is recorded with its
reason and never trained.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nasseg.errors import Fault, UserError
from nasseg.families import arch_of, make_arch
from nasseg.records import Measurement, eval_key
from nasseg.study.context import Context
from nasseg.study.engines.jobs import MAX_ATTEMPTS, Engine, Job, Kind, Result
from nasseg.study.limits import Rules
from nasseg.study.propose.halving import Halving
from nasseg.study.propose.latency_screen import Screen, passed_over, take
from nasseg.study.propose.proposer import Proposer
from nasseg.study.search.budget import Budget
from nasseg.study.search.ended_trials import Heard
from nasseg.study.search.known_networks import Twins
from nasseg.study.search.other_study import Reuse
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.lease import RENEW_SECONDS, LeaseWatch
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import EVAL_KEY, MEASUREMENT, PUBLISHED, RUNG, STOPPED
from nasseg.study.study_file import Study

MAX_REJECTIONS = 2_000  # in a row
HOUSEKEEPING_SECONDS = 2.0
FRESH_SECONDS = 0.5  # what others did may be that old where it is looked at again before it counts


@dataclass
class _Active:
    """A candidate on its way."""

    candidate: Candidate
    trial: FrozenTrial | None = None
    key: str = ""
    attempts: int = 0
    since: float = math.inf  # when its job was given to a worker


@dataclass
class Driver:
    """Takes a study to its number of trained trials. `run` returns why it stopped."""

    study: Study
    record: Record
    engine: Engine
    context: Context
    proposer: Proposer
    budget: Budget
    seed: int
    reuse: Reuse | None = None
    on_change: Callable[[], None] = lambda: None
    on_turn: Callable[[], None] = lambda: None  # between jobs, never in the midst of a transaction
    screen: Screen | None = None

    active: dict[int, _Active] = field(default_factory=dict)
    parked: dict[int, _Active] = field(default_factory=dict)  # wait for a running trial of the same network
    ready: deque[Job] = field(default_factory=deque)
    rejections: int = 0  # in a row
    _numbers: int = 0
    _watch: LeaseWatch = field(default_factory=LeaseWatch)
    _renewed: float = 0.0
    _kept: float = -math.inf
    _space_empty: bool = False

    def run(self) -> str:
        """Work until the study has its trials; a sentence that says why it ended."""
        self.heard.sync()
        self._start_published()
        while True:
            self.on_turn()
            self._housekeeping()
            self._fill()
            if not self.active and not self.parked and not self.ready and (ended := self._ended()):
                return ended
            for result in self.engine.wait(0.5) if self.active else self._pause():
                self._handle(result)

    def stop(self, reason: str) -> int:
        """Cancel what runs and re-queue it; returns how many trials that were."""
        count = 0
        for number, item in [*self.active.items(), *self.parked.items()]:
            self.engine.cancel(number)
            if item.trial is not None:
                count += self.record.requeue(item.trial, reason)
        self.active.clear()
        self.parked.clear()
        return count

    @cached_property
    def rules(self) -> Rules:
        return Rules(self.study)

    @cached_property
    def twins(self) -> Twins:
        return Twins(self.record, self.rules)

    @cached_property
    def halving(self) -> Halving | None:
        return Halving.of(self.study, self.context) if self.study.file.halving else None

    @cached_property
    def heard(self) -> Heard:
        halving = [self.halving.learn] if self.halving else []
        return Heard(self.record, [self.budget.learn, self.proposer.learn, self.twins.learn, *halving])

    # What to do next

    def _ended(self) -> str | None:
        self.heard.sync()
        trials, counted = self.budget.trials, self.budget.counted(self.heard.unfinished)
        if counted >= trials and not self.heard.unfinished:
            return f"all {trials} trials are done"
        if self.budget.hours_over:  # what waits is for another call
            return f"the {self.budget.hours:g} hours are over: {counted} of {trials} trials are done"
        if counted >= trials:
            return None
        if self._space_empty:
            return "every architecture of the space was tried"
        if self.rejections >= MAX_REJECTIONS:
            return f"the last {self.rejections} candidates were all over a limit (the report says which)"
        return None

    @property
    def _all_begun(self) -> bool:
        """Whether nothing new will begin."""
        pending = sum(item.trial is None and not item.candidate.label for item in self.active.values())
        full = self.budget.counted(self.heard.unfinished) + pending >= self.budget.trials
        return full or self._space_empty or self.rejections >= MAX_REJECTIONS or self.budget.hours_over

    def _fill(self) -> None:
        while self.engine.idle > 0:
            self.heard.sync(FRESH_SECONDS)
            job = take(self.ready, self.screen) or self._resume_waiting() or self._promote() or self._propose()
            if job is None:
                return
            self.active[job.candidate].since = time.monotonic()
            self.engine.submit(job)

    def _promote(self) -> Job | None:
        """The next rung of the network that deserves it most."""
        if self.halving is None or self.budget.hours_over:
            return None
        for trial in self.halving.promotable(self.heard.unfinished, last=not self.active and self._all_begun):
            candidate = replace(Candidate.of(trial), rung=trial.user_attrs[RUNG] + 1, continues=trial.number)
            measurement, key = candidate.measurement, trial.user_attrs[EVAL_KEY]
            assert measurement is not None
            claimed = self.record.claim(candidate, key, dict(trial.constraints), self.rules.figures(measurement))
            item = _Active(candidate, claimed, key)
            self.heard.sync()
            if not self._rivals(key, before=claimed.number):
                return self._activate(item, "train")
            self._fail(item, "interrupted: another process promoted it", Fault.INTERRUPTED)
        return None

    def _propose(self) -> Job | None:
        if self._all_begun:
            return None
        proposal = self.proposer.propose()
        if proposal is None:
            self._space_empty = True
            return None
        settings = self.study.space.settings(proposal.params)
        return self._start(proposal, settings)

    def _start(self, proposal: Proposal, settings: dict[str, Any], label: str = "") -> Job:
        fields = {"family": settings["family"], **arch_of(settings).params()}
        return self._activate(_Active(Candidate(proposal, fields, None, self.seed, label)), "cost")

    def _start_published(self) -> None:
        """Networks that the study wants measured beside its own, where that has not been done."""
        there = {trial.user_attrs.get(PUBLISHED) for trial in self.record.trials() if trial.state != TrialState.FAIL}
        for name in self.study.file.published:
            if name not in there and not self.budget.hours_over:
                arch = make_arch(name)
                settings = {"family": name if ":" in name else arch.family, **arch.params()}
                self.ready.append(self._start(Proposal({}, {}, {}), settings, name))

    def _resume_waiting(self) -> Job | None:
        trial = None if self.budget.hours_over else self.record.take_waiting(self.heard.unfinished)
        if trial is None:
            return None
        if MEASUREMENT not in trial.user_attrs:
            self.record.fail(trial, "enqueued by hand; start it with `nasseg search` instead")
            return None
        item = _Active(Candidate.of(trial), trial, trial.user_attrs[EVAL_KEY])
        if item.candidate.continues is None and self.twins.copy(trial, item.candidate.label, item.key):
            self._learn(self.record.reread(trial), item)
        else:
            self._go_on(item)
        return take(self.ready, self.screen)

    def _activate(self, item: _Active, kind: Kind) -> Job:
        self._numbers += 1
        item.since = math.inf
        self.active[self._numbers] = item
        candidate = item.candidate
        until = self.until(candidate) if kind == "train" else None
        return Job(self._numbers, kind, candidate.settings, candidate.measurement, item.key, candidate.seed, until)

    def until(self, candidate: Candidate) -> int | None:
        """The step at which a candidate's training is stopped, if not at the recipe's last."""
        rungs = self.context.rungs
        return rungs[candidate.rung] if candidate.rung < len(rungs) and not candidate.label else None

    # What came back

    def _handle(self, result: Result) -> None:
        if result.fault is Fault.SURROUNDINGS and result.measurement is None:
            raise UserError(result.reason)  # its trial is still active, and so re-queued
        item = self.active.pop(result.candidate, None)
        if item is None:
            return
        if result.measurement is None:
            self._failed(result, item)
        else:
            item.attempts = 0
            item.candidate = replace(item.candidate, measurement=result.measurement)
            {"cost": self._costed, "latency": self._timed, "train": self._trained}[result.kind](result, item)
        self.on_change()
        if result.fault is Fault.SURROUNDINGS:
            raise UserError(result.reason)

    def _failed(self, result: Result, item: _Active) -> None:
        item.attempts += 1
        assert result.fault is not None
        if result.fault is Fault.WORKER_DIED and item.attempts < MAX_ATTEMPTS:
            self.ready.append(self._activate(item, result.kind))
        else:
            self._fail(item, result.reason, result.fault)

    def _fail(self, item: _Active, reason: str, fault: Fault) -> None:
        if item.trial is None:
            item.trial = self.record.add_failed(item.candidate, reason, fault)
        else:
            self.record.fail(item.trial, reason, fault)
        self._learn(self.record.reread(item.trial), item)

    def _costed(self, _result: Result, item: _Active) -> None:
        measurement = item.candidate.measurement
        assert measurement is not None
        broken = passed_over(item.candidate, self.rules, self.screen)
        if broken:
            self.rejections += 1
            figures = self.rules.figures(measurement)
            trial = self.record.add_rejected(item.candidate, broken.reason, broken.constraints, figures)
            self._learn(trial, item)
            return
        item.key = eval_key(measurement.arch_id, replace(self.context.accuracy, seed=item.candidate.seed))
        if not self._settle_duplicate(item):
            self._claim(item, measurement)

    def _claim(self, item: _Active, measurement: Measurement) -> None:
        """Make the candidate a running trial and go on with it, unless another process filled the budget first."""
        constraints, figures = self.rules.constraints(measurement), self.rules.figures(measurement)
        item.trial = self.record.claim(item.candidate, item.key, constraints, figures)
        self.heard.sync()
        others = self.budget.counted(self.heard.unfinished, before=item.trial.number)
        if not item.candidate.label and others >= self.budget.trials:
            self._fail(item, "interrupted: another process began the last trial", Fault.INTERRUPTED)
        else:
            self._go_on(item)

    def _go_on(self, item: _Active) -> None:
        """From a claimed trial to its next job, unless another process claimed the same network first."""
        assert item.trial is not None
        if self._rivals(item.key, before=item.trial.number):
            self._numbers += 1
            self.parked[self._numbers] = item
        else:
            known = item.candidate.measurement and item.candidate.measurement.latency
            self._train(item) if known else self.ready.append(self._activate(item, "latency"))

    def _train(self, item: _Active) -> None:
        """Train the candidate, unless another study did."""
        measurement = item.candidate.measurement
        assert measurement is not None
        found = self.reuse.accuracy_of(item.key, measurement) if self.reuse else None
        if found is None:
            self.ready.append(self._activate(item, "train"))
            return
        item.candidate = replace(item.candidate, measurement=found[0])
        self._trained(Result(-1, "train", found[0], extra={"accuracy_from": found[1]}), item)

    def _timed(self, _result: Result, item: _Active) -> None:
        measurement, trial = item.candidate.measurement, item.trial
        assert measurement is not None
        assert trial is not None
        broken = None if item.candidate.label else self.rules.over_limit(measurement, "latency")
        attributes = {**self.rules.figures(measurement), MEASUREMENT: measurement.to_json()}
        if broken:
            self.rejections += 1
            self.record.constrain(trial, self.rules.constraints(measurement))
            if self.record.prune(trial, broken, attributes):
                self._learn(self.record.reread(trial), item)
        elif self.record.update(trial, attributes):
            self.rejections = 0
            self._train(item)

    def _trained(self, result: Result, item: _Active) -> None:
        measurement, trial = item.candidate.measurement, item.trial
        assert measurement is not None
        assert measurement.accuracy is not None
        assert trial is not None
        steps, all_steps = measurement.accuracy.protocol.steps, self.context.accuracy.steps
        figures = {**self.rules.figures(measurement), MEASUREMENT: measurement.to_json(), **result.extra}
        values, missing = self.rules.objectives(measurement)
        broken = None if item.candidate.label else self.rules.over_limit(measurement, "trained")
        if missing:
            self.record.fail(trial, f"objective {missing} is not a number")
        elif steps < all_steps:
            self.record.prune(trial, f"stopped at step {steps} of {all_steps}", {**figures, STOPPED: True})
        elif broken:
            self.record.constrain(trial, self.rules.constraints(measurement))
            self.record.prune(trial, broken, figures)
        else:
            self.record.complete(trial, values, figures)
        self._learn(self.record.reread(trial), item)

    # The same network again

    def _settle_duplicate(self, item: _Active) -> bool:
        """Answer a candidate from the record if its network is there; wait for it if it is being trained."""
        self.heard.sync()
        trial = self.twins.answer(item.candidate, item.key)
        if trial is not None:
            self._learn(trial, item)
            return True
        if self._rivals(item.key):
            self._numbers += 1
            self.parked[self._numbers] = item
            return True
        return False

    def _rivals(self, key: str, before: int | None = None) -> list[FrozenTrial]:
        """Running trials of this network; `before`: only those with a lower number, whose claim is the earlier."""
        return [trial for trial in self.heard.running(key) if before is None or trial.number < before]

    def _unpark(self) -> None:
        self.heard.sync()
        for number, item in list(self.parked.items()):
            if self._rivals(item.key, before=item.trial.number if item.trial else None):
                continue
            del self.parked[number]
            if item.trial is not None:
                if self.twins.copy(item.trial, item.candidate.label, item.key):
                    self._learn(self.record.reread(item.trial), item)
                else:
                    self._go_on(item)
            elif not self._settle_duplicate(item):
                assert item.candidate.measurement is not None
                self._claim(item, item.candidate.measurement)

    # Other processes

    def _learn(self, trial: FrozenTrial, item: _Active) -> None:
        self.proposer.drop(item.candidate.proposal.token)
        self.heard.tell(trial)

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now - self._renewed > RENEW_SECONDS:
            self._renewed = now
            self.budget.tick()
            for number, item in [*self.active.items(), *self.parked.items()]:
                if item.trial is not None and not self.record.renew(item.trial):
                    self.engine.cancel(number)  # another process judged us gone and re-queued it
                    (self.active if number in self.active else self.parked).pop(number)
                    self.ready = deque(job for job in self.ready if job.candidate != number)
                    self.proposer.drop(item.candidate.proposal.token)
        for number, item in list(self.active.items()):
            item.since = now if self.engine.waiting(number) else item.since
            too_long = self.budget.too_long(now - item.since)
            if too_long:
                self.engine.cancel(number)
                del self.active[number]
                self._fail(item, too_long, Fault.TOO_LONG)
        if now - self._kept > HOUSEKEEPING_SECONDS:
            self._kept = now
            self._unpark()
            ours = {item.trial.number for item in [*self.active.values(), *self.parked.values()] if item.trial}
            self.record.take_back(self._watch, (t for t in self.heard.running() if t.number not in ours))
            self.heard.sync()

    def _pause(self) -> list[Result]:
        time.sleep(0.5)
        return []
