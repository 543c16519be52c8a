"""Pass each ended trial once to every listener; keep the unfinished ones."""

import math
import time
from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial, TrialState

from nasseg.study.store.record import Record
from nasseg.study.store.trial_attributes import EVAL_KEY

Learner = Callable[[FrozenTrial], None]
MANY = 2_000  # this many take seconds


class EndedTrials:
    """Call `learners` once with each ended trial: ours at `tell`, those of other processes at the next `sync`.

    Trials before the first unfinished one are never looked at again, so a search of 100,000 trials stays fast. say:
    called with a line before many trials are passed on. unfinished: trials that ran or waited at the last sync and were
    not passed on since.
    """

    def __init__(
        self, record: Record, learners: Sequence[Learner], say: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._record, self._learners, self._say = record, tuple(learners), say
        self._numbers: set[int] = set()
        self._all_below = 0  # every trial with a lower number was passed on
        self._synced = -math.inf
        self.unfinished: list[FrozenTrial] = []

    def sync(self, within: float = 0.0) -> None:
        """Read the storage and pass on new trials.

        within: seconds; do nothing if the last read is younger and no trial waited then.
        """
        if time.monotonic() - self._synced < within and all(t.state == TrialState.RUNNING for t in self.unfinished):
            return
        latest = self._record.trials()[self._all_below :]
        self.unfinished = [trial for trial in latest if not trial.state.is_finished()]
        if len(latest) > MANY:
            self._say(f"going through {len(latest):,} trials of the record")
        for trial in latest:
            if trial.state.is_finished() and trial.number not in self._numbers:
                self.tell(trial)
        while self._all_below in self._numbers:
            self._numbers.remove(self._all_below)
            self._all_below += 1
        self._synced = time.monotonic()

    def running(self, key: str = "", before: int | None = None) -> list[FrozenTrial]:
        """Return the trials that ran at the last sync.

        key: only those of this network. before: only those with a lower number, and so an earlier claim.
        """
        return self._unfinished(TrialState.RUNNING, key, before)

    def waiting(self, key: str, before: int | None = None) -> list[FrozenTrial]:
        """Return the trials of a network that waited at the last sync. before: see `running`."""
        return self._unfinished(TrialState.WAITING, key, before)

    def _unfinished(self, state: TrialState, key: str, before: int | None) -> list[FrozenTrial]:
        return [
            trial
            for trial in self.unfinished
            if trial.state == state
            and (not key or trial.user_attrs.get(EVAL_KEY) == key)
            and (before is None or trial.number < before)
        ]

    def tell(self, trial: FrozenTrial) -> None:
        """Pass a trial on if it has ended and was not passed on before."""
        if trial.state.is_finished() and trial.number >= self._all_below and trial.number not in self._numbers:
            self._numbers.add(trial.number)
            self.unfinished = [other for other in self.unfinished if other.number != trial.number]
            for learn in self._learners:
                learn(trial)
