"""The numbers behind the front's chart: axes to choose from, a column for each axis, and the rows of each part.

Rows are the study's trials in order, then the published networks. Nothing here draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nasseg.analyse.compute_spent import finishing_order
from nasseg.analyse.front import Box, Floats, hypervolume_history, pareto_front, reference_box
from nasseg.analyse.trials import (
    broken_limit,
    contenders,
    directions,
    is_disturbed,
    objective_values,
    on_front,
    outcome,
    shown_figures,
    trial_figures,
)
from nasseg.figures import FIGURES, USUAL, Figure, figure_in
from nasseg.limits import Breach
from nasseg.records import PublishedPoint, StudyRecord, TrialRow

Column = list[float | None]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A figure, or the trial's number, as an axis. Only objectives have a direction. `log`: a log scale suits it."""

    name: str
    label: str
    unit: str
    direction: Literal["minimize", "maximize"] | None
    log: bool
    thousands: bool  # ticks like 5G
    limit: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class View:
    """All numbers of the front's chart. Lists of rows are indices into the columns."""

    axes: dict[str, Axis]
    columns: dict[str, Column]
    keys: list[str]  # of the trials' rows, as readers see them
    hover: list[str]
    groups: tuple[str, ...]  # families, or the studies if there are several
    front: dict[str, list[int]]  # group -> rows
    dominated: dict[str, list[int]]
    over: dict[str, list[int]]  # finished, but over a limit
    unfinished: dict[str, list[int]]  # measured rows; empty once a network has finished
    published: list[int]
    names: list[str]  # of the published rows
    halves: dict[str, Column]  # half the interquartile range of the runs, if there are any
    # x -> y -> for each line, the rows of the best trade-off of the two, sorted by x
    steps: dict[str, dict[str, list[list[int]]]]
    x: str
    y: str

    @property
    def drawn(self) -> list[int]:
        """The rows of the trials that the chart shows."""
        parts = (self.front, self.dominated, self.over, self.unfinished)
        return sorted(row for part in parts for rows in part.values() for row in rows)

    @property
    def lines(self) -> int:
        """The number of trade-off lines: one for all, or one for each group."""
        return max((len(rows) for row in self.steps.values() for rows in row.values()), default=1)


@dataclass(frozen=True, kw_only=True)
class History:
    """Hypervolume over finished trials, as a share of the box between reference point and best values: 0..1.

    at: the trial's number, or hours. keys: the trials' names for readers. It has only the first and last points, and
    those where it grew.
    """

    over: Literal["trial", "compute", "time"]
    at: list[float]
    keys: list[str]
    rows: list[int]
    share: list[float]
    reference: dict[str, float]


def family_of(trial: TrialRow) -> str:
    return str((trial.arch or {}).get("family", "unknown"))


def finished_rows(record: StudyRecord) -> list[int]:
    """Return the rows of the trials that are drawn: finished and not copied."""
    return [row for row, trial in enumerate(record.trials) if outcome(trial) == "finished"]


def key_of(trial: TrialRow, prefix: str = "") -> str:
    """Return a trial's name for readers: its number, after the study's letter if there are several studies."""
    return f"{prefix}{trial.number}"


def view_of(record: StudyRecord, prefix: str = "") -> View:
    figures = [trial_figures(trial) for trial in record.trials]
    finished = finished_rows(record)
    drawn = finished or [row for row, trial in enumerate(record.trials) if _is_measured(trial)]
    columns = _columns(record, figures, drawn)
    front_mask = on_front(record)
    groups = tuple(sorted({family_of(record.trials[row]) for row in drawn}))
    parts: dict[str, dict[str, list[int]]] = {
        part: {group: [] for group in groups} for part in ("front", "dominated", "over", "unfinished")
    }
    counts = contenders(record)
    for row in drawn:
        part = "front" if front_mask[row] else "dominated" if counts[row] else "over" if finished else "unfinished"
        parts[part][family_of(record.trials[row])].append(row)
    x, y = _first_pair(record, columns, bool(finished))
    shown = [figure_in(record, name) for name in shown_figures(record)]
    return View(
        axes={name: axis_of(record, name, [columns[name][row] for row in drawn]) for name in columns},
        columns=columns,
        keys=[key_of(trial, prefix) for trial in record.trials],
        hover=[_hover(record, t, f, shown, prefix) for t, f in zip(record.trials, figures, strict=True)]
        + [_hover_published(record, point) for point in record.published],
        groups=groups,
        **parts,
        published=list(range(len(record.trials), len(record.trials) + len(record.published))),
        names=[point.name for point in record.published],
        halves={"latency_ms": [_half(trial) for trial in record.trials]} if "latency_ms" in columns else {},
        steps=_steps(record, [row for row in drawn if counts[row]]),
        x=x,
        y=y,
    )


