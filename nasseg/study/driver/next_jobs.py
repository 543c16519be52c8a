"""Choose the next job: a ready one first, then an interrupted trial, a promotion from a rung, or a new network."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nasseg.errors import Fault
from nasseg.families import arch_of, make_arch
from nasseg.study.driver.at_work import AtWork, Item
from nasseg.study.driver.budget import Budget
from nasseg.study.driver.claiming import Claiming
from nasseg.study.driver.ended_trials import EndedTrials
from nasseg.study.driver.endings import Endings
from nasseg.study.driver.parked import Parked
from nasseg.study.engines.jobs import Job
from nasseg.study.propose.halving import Halving
from nasseg.study.propose.proposer import Proposer
from nasseg.study.store.candidate import Candidate, Proposal
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import EVAL_KEY, MEASUREMENT, PUBLISHED, RUNG
from nasseg.study.study_file import Study

MAX_REJECTIONS = 2_000  # in a row


@dataclass
class NextJobs:
    """The chooser of the next job. seed: of the trainings."""

    study: Study
    record: Record
    proposer: Proposer
    budget: Budget
    seed: int
    halving: Halving | None
    at_work: AtWork
    ended_trials: EndedTrials
    endings: Endings
    parked: Parked
    claiming: Claiming
    _space_empty: bool = field(default=False, init=False)

    def start_published(self) -> None:
        """Queue the published networks of the study file that have no trial yet. A failed trial does not count."""
        finished = [trial for trial in self.record.trials() if trial.state != TrialState.FAIL]
        there = {trial.user_attrs.get(PUBLISHED) for trial in finished}
        for name in self.study.file.published:
            if name not in there and not self.budget.hours_over:
                arch = make_arch(name)
                settings = {"family": name if ":" in name else arch.family, **arch.params()}
                self.at_work.queue(self._item(Proposal({}, {}, {}), settings, name), "cost")

    def next(self) -> Job | None:
        """Return the next job; None if there is none now."""
        ready = self.at_work.take() or self._resume_waiting()
        return ready or self._go_straight() or self._promote() or self._propose()

    def ended(self) -> str | None:
        """Return why the search is over, as a sentence; None if it is not. Call it only when nothing is at work."""
        self.ended_trials.sync()
        left = sum(self._is_left(trial) for trial in self.ended_trials.unfinished)
        reason = self._ended(left)
        if reason is None or not left:
            return reason
        return (
            f"{reason}; {left} more could not be timed because the machine was busy: run the same command "
            "again when it is quiet"
        )

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Return whether a trial waits to be timed again by another call of the search."""
        return trial.state == TrialState.WAITING and trial.user_attrs.get(EVAL_KEY) in self.parked.left

    def _ended(self, left: int) -> str | None:
        trials, counted = self.budget.trials, self.budget.counted(self.ended_trials.unfinished)
        if counted >= trials and len(self.ended_trials.unfinished) == left:
            return f"{counted - left} of {trials} trials are done" if left else f"all {trials} trials are done"
        if self.budget.hours_over:  # waiting trials are left to another call
            return f"the {self.budget.hours:g} hours are over: {counted - left} of {trials} trials are done"
        if counted >= trials:
            return None
        if self._space_empty:
            return "every architecture in the space was tried"
        if self.endings.rejections >= MAX_REJECTIONS:
            return f"the last {self.endings.rejections} candidates were all over a limit (the report says which one)"
        return None

    @property
    def _all_begun(self) -> bool:
        """True if nothing new will begin."""
        at_work = self.at_work.items.values()
        pending = sum(item.trial is None and not item.candidate.label for item in at_work)
        full = self.budget.counted(self.ended_trials.unfinished) + pending >= self.budget.trials
        rejected = self.endings.rejections >= MAX_REJECTIONS
        return full or self._space_empty or rejected or self.budget.hours_over

    def _resume_waiting(self) -> Job | None:
        waiting = [trial for trial in self.ended_trials.unfinished if not self._is_left(trial)]
        trial = None if self.budget.hours_over else self.record.take_waiting(waiting)
        if trial is None:
            return None
        if MEASUREMENT not in trial.user_attrs:
            reason = "enqueued by hand; start it with `nasseg search` instead"
            self.record.fail(trial, reason, Fault.NETWORK)
            return None
        self.claiming.resume(Item(Candidate.of(trial), trial, trial.user_attrs[EVAL_KEY]))
        return self.at_work.take()

    def _promote(self) -> Job | None:
        """Return the next training segment of the best network that may be promoted; None if there is none."""
        if self.halving is None or self.budget.hours_over:
            return None
        last = not self.at_work.items and self._all_begun
        return self._first_claimed(self.halving.promotable(self.ended_trials.unfinished, last=last))

    def _go_straight(self) -> Job | None:
        """Return the next segment of a network trained to the end whatever its rungs say; None if there is none now."""
        if self.halving is None or self.budget.hours_over:
            return None
        unfinished = self.ended_trials.unfinished
        under_way = self._first_claimed(self.halving.marked(unfinished))
        if under_way or self._all_begun:
            return under_way
        items = (item for item in self.at_work.items.values() if item.trial is None and not item.candidate.label)
        if not self.halving.goes_straight(unfinished, [item.candidate.straight is not None for item in items]):
            return None
        trial = self.proposer.best_waiting(self.halving.waiting(unfinished))
        return self._first_claimed([trial], straight=True) if trial else self._propose(straight=True)

    def _first_claimed(self, trials: Iterable[FrozenTrial], straight: bool = False) -> Job | None:
        """Return the next segment of the first of these networks that no other process has taken."""
        for trial in trials:
            known, rung = Candidate.of(trial), trial.user_attrs[RUNG] + 1
            since = rung if straight and known.straight is None else known.straight
            candidate = replace(known, rung=rung, continues=trial.number, straight=since)
            item = Item(candidate, key=trial.user_attrs[EVAL_KEY])
            if self.claiming.promote(item, dict(trial.constraints)):
                return self.at_work.job(item, "train")
        return None

    def _propose(self, straight: bool = False) -> Job | None:
        if self._all_begun:
            return None
        proposal = self.proposer.propose()
        if proposal is None:
            self._space_empty = True
            return None
        item = self._item(proposal, self.study.space.settings(proposal.params))
        if straight:
            item.candidate = replace(item.candidate, straight=0)
        return self.at_work.job(item, "cost")

    def _item(self, proposal: Proposal, settings: dict[str, Any], label: str = "") -> Item:
        fields = {"family": settings["family"], **arch_of(settings).params()}
        training = self.study.space.training_of(proposal.params)
        return Item(Candidate(proposal, fields, None, self.seed, label, training=training))
