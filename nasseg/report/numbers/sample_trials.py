"""The sample of trials that a page shows, for a study too large for it."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nasseg.analyse.front import pareto_front
from nasseg.analyse.trials import on_front, outcome, trial_figures
from nasseg.records import StudyRecord

MOST_TRIALS = 10_000


def thinned(record: StudyRecord, gain: str, spends: Iterable[str], most: int = MOST_TRIALS) -> StudyRecord:
    """Return the study with at most about `most` trials: an even sample, and all trials that the page must keep.

    These are the front of all objectives, the best trade-off of any two, and, for each figure that may have a budget,
    the best and second best `gain` within any budget.
    """
    trials = record.trials
    if len(trials) <= most:
        return record
    keep = set(np.flatnonzero(on_front(record)).tolist())
    finished = [row for row, trial in enumerate(trials) if outcome(trial) == "finished"]
    figures = [trial_figures(trials[row]) for row in finished]
    directions = {o.name: o.direction for o in record.objectives}
    pairs = [(a, b) for a in directions for b in directions if a < b] + [(name, gain) for name in spends]
    for first, second in pairs:
        values = np.array([[row.get(first, np.nan), row.get(second, np.nan)] for row in figures]).reshape(-1, 2)
        for _ in range(2):
            best = pareto_front(values, [directions.get(first, "minimize"), directions.get(second, "minimize")])
            keep |= {finished[i] for i in np.flatnonzero(best)}
            values[best] = np.nan
    spare = [row for row in range(len(trials)) if row not in keep]
    sample = np.linspace(0, len(spare) - 1, max(0, most - len(keep))).astype(int)
    keep |= {spare[i] for i in sample}
    return replace(record, trials=tuple(trials[row] for row in sorted(keep)))
