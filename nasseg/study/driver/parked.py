"""Candidates that wait: for another running trial that trains their network, or for a quiet machine."""

from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from nasseg.study.driver.at_work import Item
from nasseg.study.store.trial_attributes import EVAL_KEY


@dataclass
class Parked:
    """Candidates that wait. due: a trial of one of their networks has ended since they were looked at.

    left: networks (by eval_key) that could not be timed, however often: another call of the search is to try again.
    """

    items: list[Item] = field(default_factory=list)
    due: bool = False
    left: set[str] = field(default_factory=set)

    def learn(self, trial: FrozenTrial) -> None:
        """Hear of a trial that ended."""
        self.due |= any(item.key == trial.user_attrs.get(EVAL_KEY) for item in self.items)
