"""Data for the page's script to filter and rank by: a column for each figure, and each trial's choices."""

from typing import Any

import numpy as np

from nasseg.analyse.parameters import Population
from nasseg.analyse.trials import broken_limit, is_disturbed, trial_figures
from nasseg.figures import USUAL
from nasseg.records import PublishedPoint, StudyRecord, TrialRow
from nasseg.report.numbers.front_view import DISTURBED, Axis, View, axis_of, family_of, over_words


def figures_of(record: StudyRecord, view: View) -> dict[str, Axis]:
    """Return the objectives, then the usual figures, if finished trials have them."""
    known = [trial_figures(record.trials[row]) for row in view.drawn]
    names = dict.fromkeys([*(objective.name for objective in record.objectives), *USUAL])
    found = {name: [row[name] for row in known if np.isfinite(row.get(name, np.nan))] for name in names}
    return {name: axis_of(record, name, list(values)) for name, values in found.items() if values}


def rows_data(record: StudyRecord, view: View, choices: dict[str, Any]) -> dict[str, Any]:
    """Return columns over the rows: trials in their order, then published networks.

    keys, families, groups (index of each trial's group, -1 for none), networks (a number for each architecture),
    finished (rows; before any network has finished, the measured ones), unfinished (whether this is so), over (row ->
    the limit that it breaks), disturbed (row -> why its latency is doubtful), figures (name -> column), choices
    (parameter -> its levels, and each trial's index, -1 if it is not active).
    """
    trials, points = record.trials, record.published
    ids = [trial.measurement.arch_id if trial.measurement else f"#{trial.number}" for trial in trials]
    seen = {name: index for index, name in enumerate(dict.fromkeys(ids))}
    return {
        "keys": view.keys,
        "groups": _groups(view, len(trials)),
        "families": [family_of(trial) for trial in trials] + [point.family for point in points],
        "networks": [seen[name] for name in ids],
        "finished": view.drawn,
        "unfinished": any(view.unfinished.values()),
        "over": _over(record, view),
        "disturbed": {row: DISTURBED for row, trial in enumerate(trials) if is_disturbed(trial)},
        "ran": {row: trial.extra["published"] for row, trial in enumerate(trials) if "published" in trial.extra},
        "names": [point.name for point in points],
        "figures": {
            name: {"label": axis.label, "unit": axis.unit, "values": view.columns[name]}
            for name, axis in view.axes.items()
        },
        "choices": choices,
    }


def choices_of(record: StudyRecord, population: Population) -> dict[str, Any]:
    """Return each parameter's levels and the level chosen in each trial."""
    found = {}
    for name in map(str, population.choices):
        column = population.choices[name]
        codes = dict(zip(population.figures["number"].tolist(), column.cat.codes.tolist(), strict=True))
        levels = list(map(str, column.cat.categories))
        found[name] = {"levels": levels, "codes": [codes.get(trial.number, -1) for trial in record.trials]}
    return found


def _over(record: StudyRecord, view: View) -> dict[int, str]:
    rows = [*(row for part in view.over.values() for row in part), *view.published]
    networks: list[TrialRow | PublishedPoint] = [*record.trials, *record.published]
    broken = {row: broken_limit(record.limits, networks[row]) for row in rows}
    # With several studies, perhaps only one has the limit that a network breaks.
    rest = {row: "over a limit of its study" for part in view.over.values() for row in part}
    return rest | {row: over_words(record, breach) for row, breach in broken.items() if breach}


def _groups(view: View, trials: int) -> list[int]:
    groups = [-1] * trials
    for part in (view.front, view.dominated, view.over, view.unfinished):
        for index, name in enumerate(view.groups):
            for row in part[name]:
                groups[row] = index
    return groups
