"""Parked candidates wait until another running trial has trained their network, or to be timed again."""

from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from nasseg.study.driver.at_work import Item
from nasseg.study.store.trial_attributes import EVAL_KEY


@dataclass
class Parked:
    """The parked candidates.

    due: a trial of one of their networks has ended since the last check. left: networks (by eval_key) that could not be
    timed in several attempts. Another call of the search tries again.
    """

    items: list[Item] = field(default_factory=list)
    due: bool = False
    left: set[str] = field(default_factory=set)

    def learn(self, trial: FrozenTrial) -> None:
        """Take in a trial that ended."""
        self.due |= any(item.key == trial.user_attrs.get(EVAL_KEY) for item in self.items)
