"""Every trial in one table. The script fills, sorts and filters it, and opens what is clicked."""

from collections.abc import Sequence
from typing import Any

from nasseg.analyse.trials import shown_figures, trial_figures
from nasseg.figures import figure_in
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html
from nasseg.report.html.one_file import resource
from nasseg.report.numbers.content import Content


def write(content: Content) -> Html | None:
    """Return the section; None before a network has finished."""
    return trials_section() if content.histories else None


def trials_section() -> Html:
    return Html(resource("every_trial.html"))


def data(content: Content) -> dict[str, Any]:
    """Return the table's columns."""
    return columns_of(content.record)


def columns_of(record: StudyRecord, before: Sequence[str] = ()) -> dict[str, Any]:
    """Return the table's columns: the first, the known figures with their units, and the rest.

    first, last: names; figures: [name, label, unit]; params: names of the fields that the search chose.
    """
    known = [name for name in shown_figures(record) if any(name in trial_figures(trial) for trial in record.trials)]
    figures = [figure_in(record, name) for name in known]
    params = dict.fromkeys(name.partition(".")[2] or name for trial in record.trials for name in trial.params)
    return {
        "first": [*before, "number", "family", "outcome"],
        "figures": [[figure.name, figure.label, figure.unit] for figure in figures],
        "params": [name for name in params if name != "family"],
        "last": ["reason"],
    }
