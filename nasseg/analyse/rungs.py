"""Successive halving, rung by rung: the networks trained to each rung, and how well it ranks them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nasseg.analyse.compute_spent import CONTINUES, own_seconds, steps_of, went_on
from nasseg.analyse.early_figures import ENOUGH, rank_correlation
from nasseg.analyse.trials import outcome, trial_figures
from nasseg.figures import figure_in
from nasseg.records import StudyRecord, TrialRow

if TYPE_CHECKING:
    import pandas as pd

RANKS_BADLY = 0.5  # a rung ranks badly if its tau is below this even with half a standard error added


class Rung(NamedTuple):
    """A rung, with its networks and promotions.

    reached: networks trained to it or beyond. stopped: those waiting there. seconds: of training since the rung before.
    pairs: networks trained on to the end. tau: Kendall's tau-b, over these, between the first trained objective at the
    rung and at the end; NaN for fewer than 8 pairs and for the last rung. low, high: its 95 % interval. badly: see
    `ranks_badly`. Copies, and published networks, which are always trained to the end, are left out.
    """

    rung: int
    steps: int
    reached: int
    stopped: int
    promoted: int
    seconds: float
    pairs: int
    tau: float
    low: float
    high: float
    badly: bool


def rungs_frame(record: StudyRecord) -> "pd.DataFrame":
    """Return a row for each rung, the last included, with the fields of `Rung`. Empty without halving."""
    import pandas as pd

    return pd.DataFrame(rungs(record), columns=Rung._fields)


def rungs(record: StudyRecord) -> list[Rung]:
    """Return the rungs of a study, the last included; none without halving."""
    trained = [t for t in record.trials if t.reused_from is None and "published" not in t.extra and steps_of(t)]
    if not any(outcome(trial) == "stopped" for trial in trained):
        return []
    numbers, gone = {trial.number: trial for trial in record.trials}, went_on(record.trials)
    reached, seconds, steps = Counter[int](), dict[int, float](), dict[int, int]()
    promoted = Counter(t.rung for t in trained if outcome(t) == "stopped" and t.number in gone)
    stopped = Counter(t.rung for t in trained if outcome(t) == "stopped" and t.number not in gone)
    for trial in trained:
        reached[trial.rung] += 1
        seconds[trial.rung] = seconds.get(trial.rung, 0.0) + own_seconds(trial, numbers)
        steps[trial.rung] = steps_of(trial)
    pairs = _pairs(record, numbers)
    return [
        Rung(r, steps[r], reached[r], stopped[r], promoted[r], seconds[r], *_worth(pairs.get(r, [])))
        for r in sorted(reached)
    ]


def ranks_badly(pairs: Sequence[tuple[float, float]]) -> bool:
    """Return whether a rung seems to rank badly. pairs: each network's value at the rung and at the end."""
    if len(pairs) < ENOUGH:
        return False
    early, final = zip(*pairs, strict=True)
    return rank_correlation(early, final, 0.5)[2] < RANKS_BADLY


def rung_lines(record: StudyRecord) -> list[str]:
    """Return a sentence on how well each rung ranks, if known. Rungs that rank badly come first."""
    lines = []
    straight = {trial.rung for trial in record.trials if trial.extra.get("straight") == trial.rung}
    hedge = "new networks are trained to the end whatever it says" if straight else "give halving a share `straight`"
    known = [row for row in rungs(record) if row.pairs >= ENOUGH]
    for row in sorted(known, key=lambda row: row.high):
        found = (
            f"rung {row.rung} (step {row.steps}) agrees with the final ranking with Kendall's tau "
            f"{row.tau:.2f} ({row.low:.2f} to {row.high:.2f}, {row.pairs} networks)"
        )
        lines.append(f"{found}: it ranks badly; {hedge}" if row.badly else found)
    return lines


def _pairs(record: StudyRecord, numbers: Mapping[int, TrialRow]) -> dict[int, list[tuple[float, float]]]:
    """Return, by rung, the early and final value of each network that was trained through it to the end."""
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


def _worth(pairs: list[tuple[float, float]]) -> tuple[int, float, float, float, bool]:
    if len(pairs) < ENOUGH:
        return len(pairs), float("nan"), float("nan"), float("nan"), False
    early, final = zip(*pairs, strict=True)
    return len(pairs), *rank_correlation(early, final), ranks_badly(pairs)
