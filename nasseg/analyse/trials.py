"""Finished trials as tables: one row per trial, the front, and the outcomes of all others."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nasseg.analyse.front import Box, Floats, Mask, front_probability, hypervolume, pareto_front, reference_box
from nasseg.figures import USUAL, all_figures, figure_in, least_of
from nasseg.limits import Breach, Limits, breaches
from nasseg.records import AccuracyProtocol, PublishedPoint, StudyRecord, TrialRow

if TYPE_CHECKING:
    import pandas as pd

Outcome = Literal["finished", "reused", "stopped", "rejected", "failed", "running", "waiting"]
MIN_TIMED = 4  # fewer networks with a latency are too few to call most of them doubtful


def outcome(trial: TrialRow) -> Outcome:
    """Return the outcome of a trial.

    finished: measured to the end. stopped: trained to a rung below the last, and compared there. reused: copied from
    one of these. rejected: it broke a limit, nearly always before training. failed: it ended with an error.
    """
    if trial.reused_from is not None and trial.state in ("COMPLETE", "PRUNED"):
        return "reused"
    if trial.state == "COMPLETE":
        return "finished"
    if trial.state == "PRUNED":
        return "stopped" if trial.extra.get("stopped_at_rung") else "rejected"
    rest: dict[str, Outcome] = {"FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
    return rest[trial.state]


def progress(record: StudyRecord) -> dict[Outcome, int]:
    """Count the trials of each outcome, zeros included."""
    counts = Counter(map(outcome, record.trials))
    order: tuple[Outcome, ...] = ("finished", "stopped", "rejected", "failed", "reused", "running", "waiting")
    return {name: counts[name] for name in order}


def networks_trained(record: StudyRecord) -> int:
    """Count the different architectures with an accuracy, at any fidelity."""
    return len({t.measurement.arch_id for t in record.trials if t.accuracy and t.measurement})


def reason_of(trial: TrialRow) -> str:
    """Return the first line of a trial's reason, by which reasons are counted."""
    return (trial.reason or "no reason recorded").strip().partition("\n")[0]


def reasons(record: StudyRecord, of: Outcome) -> dict[str, int]:
    """Return reason -> count for one outcome, the most frequent first."""
    found = Counter(reason_of(trial) for trial in record.trials if outcome(trial) == of)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def rejections(record: StudyRecord) -> dict[str, int]:
    """Return reason -> count for architectures that were never trained, the most frequent first."""
    return reasons(record, "rejected")


def directions(record: StudyRecord) -> list[str]:
    return [objective.direction for objective in record.objectives]


def objective_values(record: StudyRecord, trials: Sequence[TrialRow] | None = None) -> Floats:
    """Return the objective values [n, m] of the trials (default: all); NaN for missing ones."""
    chosen = record.trials if trials is None else trials
    rows = [[trial.values.get(objective.name, math.nan) for objective in record.objectives] for trial in chosen]
    return np.array(rows, dtype=np.float64).reshape(len(chosen), len(record.objectives))


def broken_limit(limits: Limits, trial: TrialRow | PublishedPoint) -> Breach | None:
    """Return the study's first limit that a trial or a published network breaks; None if it keeps all.

    Published networks run beside a search whatever its limits are, and limits may change after a trial. A latency timed
    beside other work breaks a limit only if the lowest possible value does.
    """
    if isinstance(trial, PublishedPoint):
        return next(breaches(limits, trial.figures, {}), None)
    least = least_of(trial.measurement) if trial.measurement else {}
    return next(breaches(limits, trial_figures(trial), least), None)


def is_disturbed(trial: TrialRow) -> bool:
    """Return whether other work ran while a trial was timed, so that its latency is doubtful."""
    return bool(trial.measurement and trial.measurement.latency and trial.measurement.latency.disturbed)


@dataclass(frozen=True)
class Doubts:
    """Counts of networks with a latency, and of those timed beside other work.

    reference: the reference network was timed beside other work, too.
    """

    timed: int
    disturbed: int
    reference: bool = False

    @property
    def most(self) -> bool:
        """True if most are doubtful, and there are enough to say so."""
        return self.timed >= MIN_TIMED and 2 * self.disturbed > self.timed

    def line(self, study: str) -> str:
        """Return the doubts and what to do about them; empty if no latency is doubtful."""
        scale = (
            "the reference network was timed beside other work when the study began: its latencies are comparable with "
            "each other, but may all be too high"
        )
        if not self.disturbed:
            return scale if self.reference else ""
        which = "most latencies" if self.most else "some latencies"
        return (
            f"{which} were timed beside other work, {self.disturbed} of {self.timed}, and are doubtful: end other "
            f"work on this machine, then run `nasseg search {study} --remeasure` to time the front again"
            + (f"; {scale}" if self.reference else "")
        )


