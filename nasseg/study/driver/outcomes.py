"""Handle the results of workers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nasseg.errors import Fault, UserError
from nasseg.study.driver.at_work import AtWork, Item
from nasseg.study.driver.claiming import Claiming
from nasseg.study.driver.endings import Endings
from nasseg.study.engines.jobs import MAX_ATTEMPTS, Result
from nasseg.study.limits import Rules
from nasseg.study.propose.latency_screen import Screen, passed_over

FIGURE_FAULTS = 3  # this many in a row stop a search
DEVICE_FAULTS = 3  # this many in a row, too
# Attempts at a job that may not be at fault.
MAX_TRIES = {Fault.WORKER_DIED: MAX_ATTEMPTS, Fault.DEVICE: 2, Fault.CROWDED: 3}


@dataclass
class Outcomes:
    """Handle results: cost -> limits -> the same network again? -> latency -> limits -> training -> the record.

    say: called with sentences for the user.
    """

    rules: Rules
    screen: Screen | None
    at_work: AtWork
    endings: Endings
    claiming: Claiming
    say: Callable[[str], None]
    without_figure: Counter[str] = field(default_factory=Counter)  # jobs in a row, by kind
    without_device: int = 0  # jobs in a row

    def handle(self, result: Result) -> bool:
        """Handle a result; return False if its candidate is no longer at work.

        Raises:
            UserError: something other than a network failed (data, disk, target), three jobs in a row failed because of
                the device or a user's own figure, or one job failed three times for lack of memory that others hold. A
                measurement is stored first. Without one the candidate stays at work, so that `Driver.stop` re-queues
                it.
        """
        for note in result.notes:
            self.say(note)
        if result.fault is Fault.SURROUNDINGS and result.measurement is None:
            raise UserError(result.reason)
        self.without_device = self.without_device + 1 if result.fault is Fault.DEVICE else 0
        if self.without_device == DEVICE_FAULTS:
            raise UserError(f"{result.reason} ({DEVICE_FAULTS} jobs in a row)")
        item = self.at_work.items.get(result.candidate)
        if item is None:
            return False
        if result.fault is Fault.CROWDED and item.attempts + 1 == MAX_TRIES[Fault.CROWDED]:
            raise UserError(result.reason)
        del self.at_work.items[result.candidate]
        if result.measurement is None:
            self._failed(result, item)
        else:
            item.attempts = 0
            item.candidate = replace(item.candidate, measurement=result.measurement)
            if result.fault is Fault.FIGURE:
                self._without_figure(result, item)
                return True
            self.without_figure[result.kind] = 0
            {"cost": self._costed, "latency": self._timed, "train": self._trained}[result.kind](result, item)
        if result.fault is Fault.SURROUNDINGS:
            raise UserError(result.reason)
        return True

    def _failed(self, result: Result, item: Item) -> None:
        item.attempts += 1
        assert result.fault is not None
        if item.attempts < MAX_TRIES.get(result.fault, 1):
            self.at_work.queue(item, result.kind)
        else:
            self.endings.fail(item, result.reason, result.fault)

    def _without_figure(self, result: Result, item: Item) -> None:
        """End a candidate on which a user's own figure failed. Its measurements are kept.

        Raises:
            UserError: it is the third in a row.
        """
        self.endings.fail(item, result.reason, Fault.FIGURE, result.extra)
        self.without_figure[result.kind] += 1
        if self.without_figure[result.kind] == FIGURE_FAULTS:
            raise UserError(f"{result.reason} ({FIGURE_FAULTS} networks in a row)")

    def _costed(self, _result: Result, item: Item) -> None:
        broken = passed_over(item.candidate, self.rules, self.screen)
        if broken:
            self.endings.reject(item, broken)
        else:
            self.claiming.admit(item)

    def _timed(self, _result: Result, item: Item) -> None:
        if self.endings.in_doubt(item):
            self.claiming.time_again(item)
        elif self.endings.timed(item):
            self.claiming.train(item)

    def _trained(self, result: Result, item: Item) -> None:
        assert result.measurement is not None
        self.endings.trained(item, result.measurement, result.extra)