def box_of(records: Sequence[StudyRecord]) -> Box | None:
    """Return the box for comparing hypervolumes of studies with the same objectives; None if no network counts.

    Networks over a limit do not count, so they do not stretch the box.
    """
    values = np.concatenate([_counting_values(record)[1] for record in records])
    return reference_box(values, directions(records[0])) if np.isfinite(values).all(axis=1).any() else None


def histories_of(record: StudyRecord, box: Box | None = None, prefix: str = "") -> dict[str, History]:
    """Return the hypervolume's history over trials, hours of training, and hours since the study began.

    Empty if nothing finished. box: by default the study's own.
    """
    box = box or box_of([record])
    rows, values = _counting_values(record)
    if box is None or not np.isfinite(values).all(axis=1).any():
        return {}
    place = {row: i for i, row in enumerate(rows)}
    ended = [(row, spent, hours) for row, spent, hours in finishing_order(record) if row in place]
    orders: dict[Literal["trial", "compute", "time"], list[tuple[int, float]]] = {
        "trial": [(row, float(record.trials[row].number)) for row in rows],
        "compute": [(row, spent) for row, spent, _ in ended],
        "time": [(row, hours) for row, _, hours in ended if math.isfinite(hours)],
    }
    reference = dict(zip([o.name for o in record.objectives], box.reference.tolist(), strict=True))
    found: dict[str, History] = {}
    shares: dict[tuple[int, ...], list[float]] = {}
    for over, order in orders.items():
        chosen = tuple(row for row, _ in order)
        if chosen and (over == "trial" or order[-1][1] > 0):
            if chosen not in shares:
                ordered = values[[place[row] for row in chosen]]
                volumes = hypervolume_history(ordered, box.reference, directions(record)) / box.volume
                shares[chosen] = volumes.tolist()
            share = shares[chosen]
            kept = [i for i in range(len(share)) if i in (0, len(share) - 1) or share[i] > share[i - 1]]
            found[over] = History(
                over=over,
                at=[float(f"{order[i][1]:.7g}") for i in kept],
                keys=[key_of(record.trials[chosen[i]], prefix) for i in kept],
                rows=[chosen[i] for i in kept],
                share=[share[i] for i in kept],
                reference=reference,
            )
    return found


def history_of(record: StudyRecord) -> History | None:
    """Return the history over trials; None if none is finished."""
    return histories_of(record).get("trial")


def _counting_values(record: StudyRecord) -> tuple[list[int], Floats]:
    rows = np.flatnonzero(contenders(record)).tolist()
    return rows, objective_values(record, [record.trials[row] for row in rows])


def _is_measured(trial: TrialRow) -> bool:
    return outcome(trial) != "reused" and trial.measurement is not None and trial.measurement.cost is not None


def _columns(record: StudyRecord, figures: Sequence[dict[str, float]], drawn: list[int]) -> dict[str, Column]:
    """Return the columns to choose axes from: objectives, then what differs between the drawn networks.

    These are every figure, the trial's number, and the IoU of each class.
    """
    objectives = [objective.name for objective in record.objectives]
    known = [
        dict(row) | {"number": float(t.number)} | _class_ious(t) for row, t in zip(figures, record.trials, strict=True)
    ]
    known += [dict(point.figures) for point in record.published]
    found = dict.fromkeys([*(name for row in drawn for name in known[row]), "number"])
    names = dict.fromkeys([*objectives, *(n for n in (*USUAL, *FIGURES) if n in found), *found])
    columns = {name: [_finite(row.get(name)) for row in known] for name in names}
    differ = {name for name, column in columns.items() if len({column[row] for row in drawn} - {None}) > 1}
    kept = {*objectives, *USUAL, "number", *differ}
    return {name: column for name, column in columns.items() if name in kept}


