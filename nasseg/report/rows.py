"""What the page's script filters by and ranks: one column a figure over all rows, and what was chosen in each trial."""

from typing import Any

import numpy as np

from nasseg.analyse.population import Population
from nasseg.analyse.table import trial_figures
from nasseg.records import StudyRecord
from nasseg.report import words
from nasseg.report.view import Axis, View, axis_of, family_of

_FIGURES = ("latency_ms", "macs", "params", "miou")


def figures_of(record: StudyRecord, view: View) -> dict[str, Axis]:
    """The objectives, then the usual figures, as far as finished trials have them."""
    drawn = [row for rows in (view.front, view.dominated) for part in rows.values() for row in part]
    known = [trial_figures(record.trials[row]) for row in sorted(drawn)]
    names = dict.fromkeys([*(objective.name for objective in record.objectives), *_FIGURES])
    found = {name: [row[name] for row in known if np.isfinite(row.get(name, np.nan))] for name in names}
    return {name: axis_of(record, name, list(values)) for name, values in found.items() if values}


def rows_data(record: StudyRecord, view: View, population: Population) -> dict[str, Any]:
    """Columns over the rows: trials in their order, then published networks.

    numbers, families (null for none), networks (a number each architecture), finished (rows), figures (name -> column),
    choices (parameter -> its levels, and the index of each trial's, -1 where it is not active).
    """
    trials, points = record.trials, record.published
    figures = [trial_figures(trial) for trial in trials] + [dict(point.figures) for point in points]
    ids = [trial.measurement.arch_id if trial.measurement else f"#{trial.number}" for trial in trials]
    seen = {name: index for index, name in enumerate(dict.fromkeys(ids))}
    return {
        "numbers": [trial.number for trial in trials],
        "families": [family_of(trial) for trial in trials] + [point.family for point in points],
        "networks": [seen[name] for name in ids],
        "finished": sorted(row for rows in (view.front, view.dominated) for part in rows.values() for row in part),
        "ran": {row: trial.extra["published"] for row, trial in enumerate(trials) if "published" in trial.extra},
        "names": [point.name for point in points],
        "figures": {
            name: {
                "label": words.label(name),
                "unit": axis.unit,
                "values": [value if np.isfinite(value := row.get(name, np.nan)) else None for row in figures],
            }
            for name, axis in figures_of(record, view).items()
        },
        "choices": {name: _codes(record, population, name) for name in map(str, population.choices)},
    }


def _codes(record: StudyRecord, population: Population, name: str) -> dict[str, Any]:
    column = population.choices[name]
    numbers = population.figures["number"].tolist()
    codes = dict(zip(numbers, column.cat.codes.tolist(), strict=True))
    levels = list(map(str, column.cat.categories))
    return {"levels": levels, "codes": [codes.get(trial.number, -1) for trial in record.trials]}