def doubts_of(record: StudyRecord) -> Doubts:
    """Count a study's networks with a doubtful latency."""
    found = {t.measurement.arch_id: is_disturbed(t) for t in record.trials if t.measurement and t.measurement.latency}
    reference = record.extra.get("latency_reference", {}).get("disturbed", False)
    return Doubts(len(found), sum(found.values()), reference)


def contenders(record: StudyRecord) -> Mask:
    """Return a mask [n] of the trials that count: finished, not copied, and within all limits."""
    known = vars(record).get("_contenders")
    if known is None:  # a report asks for them a dozen times
        count = [outcome(t) == "finished" and not broken_limit(record.limits, t) for t in record.trials]
        known = vars(record)["_contenders"] = np.array(count, dtype=bool)
    return known


def contending_values(record: StudyRecord) -> Floats:
    """Return the objective values [n, m] of all trials, NaN for those that do not count."""
    values = objective_values(record)
    values[~contenders(record)] = np.nan
    return values


def on_front(record: StudyRecord) -> Mask:
    """Return a mask [n] of the trials on the front of those that count.

    If latencies were measured again, only the latest session counts.
    """
    values, latest = contending_values(record), max((t.extra.get("session", 0) for t in record.trials), default=0)
    values[[trial.extra.get("session", latest) != latest for trial in record.trials]] = np.nan
    return pareto_front(values, directions(record))


def may_be_on_front(record: StudyRecord) -> Mask:
    """Return a mask [n] of trials on the front, or on it at the lowest possible value of a doubtful latency."""
    values = contending_values(record)
    for column, objective in enumerate(record.objectives):
        for row, trial in enumerate(record.trials):
            least = least_of(trial.measurement) if trial.measurement and is_disturbed(trial) else {}
            if objective.name in least and np.isfinite(values[row, column]):
                values[row, column] = least[objective.name] or 0.0
    return on_front(record) | pareto_front(values, directions(record))


@dataclass(frozen=True)
class FrontShare:
    """A front's size, and its hypervolume as a share 0..1 of a box; None if no network counts yet."""

    members: int
    share: float
    box: Box | None


def share_of(values: Floats, sides: Sequence[str], box: Box | None = None) -> FrontShare:
    """Return the front of values [n, m] of the networks that count, and its hypervolume.

    The default box is the one these values span (`reference_box`). It grows with them, so the share can fall while the
    front improves; over a fixed box it only rises. Searches, `nasseg status` and reports all use this function.
    """
    if not np.isfinite(values).all(axis=1).any():
        return FrontShare(0, 0.0, box)
    box = box or reference_box(values, sides)
    share = hypervolume(values, box.reference, sides) / box.volume
    return FrontShare(int(pareto_front(values, sides).sum()), share, box)


def front_share(record: StudyRecord) -> FrontShare:
    """Return a study's current front, with its hypervolume over the box of all networks that count."""
    return share_of(contending_values(record), directions(record))


def trial_figures(trial: TrialRow) -> dict[str, float]:
    """Return every known figure of a trial by its name in objectives and limits, objective values first."""
    known = vars(trial).get("_figures")
    if known is None:  # a report asks for the same figures about fifteen times
        values = {name: value for name, value in trial.values.items() if math.isfinite(value)}
        known = vars(trial)["_figures"] = (all_figures(trial.measurement) if trial.measurement else {}) | values
    return dict(known)


def trials_frame(record: StudyRecord) -> "pd.DataFrame":
    """Return a row for each trial, in the order of the study.

    Columns: number, family, state, the objectives, then macs, params, latency_ms (median) and miou unless they are
    objectives, on_front, over_limit (the first limit that a finished network breaks), disturbed (its latency was timed
    beside other work), reason, reused_from, rung, seed, arch_id, arch (its fields as JSON); training, if a space sets
    fields of the recipe (their sampled values, as JSON).
    """
    return _frame(record, zip(record.trials, on_front(record).tolist(), strict=True))