def _class_ious(trial: TrialRow) -> dict[str, float]:
    accuracy = trial.measurement.accuracy if trial.measurement else None
    found = accuracy.class_iou if accuracy else {}
    return {f"iou.{name}": round(value, 2) for name, value in found.items() if value is not None}


def _first_pair(record: StudyRecord, columns: dict[str, Column], finished: bool) -> tuple[str, str]:
    """Return the first axes: x to minimise and y to maximise; for a single objective, the trial's number as x.

    Before a network has finished: latency as x and a cost as y.
    """
    names = [objective.name for objective in record.objectives]
    if not finished:
        early = [name for name in ("macs", "params", "latency_ms") if name in columns]
        return (early[-1], early[0]) if len(early) > 1 else ("number", (early or names)[0])
    if len(names) == 1:
        return "number", names[0]
    gains = [o.name for o in record.objectives if o.direction == "maximize"]
    y = gains[0] if gains else names[0]
    costs = [o.name for o in record.objectives if o.name != y]
    return next((name for name in costs if name not in gains), costs[0]), y


def axis_of(record: StudyRecord, name: str, values: Column) -> Axis:
    """Return the axis of a figure for the values shown."""
    figure = None if name == "number" else figure_in(record, name)
    objective = any(o.name == name for o in record.objectives)
    known = [value for value in values if value is not None]
    positive = bool(known) and min(known) > 0
    return Axis(
        name=name,
        label=figure.label if figure else "trial",
        unit=figure.unit if figure else "",
        direction=figure.direction if figure and objective else None,
        log=name != "number" and positive and max(known) / min(known) > 30,
        thousands=name != "number" and bool(known) and max(map(abs, known)) >= 1e4,
        limit=dict(record.limits.get(name, {})),
    )


def _steps(record: StudyRecord, drawn: list[int]) -> dict[str, dict[str, list[list[int]]]]:
    """Return the best trade-offs of two objectives; over trial numbers, the best so far of one."""
    trials = [record.trials[row] for row in drawn]
    numbers = np.array([[trial.number] for trial in trials], dtype=np.float64).reshape(-1, 1)
    values = np.hstack([numbers, objective_values(record, trials).reshape(len(trials), len(record.objectives))])
    axes = [("number", "minimize"), *((o.name, o.direction) for o in record.objectives)]
    steps: dict[str, dict[str, list[list[int]]]] = {}
    for i, (x, across) in enumerate(axes):
        for j, (y, up) in enumerate(axes):
            if i != j and y != "number":
                best = np.flatnonzero(pareto_front(values[:, [i, j]], [across, up]))
                ordered = best[np.argsort(values[best, i], kind="stable")]
                steps.setdefault(x, {})[y] = [[drawn[k] for k in ordered]]
    return steps


def _hover(
    record: StudyRecord, trial: TrialRow, figures: dict[str, float], shown: Sequence[Figure], prefix: str
) -> str:
    """Return lines of plain text: the trial, its objectives, and the usual figures that are no objectives."""
    lines = [f"#{key_of(trial, prefix)} {family_of(trial)}"]
    lines += [f"{figure.label}: {figure.text(figures[figure.name])}" for figure in shown if figure.name in figures]
    if is_disturbed(trial):
        lines.append(DISTURBED)
    broken = broken_limit(record.limits, trial) if outcome(trial) == "finished" else None
    return "\n".join([*lines, *([over_words(record, broken)] if broken else [])])


def _hover_published(record: StudyRecord, point: PublishedPoint) -> str:
    broken = broken_limit(record.limits, point)
    doubt = [DISTURBED] if point.disturbed else []
    return "\n".join([point.name, point.citation, *doubt, *([over_words(record, broken)] if broken else [])])


DISTURBED = "timed beside other work: the latency is doubtful"


def over_words(record: StudyRecord, breach: Breach) -> str:
    """Describe a broken limit, or budget, for readers: "multiply-adds 150 M, over the limit of 60 M"."""
    figure, side = figure_in(record, breach.name), "over" if breach.side == "max" else "under"
    kind = "limit" if breach.bound in record.limits.get(breach.name, {}).values() else "budget"
    return f"{figure.label} {figure.text(breach.value)}, {side} the {kind} of {figure.text(breach.bound)}"


def _half(trial: TrialRow) -> float | None:
    latency = trial.measurement.latency if trial.measurement else None
    return None if latency is None or latency.iqr_ms is None else latency.iqr_ms / 2


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
