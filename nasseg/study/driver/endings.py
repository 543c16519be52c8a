"""Record how candidates end, and tell the listeners."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial

from nasseg.errors import Fault
from nasseg.records import Measurement
from nasseg.study.driver.at_work import Item
from nasseg.study.driver.ended_trials import EndedTrials
from nasseg.study.limits import Rules
from nasseg.study.propose.latency_screen import Hopeless
from nasseg.study.propose.proposer import Proposer
from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import STOPPED, kept


@dataclass
class Endings:
    """The ends of a search's candidates.

    steps: of a full training. rejections: how many candidates in a row broke a limit on cost or latency.
    """

    record: Record
    rules: Rules
    proposer: Proposer
    ended_trials: EndedTrials
    steps: int
    rejections: int = 0

    def tell(self, trial: FrozenTrial, item: Item) -> None:
        """Tell the sampler and the listeners that a candidate's trial has ended."""
        self.proposer.drop(item.candidate.proposal.token)
        self.ended_trials.tell(trial)

    def fail(self, item: Item, reason: str, fault: Fault, extra: Mapping[str, Any] | None = None) -> None:
        """End a candidate as failed, keeping its measurements. extra: more attributes."""
        if item.trial is None:
            item.trial = self.record.add_failed(item.candidate, reason, fault)
        else:
            if item.candidate.measurement is not None:
                self.record.update(item.trial, {**self._attributes(item.candidate.measurement), **(extra or {})})
            self.record.fail(item.trial, reason, fault)
        self._tell_again(item)

    def reject(self, item: Item, broken: Hopeless) -> None:
        """Record a costed candidate as rejected: nothing more of it is measured."""
        self.rejections += 1
        figures = self.rules.figures(known_of(item))
        self.tell(self.record.add_rejected(item.candidate, broken.reason, broken.constraints, figures), item)

    def in_doubt(self, item: Item) -> bool:
        """Return whether a latency over a limit was timed beside other work, so that it cannot reject for good."""
        return not item.candidate.label and self.rules.in_doubt(known_of(item))

    def doubted(self, item: Item) -> bool:
        """Store a doubtful latency; return False if the trial now belongs to another process."""
        assert item.trial is not None
        return self.record.update(item.trial, self._attributes(known_of(item)))

    def leave(self, item: Item, reason: str) -> None:
        """Leave a candidate to another call of the search."""
        assert item.trial is not None
        self.record.requeue(item.trial, reason)
        self._tell_again(item)

    def timed(self, item: Item) -> bool:
        """Store a latency; return False if it breaks a limit, or if the trial now belongs to another process."""
        measurement, trial = known_of(item), item.trial
        assert trial is not None
        broken = None if item.candidate.label else self.rules.over_limit(measurement, "latency")
        if broken:
            self.rejections += 1
            self.record.constrain(trial, self.rules.constraints(measurement))
            if self.record.prune(trial, broken, self._attributes(measurement)):
                self._tell_again(item)
            return False
        if not self.record.update(trial, self._attributes(measurement)):
            return False
        self.rejections = 0
        return True

    def trained(self, item: Item, measurement: Measurement, extra: dict[str, Any]) -> None:
        """End a trained candidate: complete, stopped at its rung, or over a limit on a trained figure.

        It fails if an objective is not a number.
        """
        item.candidate, trial = replace(item.candidate, measurement=measurement), item.trial
        assert measurement.accuracy is not None
        assert trial is not None
        attributes, steps = {**self._attributes(measurement), **extra}, measurement.accuracy.protocol.steps
        values, missing = self.rules.objectives(measurement)
        broken = None if item.candidate.label else self.rules.over_limit(measurement, "trained")
        if missing:
            self.record.fail(trial, f"objective {missing} is not a number", Fault.NETWORK)
        elif steps < self.steps:
            self.record.prune(trial, f"stopped at step {steps} of {self.steps}", {**attributes, STOPPED: True})
        elif broken:
            self.record.constrain(trial, self.rules.constraints(measurement))
            self.record.prune(trial, broken, attributes)
        else:
            self.record.complete(trial, values, attributes)
        self._tell_again(item)

    def _attributes(self, measurement: Measurement) -> dict[str, Any]:
        return {**self.rules.figures(measurement), **kept(measurement)}

    def _tell_again(self, item: Item) -> None:
        assert item.trial is not None
        self.tell(self.record.reread(item.trial), item)


def known_of(item: Item) -> Measurement:
    """Return the measurement of a candidate that was costed."""
    assert item.candidate.measurement is not None
    return item.candidate.measurement