def _frame(record: StudyRecord, trials: Iterable[tuple[TrialRow, bool]]) -> "pd.DataFrame":
    import pandas as pd

    names = shown_figures(record)
    fixed = ["on_front", "over_limit", "disturbed", "reason", "reused_from", "rung", "seed", "arch_id", "arch"]
    training = ["training"] if any(trial.training for trial in record.trials) else []
    frame = pd.DataFrame(_rows(record, trials), columns=["number", "family", "state", *names, *fixed, *training])
    frame[names] = frame[names].astype(float)
    return frame.astype({"on_front": bool, "disturbed": bool, "reused_from": "Int64", "rung": "Int64", "seed": "Int64"})


def shown_figures(record: StudyRecord) -> list[str]:
    """Return the figures in every trial's row: the objectives, then the usual ones."""
    names = [objective.name for objective in record.objectives]
    return names + [name for name in USUAL if name not in names]


def _rows(record: StudyRecord, trials: Iterable[tuple[TrialRow, bool]]) -> list[dict[str, Any]]:
    """Return a row for each (trial, whether it is on the front)."""
    names, rows = shown_figures(record), []
    for trial, front in trials:
        arch, figures = dict(trial.arch or {}), trial_figures(trial)
        row: dict[str, Any] = {"number": trial.number, "family": arch.pop("family", None), "state": trial.state}
        row |= {name: float(figures[name]) if name in figures else None for name in names}
        broken = broken_limit(record.limits, trial) if outcome(trial) == "finished" else None
        row |= {"on_front": front, "over_limit": str(broken) if broken else None, "disturbed": is_disturbed(trial)}
        row |= {"reason": trial.reason, "reused_from": trial.reused_from, "rung": trial.rung, "seed": trial.seed}
        row |= {"arch_id": trial.measurement.arch_id if trial.measurement else None}
        row |= {"arch": json.dumps(arch) if trial.arch else None}
        row |= {"training": json.dumps(trial.training)} if trial.training else {}
        rows.append(row)
    return rows


def front_rows(record: StudyRecord) -> list[dict[str, Any]]:
    """Return the rows of `front_frame` without pandas, which is slow to import; unknown values are None."""
    members = [(trial, True) for trial, on in zip(record.trials, on_front(record).tolist(), strict=True) if on]
    first = record.objectives[0]
    return sorted(_rows(record, members), key=lambda row: row[first.name], reverse=first.direction == "maximize")


def front_frame(record: StudyRecord) -> "pd.DataFrame":
    """Return the rows of `trials_frame` that are on the front, best first by the first objective."""
    members = [(trial, True) for trial, on in zip(record.trials, on_front(record).tolist(), strict=True) if on]
    first = record.objectives[0]
    front = _frame(record, members).sort_values(first.name, ascending=first.direction == "minimize", kind="stable")
    return front.reset_index(drop=True)


# Standard error of a quantile of n normal replicates, in units of their standard deviation / sqrt(n).
_QUANTILE_ERROR = {"latency_ms": 1.253, "latency_p90_ms": 1.709, "latency_p99_ms": 3.733}


def seeds_frame(record: StudyRecord) -> "pd.DataFrame":
    """Return a row with the spread of mIoU for each network finished with several seeds, all else equal.

    Columns: arch_id, family, numbers (its trials), seeds, mean, sd, low, high (percent).
    """
    import pandas as pd

    trainings = Counter(t.measurement.arch_id for t in record.trials if t.accuracy and t.measurement)
    found: dict[tuple[str, AccuracyProtocol], list[TrialRow]] = {}
    for trial in record.trials:
        m = trial.measurement
        if outcome(trial) == "finished" and m and m.accuracy and trainings[m.arch_id] > 1:  # most networks have one
            found.setdefault((m.arch_id, replace(m.accuracy.protocol, seed=0)), []).append(trial)
    rows = []
    for (arch_id, _), trials in found.items():
        miou = {a.protocol.seed: a.miou for a in (trial.accuracy for trial in trials) if a}
        known = [value for value in miou.values() if math.isfinite(value)]
        if len(known) > 1:
            family, numbers = (trials[0].arch or {}).get("family"), tuple(t.number for t in trials)
            spread = (float(np.mean(known)), float(np.std(known, ddof=1)), min(known), max(known))
            rows.append((arch_id, family, numbers, len(known), *spread))
    return pd.DataFrame(rows, columns=["arch_id", "family", "numbers", "seeds", "mean", "sd", "low", "high"])


