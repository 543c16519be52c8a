"""A finish beside its search: the figures of the front's networks on the validation and the held-out split.

A finish (nasseg.study.finish) is a study of its own, `<name>@finish`, with a trial for each network and seed. It is
joined with the search by arch_id.
"""

import math
from statistics import fmean, stdev

import pandas as pd

from nasseg.analyse.trials import is_disturbed, outcome, trial_figures
from nasseg.records import StudyRecord, TrialRow

FIGURES = {
    "miou": "last weights, validation",
    "best_miou": "best weights, validation",
    "test_miou": "best weights, test",
}

_OF_THE_SEARCH = ("searched_miou", "searched_latency_ms")


def finished_frame(finished: StudyRecord, searched: StudyRecord | None = None) -> pd.DataFrame:
    """Return a row for each trained network, the best on the held-out split (or else the validation split) first.

    Columns: number (its trial in the search), family, arch_id, seeds, latency_ms (timed again). Then the mean and, for
    several seeds, the standard deviation of three figures in percent, as `miou`, `miou_sd` and so on: `miou` (last
    weights, validation split, as in a search), `best_miou` (best weights, chosen by and measured on the validation
    split) and `test_miou` (those weights on the held-out split). If the search is given, also searched_miou and
    searched_latency_ms. NaN if a figure is not known. disturbed, searched_disturbed: the latency was timed beside other
    work.
    """
    groups: dict[tuple[str, str], list[TrialRow]] = {}
    for trial in finished.trials:
        if outcome(trial) == "finished" and trial.measurement:
            groups.setdefault(trial.trained_network, []).append(trial)
    before = {t.number: t for t in searched.trials} if searched else {}
    rows = []
    for (arch_id, _), trials in groups.items():
        number, latency = trials[0].extra.get("of_trial"), trials[0].measurement and trials[0].measurement.latency
        row = {"number": number, "family": (trials[0].arch or {}).get("family"), "arch_id": arch_id}
        row |= {"seeds": len(trials), "latency_ms": latency.p50_ms if latency else math.nan}
        for name in FIGURES:
            known = [value for value in (_figure(trial, name) for trial in trials) if math.isfinite(value)]
            row[name] = fmean(known) if known else math.nan
            row[f"{name}_sd"] = stdev(known) if len(known) > 1 else math.nan
        found = trial_figures(before[number]) if number in before else {}
        row |= {"searched_miou": found.get("miou", math.nan), "searched_latency_ms": found.get("latency_ms", math.nan)}
        row["disturbed"] = is_disturbed(trials[0])
        row["searched_disturbed"] = number in before and is_disturbed(before[number])
        rows.append(row)
    columns = ["number", "family", "arch_id", "seeds", "latency_ms"]
    columns += [f"{name}{suffix}" for name in FIGURES for suffix in ("", "_sd")]
    frame = pd.DataFrame(rows, columns=[*columns, *_OF_THE_SEARCH, "disturbed", "searched_disturbed"])
    return frame.sort_values(["test_miou", "best_miou"], ascending=False, kind="stable").reset_index(drop=True)


def _figure(trial: TrialRow, name: str) -> float:
    if name == "miou":
        accuracy = trial.accuracy
        return accuracy.miou if accuracy else math.nan
    return float(trial.extra.get(name, math.nan))
