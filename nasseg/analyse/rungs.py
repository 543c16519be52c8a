"""Successive halving, rung by rung: the networks trained to each, and how well it ranks them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nasseg.analyse.compute_spent import CONTINUES, own_seconds, steps_of, went_on
from nasseg.analyse.early_figures import ENOUGH, rank_correlation
from nasseg.analyse.trials import outcome, trial_figures
from nasseg.figures import figure_in
from nasseg.records import StudyRecord, TrialRow

RANKS_BADLY = 0.5  # a rung ranks badly if even the upper end of tau's interval is below this

_COLUMNS = ["rung", "steps", "reached", "stopped", "promoted", "seconds", "pairs", "tau", "low", "high"]


def rungs_frame(record: StudyRecord) -> pd.DataFrame:
    """Return a row for each rung, the last included, with its networks and promotions. Empty without halving.

    Columns: rung, steps, reached (networks trained to it or beyond), stopped (waiting there), promoted, seconds (of
    training since the rung before), pairs (networks trained on to the end), tau (Kendall's tau-b of the first objective
    that training decides, there and at the end, over these), low and high (its 95 % interval). tau is NaN for fewer
    than 8 pairs and for the last rung. Copies are left out, and so are published networks, which are always trained to
    the end.
    """
    trained = [t for t in record.trials if t.reused_from is None and "published" not in t.extra and steps_of(t)]
    if not any(outcome(trial) == "stopped" for trial in trained):
        return pd.DataFrame(columns=_COLUMNS)
    numbers, gone = {trial.number: trial for trial in record.trials}, went_on(record.trials)
    reached, seconds, steps = Counter[int](), dict[int, float](), dict[int, int]()
    promoted = Counter(t.rung for t in trained if outcome(t) == "stopped" and t.number in gone)
    stopped = Counter(t.rung for t in trained if outcome(t) == "stopped" and t.number not in gone)
    for trial in trained:
        reached[trial.rung] += 1
        seconds[trial.rung] = seconds.get(trial.rung, 0.0) + own_seconds(trial, numbers)
        steps[trial.rung] = steps_of(trial)
    pairs = _pairs(record, numbers)
    rows = [
        (r, steps[r], reached[r], stopped[r], promoted[r], seconds[r], *_worth(pairs.get(r, [])))
        for r in sorted(reached)
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def rung_lines(record: StudyRecord) -> list[str]:
    """Return a sentence on how well each rung ranks, as far as known; rungs that rank badly come first."""
    lines = []
    rows: list[Any] = list(rungs_frame(record).sort_values("high", kind="stable").itertuples())
    for row in rows:
        if row.tau == row.tau:
            found = (
                f"rung {row.rung} (step {row.steps}) ranks networks as their ends do with Kendall's tau "
                f"{row.tau:.2f} ({row.low:.2f} to {row.high:.2f}, {row.pairs} networks)"
            )
            lines.append(f"{found}: it ranks badly" if row.high < RANKS_BADLY else found)
    return lines


def _pairs(record: StudyRecord, numbers: Mapping[int, TrialRow]) -> dict[int, list[tuple[float, float]]]:
    """Return, by rung, the early and the final value of each network that was trained through it to the end."""
    names = [o.name for o in record.objectives if figure_in(record, o.name).phase == "trained"]
    found: dict[int, list[tuple[float, float]]] = {}
    for trial in record.trials:
        if not names or outcome(trial) != "finished" or CONTINUES not in trial.extra:
            continue
        final = trial_figures(trial).get(names[0])
        before = numbers.get(trial.extra[CONTINUES])
        while before is not None:
            early = trial_figures(before).get(names[0])
            if early is not None and final is not None:
                found.setdefault(before.rung, []).append((early, final))
            before = numbers.get(before.extra.get(CONTINUES, -1))
    return found


def _worth(pairs: list[tuple[float, float]]) -> tuple[int, float, float, float]:
    if len(pairs) < ENOUGH:
        return len(pairs), float("nan"), float("nan"), float("nan")
    early, final = zip(*pairs, strict=True)
    return len(pairs), *rank_correlation(early, final)