def seed_spread(record: StudyRecord) -> float | None:
    """Return the standard deviation of mIoU over seeds, pooled over networks with several; None without any."""
    frame = seeds_frame(record)
    if frame.empty:
        return None
    spare = frame["seeds"] - 1
    return float(math.sqrt((frame["sd"] ** 2 * spare).sum() / spare.sum()))


def standard_errors(record: StudyRecord) -> Floats:
    """Return the standard errors [n, m] of objective values, if known; 0 if exact, or measured once.

    Latencies: from the replicates of one run. mIoU: the pooled spread over seeds. Costs are exact.
    """
    errors = np.zeros((len(record.trials), len(record.objectives)))
    seeds = seed_spread(record)
    for column, name in enumerate(objective.name for objective in record.objectives):
        if name == "miou" and seeds is not None:
            errors[:, column] = seeds
        if name in _QUANTILE_ERROR:
            for row, trial in enumerate(record.trials):
                latency = trial.measurement.latency if trial.measurement else None
                # the quartiles lie 1.349 standard deviations apart
                if latency and latency.n > 0 and latency.iqr_ms is not None:
                    errors[row, column] = _QUANTILE_ERROR[name] * latency.iqr_ms / 1.349 / math.sqrt(latency.n)
    return errors


def noise_known(record: StudyRecord) -> bool:
    """Return whether the study knows how much each objective varies when measured again.

    Costs do not vary, and a latency has its runs. Trained figures need a second seed of some network; of them, only
    mIoU's spread over seeds is known.
    """
    trained = [o.name for o in record.objectives if figure_in(record, o.name).phase == "trained"]
    return not trained or (trained == ["miou"] and seed_spread(record) is not None)


def seeds_apart(record: StudyRecord) -> float | None:
    """Return the mIoU points by which two seeds of a network differ at most, 19 times in 20; None if not known."""
    spread = seed_spread(record)
    return None if spread is None else 1.96 * math.sqrt(2) * spread


def front_probabilities(record: StudyRecord) -> Floats | None:
    """Return how often each trial would be on the front if all were measured again: [n], 0..1.

    None if an objective's noise is not known: one seed gives no probability.
    """
    if not noise_known(record):
        return None
    return front_probability(contending_values(record), standard_errors(record), directions(record))


@dataclass(frozen=True)
class Choice:
    """The best network within a budget, by trial number and value; the next best one; the best published one.

    published_over: the limit or budget that the published one breaks; such a one is named only if none keeps them all.
    """

    number: int
    value: float
    runner_up: int | None
    runner_up_value: float
    published: str | None
    published_value: float
    published_over: Breach | None = None


def best_within(record: StudyRecord, figure: str, budget: float, gain: str) -> Choice | None:
    """Return the network with the best `gain` (an objective) among those that count, with `figure` at most `budget`.

    Among equals, it is the one that spends less of the figure. The runner-up is another architecture. A published
    network that ran beside the search is compared as a published one. None if no network fits.
    """
    sign = {o.name: -1.0 if o.direction == "maximize" else 1.0 for o in record.objectives}[gain]

    def spent(known: Mapping[str, float]) -> float:  # infinite if either is not known
        return known.get(figure, math.inf) if math.isfinite(known.get(gain, math.nan)) else math.inf

    counted = [(trial_figures(t), t) for t, counts in zip(record.trials, contenders(record), strict=True) if counts]
    rows = [(sign * known[gain], known[figure], t.number, t) for known, t in counted if spent(known) <= budget]
    rows.sort(key=lambda row: row[:3])
    if not rows:
        return None
    value, _, number, best = rows[0]
    own = best.measurement.arch_id if best.measurement else None
    other = next((r for r in rows[1:] if own is None or not r[3].measurement or r[3].measurement.arch_id != own), None)
    points = [p for p in record.published if math.isfinite(spent(p.figures)) and p.name != best.extra.get("published")]
    fitting = [point for point in points if spent(point.figures) <= budget]
    within = [point for point in fitting if not broken_limit(record.limits, point)]
    published = min(within or fitting or points, key=lambda p: sign * p.figures[gain], default=None)
    over = broken_limit(record.limits, published) if published else None
    if published and not fitting:
        over = over or Breach(figure, published.figures[figure], "max", budget)
    return Choice(
        number=number,
        value=sign * value,
        runner_up=other[2] if other else None,
        runner_up_value=sign * other[0] if other else math.nan,
        published=published.name if published else None,
        published_value=published.figures[gain] if published else math.nan,
        published_over=over,
    )
