"""Latencies of a search beside those of the same networks, timed again, in turns, in one session.

The later ones are trials of a study of their own, `<name>@remeasure` (nasseg.study.finish.remeasure), one for each
network and session. Each also keeps the search's measurement.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nasseg.analyse.front import pareto_front
from nasseg.analyse.trials import directions, objective_values
from nasseg.figures import figure_in, value_of
from nasseg.records import Latency, PublishedPoint, StudyRecord, TrialRow
from nasseg.words import counted

if TYPE_CHECKING:
    import pandas as pd

PURPOSE = "remeasure"
SEARCHED_MS = "searched_latency_ms"  # in `extra` of a trial with a later latency: what the search had measured

COLUMNS = [
    "number",
    "family",
    "published",
    "arch_id",
    "old_ms",
    "new_ms",
    "ratio",
    "low_ms",
    "high_ms",
    "spread",
    "rounds",
    "disturbed",
    "was_on_front",
    "on_front",
    "over_limit",
]


def sessions(remeasured: StudyRecord) -> list[int]:
    """Return the numbers of the sessions, in order."""
    return sorted({trial.extra["session"] for trial in remeasured.trials if "session" in trial.extra})


def later_latencies(remeasured: StudyRecord) -> dict[str, Latency]:
    """Return the latest latency of each network, by arch_id. A doubtful one never replaces one that is not."""
    found: dict[str, Latency] = {}
    for trial in sorted(remeasured.trials, key=lambda trial: (trial.extra.get("session", 0), trial.number)):
        measurement = trial.measurement
        if measurement and measurement.latency and "session" in trial.extra:
            known = found.get(measurement.arch_id)
            if known is None or known.disturbed or not measurement.latency.disturbed:
                found[measurement.arch_id] = measurement.latency
    return found


def with_later_latencies(searched: StudyRecord, remeasured: StudyRecord) -> StudyRecord:
    """Return a search's record with its latencies replaced by later ones, if there are any.

    Such a trial has the search's median in `extra` under SEARCHED_MS. A doubtful latency never replaces one that is
    not.
    """
    later = later_latencies(remeasured)
    trials = tuple(_later(searched, t, later) if t.extra.get("arch_id") in later else t for t in searched.trials)
    again = {t.extra["published"]: t for t in trials if "published" in t.extra and SEARCHED_MS in t.extra}
    published = tuple(_later_point(p, again[p.name]) if p.name in again else p for p in searched.published)
    return replace(searched, trials=trials, published=published)


def _later(searched: StudyRecord, trial: TrialRow, later: dict[str, Latency]) -> TrialRow:
    measurement = trial.measurement
    if measurement is None or measurement.latency is None:
        return trial
    old, new = measurement.latency, later[measurement.arch_id]
    if old.protocol != new.protocol or (new.disturbed and not old.disturbed):
        return trial
    measurement = replace(measurement, latency=new)
    timed = {name for name in trial.values if figure_in(searched, name).phase == "latency"} - {*measurement.custom}
    values = {name: value_of(name, measurement) if name in timed else value for name, value in trial.values.items()}
    return TrialRow(
        **{name: getattr(trial, name) for name in TrialRow.__dataclass_fields__}
        | {"measurement": measurement, "values": values, "extra": {**trial.extra, SEARCHED_MS: old.p50_ms}}
    )


def _later_point(point: PublishedPoint, trial: TrialRow) -> PublishedPoint:
    latency = trial.measurement.latency if trial.measurement else None
    assert latency is not None
    known = {"latency_ms": latency.p50_ms, **trial.values}
    return replace(point, figures={**point.figures, **known}, disturbed=latency.disturbed)


def remeasured_frame(remeasured: StudyRecord, session: int | None = None) -> "pd.DataFrame":
    """Return a row for each network of a session (default: the latest), the fastest first.

    Columns: number (its trial in the search), family, published (the variant's name, or None), arch_id, old_ms (median,
    in the search), new_ms (in the session), ratio (new to old), low_ms and high_ms (the medians of the fastest and the
    slowest round), spread (high - low in percent of new), rounds, disturbed (rounds), was_on_front, on_front (with the
    new latency, among the session's networks that keep the limits), over_limit (the limit that it now breaks, or None).
    """
    import pandas as pd

    known = sessions(remeasured)
    chosen = session if session is not None else known[-1] if known else None
    trials = [trial for trial in remeasured.trials if chosen is not None and trial.extra.get("session") == chosen]
    values = objective_values(remeasured, trials)
    values[["over_limit" in trial.extra for trial in trials]] = math.nan
    rows = [_row(trial, on) for trial, on in zip(trials, pareto_front(values, directions(remeasured)), strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("new_ms", kind="stable").reset_index(drop=True)


def _row(trial: TrialRow, on_front: np.bool) -> dict[str, object]:
    extra, measurement = trial.extra, trial.measurement
    assert measurement is not None
    assert measurement.latency is not None
    old, new, rounds = extra["searched_latency_ms"], measurement.latency.p50_ms, extra["rounds_ms"]
    return {
        "number": extra["of_trial"],
        "family": (trial.arch or {}).get("family"),
        "published": extra.get("published"),
        "arch_id": measurement.arch_id,
        "old_ms": old,
        "new_ms": new,
        "ratio": new / old,
        "low_ms": min(rounds),
        "high_ms": max(rounds),
        "spread": 100 * (max(rounds) - min(rounds)) / new,
        "rounds": len(rounds),
        "disturbed": extra["disturbed_rounds"],
        "was_on_front": extra["searched_on_front"],
        "on_front": bool(on_front),
        "over_limit": extra.get("over_limit"),
    }


@dataclass(frozen=True)
class Agreement:
    """The agreement of two measurements of the same networks. ratio: new to old, median and extremes.

    kendall_tau: between the orders, 1 if they are equal; NaN for fewer than two networks.
    """

    networks: int
    ratio: float
    low: float
    high: float
    kendall_tau: float

    def line(self) -> str:
        order = "" if math.isnan(self.kendall_tau) else f", Kendall tau {self.kendall_tau:.2f}"
        networks = counted(self.networks, "network")
        return f"{networks}: new to old {self.ratio:.3f} (from {self.low:.3f} to {self.high:.3f}){order}"


def agreement(frame: "pd.DataFrame") -> Agreement:
    """Return the agreement of the columns old_ms and new_ms; all NaN if the frame is empty."""
    ratios = frame["new_ms"] / frame["old_ms"]
    tau = frame["old_ms"].corr(frame["new_ms"], method="kendall") if len(frame) > 1 else math.nan
    return Agreement(len(frame), ratios.median(), ratios.min(), ratios.max(), float(tau))
