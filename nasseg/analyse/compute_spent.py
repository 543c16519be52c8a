"""The compute that a search spent and saved, and its progress, in total and since a date.

Seconds are those of one worker, measured with each trial. Savings are estimates: those networks were not trained.
"""

import math
from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from nasseg.analyse.front import Floats, pareto_front
from nasseg.analyse.trials import contending_values, directions, outcome, share_of
from nasseg.errors import UserError
from nasseg.records import StudyRecord, TrialRow

STOPPED, CONTINUES = "stopped_at_rung", "continues"  # set by the driver in `extra`
_ENOUGH = 8  # trained networks needed to fit time over cost


@dataclass(frozen=True)
class Compute:
    """Seconds of training. `searched`: wall-clock seconds of the search, with workers in parallel; None if not known.

    For a part of the trials, `searched` is their share by training time. Savings are estimates. By limits: the training
    of networks rejected untrained. By duplicates: the training of each copied network. By halving: the remaining
    training of networks that stopped at a rung. `money`: the hours searched, in the unit of the study's price_per_hour;
    None without a price.
    """

    trained: float
    by_limits: float
    by_duplicates: float
    by_halving: float
    searched: float | None = None
    money: float | None = None

    @property
    def saved(self) -> float:
        return self.by_limits + self.by_duplicates + self.by_halving


@dataclass(frozen=True)
class Since:
    """Changes since a date. Hypervolumes are shares 0..1 of one box, before and now; None if nothing finished."""

    date: datetime
    trials: int
    compute: Compute
    new_front: tuple[int, ...]  # trials that are on the front now and were not before
    before: float | None
    now: float | None


def compute_of(record: StudyRecord, trials: Iterable[TrialRow] | None = None) -> Compute:
    """Return the compute that trials (default: all) took and saved."""
    chosen = record.trials if trials is None else tuple(trials)
    numbers = {trial.number: trial for trial in record.trials}
    limits, duplicates, halving = _saved(chosen, numbers, _Expected(record.trials), went_on(record.trials))
    trained, everything = (sum(own_seconds(t, numbers) for t in part) for part in (chosen, record.trials))
    searched, price = (record.extra.get(name) for name in ("searched_seconds", "price_per_hour"))
    if searched is not None and everything > 0:
        searched = float(searched) * trained / everything
    return Compute(
        trained=trained,
        by_limits=limits,
        by_duplicates=duplicates,
        by_halving=halving,
        searched=searched,
        money=None if searched is None or price is None else searched / 3600 * float(price),
    )


class Account:
    """The trained and saved seconds of `compute_of`, updated as trials of a running search end.

    Of rejected networks it keeps only the multiply-adds, so that 100,000 of them cost nothing.
    """

    def __init__(self) -> None:
        self._trials: dict[int, TrialRow] = {}
        self._rejected = array("d")
        # (state of the trials, result without rejections, trend)
        self._known: tuple[Any, Compute, _Expected] | None = None

    def add(self, trial: TrialRow) -> None:
        """Add a trial that was trained, or copied from one that was."""
        self._trials[trial.number] = trial

    def reject(self, macs: float | None) -> None:
        """Add a network that was never trained."""
        self._rejected.append(math.nan if macs is None else macs)

    def compute(self, going_on: Collection[int] = ()) -> Compute:
        """Return the compute so far. `going_on`: trials that a running or waiting promotion continues."""
        trials = tuple(self._trials.values())
        state = (len(trials), frozenset(going_on))
        if self._known is None or self._known[0] != state:
            expected = _Expected(trials)
            limits, duplicates, halving = _saved(trials, self._trials, expected, went_on(trials) | {*going_on})
            trained = sum(own_seconds(trial, self._trials) for trial in trials)
            self._known = state, Compute(trained, limits, duplicates, halving), expected
        _, known, expected = self._known
        return replace(known, by_limits=known.by_limits + expected.all_of(np.array(self._rejected)))


def _saved(
    trials: Iterable[TrialRow], numbers: dict[int, TrialRow], known: "_Expected", went_on: set[int]
) -> tuple[float, float, float]:
    """Return the seconds saved by limits, duplicates and halving."""
    limits = duplicates = halving = 0.0
    for trial in trials:
        of = outcome(trial)
        if of == "rejected" and _seconds(trial) is None:
            limits += known.whole(trial)
        elif of == "reused" and trial.reused_from in numbers:
            duplicates += _seconds(numbers[trial.reused_from]) or 0.0
        elif of == "stopped" and trial.number not in went_on:
            halving += known.rest(trial)
    return limits, duplicates, halving


def own_seconds(trial: TrialRow, numbers: dict[int, TrialRow]) -> float:
    """Return the seconds of a trial's own training.

    A promotion's record counts from the first step, so the seconds of the trial it continues are subtracted. A copy has
    none.
    """
    seconds = _seconds(trial)
    if seconds is None or trial.reused_from is not None:
        return 0.0
    before = numbers.get(trial.extra.get(CONTINUES, -1))
    return max(0.0, seconds - ((_seconds(before) or 0.0) if before else 0.0))


