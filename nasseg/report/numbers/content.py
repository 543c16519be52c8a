"""The numbers of a study's page: everything that its sections show, before drawing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasseg.analyse.parameters import Population, population_of
from nasseg.records import StudyRecord
from nasseg.report.numbers import certainty
from nasseg.report.numbers.columns import figures_of
from nasseg.report.numbers.front_view import Axis, History, View, axis_of, histories_of, view_of
from nasseg.report.numbers.sample_trials import thinned

BUDGETS = ("latency_ms", "latency_p90_ms", "latency_p99_ms", "macs", "params")


@dataclass(frozen=True)
class Content:
    """A page's numbers. `shown`: the study with the trials on the page; rows are indices into it."""

    record: StudyRecord
    since: str | None
    shown: StudyRecord
    view: View
    histories: dict[str, History]
    networks: Population  # of the whole study
    rows: dict[int, int]  # a network's place in the population -> its row
    figures: dict[str, Axis]
    gain: Axis
    certainty: certainty.Certainty


def content_of(record: StudyRecord, since: str | None = None) -> Content:
    """Return the numbers of a study's page. since: a date; the page then opens with the changes since."""
    networks = population_of(record)
    gain = networks.target
    shown = thinned(record, gain, BUDGETS)
    view = view_of(shown)
    places = {trial.number: row for row, trial in enumerate(shown.trials)}
    numbers = networks.figures["number"]
    figures = figures_of(shown, view)
    return Content(
        record=record,
        since=since,
        shown=shown,
        view=view,
        histories={
            name: rows_shown(history, [places.get(trial.number, -1) for trial in record.trials])
            for name, history in histories_of(record).items()
        },
        networks=networks,
        rows={i: places[number] for i, number in zip(numbers.index, numbers, strict=True) if number in places},
        figures=figures,
        gain=figures.get(gain) or axis_of(record, gain, []),
        certainty=certainty.certainty_of(shown),
    )


def rows_shown(history: History, places: Sequence[int]) -> History:
    """Return a history with the page's rows; -1 for trials that are not on the page."""
    return replace(history, rows=[places[row] for row in history.rows])
