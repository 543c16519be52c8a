"""Every trial that ended, whoever ran it, is told once to all who learn from it."""

from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial

from nasseg.study.record import Record

Learner = Callable[[FrozenTrial], None]


class Heard:
    """`learners` are called with each trial that ended: our own when it is told, the others' at the next `sync`."""

    def __init__(self, record: Record, learners: Sequence[Learner]) -> None:
        self._record, self._learners = record, [*learners]
        self._numbers: set[int] = set()
        self._all_below = 0  # every trial with a lower number was told

    def add(self, learner: Learner) -> None:
        """One more, before the first is told."""
        assert not self._numbers
        assert not self._all_below
        self._learners.append(learner)

    def sync(self) -> None:
        for trial in self._record.trials()[self._all_below :]:
            if trial.state.is_finished() and trial.number not in self._numbers:
                self.tell(trial)
        while self._all_below in self._numbers:
            self._numbers.remove(self._all_below)
            self._all_below += 1

    def tell(self, trial: FrozenTrial) -> None:
        if trial.state.is_finished() and trial.number >= self._all_below and trial.number not in self._numbers:
            self._numbers.add(trial.number)
            for learn in self._learners:
                learn(trial)