def since(record: StudyRecord, date: str | datetime) -> Since:
    """Return what changed since a date, by the end times of trials. A date without a zone is local time.

    Raises:
        UserError: the text is no date.
    """
    start = _moment(date) if isinstance(date, str) else _local(date)
    if start is None:
        raise UserError(f"a date is written as 2026-03-02 or 2026-03-02T14:30, got {date!r}")
    old = np.array([not _after(trial, start) for trial in record.trials], dtype=bool)
    values = contending_values(record)
    before = np.where(old[:, None], values, np.nan)
    sides = directions(record)
    fronts = [pareto_front(part, sides) for part in (before, values)]
    now = share_of(values, sides)
    volumes = (share_of(before, sides, now.box).share, now.share) if now.box else (None, None)
    came = [trial for trial, was in zip(record.trials, old.tolist(), strict=True) if not was and trial.finished]
    return Since(
        date=start,
        trials=len(came),
        compute=compute_of(record, came),
        new_front=tuple(record.trials[row].number for row in np.flatnonzero(fronts[1] & ~fronts[0])),
        before=volumes[0],
        now=volumes[1],
    )


def finishing_order(record: StudyRecord) -> list[tuple[int, float, float]]:
    """Return (row, hours of training so far, hours since the first start) of the ended trials, in the order they ended.

    Trials without times keep their place between the others, and their hours are NaN.
    """
    numbers = {trial.number: trial for trial in record.trials}
    starts = [moment for trial in record.trials if (moment := _moment(trial.started)) is not None]
    first = min(starts, default=None)
    ended = [row for row, trial in enumerate(record.trials) if trial.state not in ("RUNNING", "WAITING")]
    moments = {row: _moment(record.trials[row].finished) for row in ended}
    last, keys = datetime.min, {}
    for row in ended:
        last = moments[row] or last
        keys[row] = last
    spent, found = 0.0, []
    for row in sorted(ended, key=lambda row: (keys[row], row)):
        spent += own_seconds(record.trials[row], numbers) / 3600
        end = moments[row]
        found.append((row, spent, (end - first).total_seconds() / 3600 if end and first else math.nan))
    return found


class _Expected:
    """The seconds to train a network to the end, as a trend in multiply-adds over the trained networks."""

    def __init__(self, trials: Sequence[TrialRow]) -> None:
        steps = [steps_of(trial) for trial in trials if outcome(trial) == "finished"]
        self.steps = max(steps, default=max(map(steps_of, trials), default=0))
        points = [
            (_macs(trial), self.whole_of(trial))
            for trial in trials
            if _seconds(trial) is not None and steps_of(trial) and trial.reused_from is None
        ]
        self.mean = float(np.mean([seconds for _, seconds in points])) if points else 0.0
        costs = [(macs, seconds) for macs, seconds in points if macs is not None]
        self.slope, self.base = 0.0, self.mean
        if len(costs) >= _ENOUGH and len({macs for macs, _ in costs}) > 1:
            x, y = np.array(costs, dtype=np.float64).T
            slope, base = np.polyfit(x / x.mean(), y, 1)
            self.slope, self.base = float(slope / x.mean()), float(base)

    def whole_of(self, trial: TrialRow) -> float:
        """Return the seconds for a trained network, from its own seconds per step."""
        return (_seconds(trial) or 0.0) * max(1.0, self.steps / steps_of(trial))

    def whole(self, trial: TrialRow) -> float:
        macs = _macs(trial)
        return self.mean if macs is None else max(0.0, self.base + self.slope * macs)

    def all_of(self, macs: Floats) -> float:
        """Return the total seconds of networks with these multiply-adds [n]; NaN where they are not known."""
        return float(np.where(np.isnan(macs), self.mean, np.maximum(0.0, self.base + self.slope * macs)).sum())

    def rest(self, trial: TrialRow) -> float:
        return self.whole_of(trial) - (_seconds(trial) or 0.0) if steps_of(trial) else 0.0


def went_on(trials: Iterable[TrialRow]) -> set[int]:
    """Return the trials that promotions continue, leaving out failed promotions."""
    return {t.extra[CONTINUES] for t in trials if CONTINUES in t.extra and t.state != "FAIL"}


def _seconds(trial: TrialRow) -> float | None:
    accuracy = trial.accuracy
    return None if accuracy is None or not math.isfinite(accuracy.train_seconds) else accuracy.train_seconds


def steps_of(trial: TrialRow) -> int:
    """Return the step that a trial was trained to; 0 if it was not trained."""
    accuracy = trial.accuracy
    return accuracy.protocol.steps if accuracy else 0


def _macs(trial: TrialRow) -> float | None:
    if "macs" in trial.extra:  # much faster to read than the measurement in large studies
        return float(trial.extra["macs"])
    return float(trial.measurement.cost.macs) if trial.measurement and trial.measurement.cost else None


def _moment(text: str | None) -> datetime | None:
    """Parse an ISO 8601 time; without a zone, as in records, it is local time."""
    try:
        return _local(datetime.fromisoformat(text or ""))
    except ValueError:
        return None


def _local(time: datetime) -> datetime:
    return time.astimezone().replace(tzinfo=None) if time.tzinfo else time


def _after(trial: TrialRow, start: datetime) -> bool:
    end = _moment(trial.finished)
    return end is not None and end >= start
