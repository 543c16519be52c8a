"""The report's page: one self-contained HTML file that needs no network and no server."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from nasseg import words
from nasseg.analyse.parameters import Population, importance_frame, population_of
from nasseg.analyse.trials import on_front, outcome, trial_figures, trials_frame
from nasseg.records import StudyRecord
from nasseg.report.charts.front import CONFIG, front_figures, hover_texts, hypervolume_figure
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill, library, packed, packed_json, policy, resource
from nasseg.report.html.scripts import bundle
from nasseg.report.numbers import certainty
from nasseg.report.numbers.columns import choices_of, figures_of, rows_data
from nasseg.report.numbers.front_view import Axis, History, View, axis_of, histories_of, view_of
from nasseg.report.numbers.sample_trials import thinned
from nasseg.report.parts import budget_and_filters, later_results, parameters, search_history, summary, tables
from nasseg.report.parts.network_panel import published_detail, trial_detail

LIBRARY = "plotly.min.js"  # beside the pages that share it


def render(record: StudyRecord, shared: bool = False, since: str | None = None) -> str:
    """Return a study's page. shared: the plotting library is a file beside it.

    since: a date; opens with the changes since.
    """
    content = _content(record)
    shown, view, histories = content.shown, content.view, content.histories
    return whole_page(
        shared,
        title=record.name,
        kicker="Design-space search",
        question=record.question.strip(),
        about=about(record.created, len(tables.front_rows(shown, view))),
        headline=text(summary.headline(record, shown, view), summary.tiles(record, shown, view)),
        sections=text(
            section("since", f"Since {since}", later_results.since_table(record, since)) if since else None,
            _known_section("finished", "Trained to the end", later_results.finished_table(record)),
            _known_section("again", "Latency measured again", later_results.remeasured_table(record)),
            _budget(content) if histories else None,
            _front(record, content) if histories else None,
            _population(content) if histories else None,
            _known_section("cheap", "How well cheap figures predict accuracy", later_results.cheap_table(record)),
            section(
                "search",
                "How the search went",
                _history(record, histories),
                search_history.rungs_table(record),
                search_history.spent_table(record),
                tag("h3", "Trials that are not in the figures"),
                tables.ledger(record),
            ),
            section(
                "origin",
                "Where these figures come from",
                tables.protocols_table(record),
                titled("Published networks beside the study's own", tables.published_table(record)),
                tables.provenance(record),
            ),
        ),
        payload=payload(content),
        details=_details(content),
        table=table_data([record], trials_frame(record)),
    )


def whole_page(shared: bool, *, payload: object, details: object, table: str, **parts: str) -> str:
    """Return the page around its parts, with the script and its data."""
    script = bundle("page.js")
    plotly, code = ("", None) if shared else library()
    return fill(
        "page.html",
        policy=policy(script, code),
        style=stylesheet(),
        library=tag("script", Html(plotly), type="text/plain", id="library", data_src=LIBRARY if shared else None),
        payload=Html(packed_json(payload)),
        details=Html(packed_json(details)),
        table=Html(packed(table)),
        script=Html(script),
        **parts,
    )


def guide(name: str = "guide.html") -> Html:
    """Return the panel's text before a network is chosen."""
    return Html(resource(name))


def stylesheet() -> Html:
    return Html(resource("page.css"))


def about(created: str, front: int) -> Html:
    """Return the page's meta tags for an index, besides title and question."""
    facts = {"nasseg-created": words.moment(created), "nasseg-front": front}
    return text(*(tag("meta", name_=name, content=value) for name, value in facts.items()))


def table_data(records: Sequence[StudyRecord], frame: pd.DataFrame) -> str:
    """Return all trials and the facts of their studies as JSON, for download."""
    studies = [
        {
            **{key: getattr(record, key) for key in ("name", "question", "limits", "identity", "environment")},
            **{key: getattr(record, key) for key in ("command", "created", "study_file")},
            "objectives": [vars(objective) for objective in record.objectives],
            "published": [vars(point) for point in record.published],
        }
        for record in records
    ]
    rows = frame.to_json(orient="split", index=False, double_precision=15)
    return f'{{"studies":{json.dumps(finite(studies), allow_nan=False, separators=(",", ":"))},"trials":{rows}}}'


def finite(value: Any) -> Any:
    """Return plain data with None for the numbers that JSON lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def section(name: str, title: str, *parts: Html | None) -> Html:
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *parts, aria_labelledby=f"{name}-title")


def _known_section(name: str, title: str, body: Html | None) -> Html | None:
    return section(name, title, body) if body else None


def titled(title: str, body: Html | None) -> Html | None:
    return text(tag("h3", title), body) if body else None


@dataclass(frozen=True)
class Content:
    """A page's numbers. `shown`: the study's trials on the page; rows are places in it."""

    shown: StudyRecord
    view: View
    histories: dict[str, History]
    networks: Population  # of the whole study
    rows: dict[int, int]  # a network's place in the population -> its row
    figures: dict[str, Axis]
    gain: Axis
    certainty: certainty.Certainty


def _content(record: StudyRecord) -> Content:
    networks = population_of(record)
    gain = networks.target
    shown = thinned(record, gain, budget_and_filters.BUDGETS)
    view = view_of(shown)
    places = {trial.number: row for row, trial in enumerate(shown.trials)}
    numbers = networks.figures["number"]
    figures = figures_of(shown, view)
    return Content(
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
    """Return a history with the page's rows; -1 for trials that are not on it."""
    return replace(history, rows=[places[row] for row in history.rows])


def payload(content: Content) -> dict[str, Any]:
    """Return the data that the script reads first: figures, filters and ranks.

    Texts of marks are kept once for each row.
    """
    gain = content.gain
    return {
        **front_data(content.shown.name, content.view),
        "hypervolume": {name: hypervolume_figure(h).to_plotly_json() for name, h in content.histories.items()},
        "rows": rows_data(content.shown, content.view, choices_of(content.shown, content.networks)),
        "budget": {
            "gain": {"name": gain.name, "label": gain.label, "unit": gain.unit, "direction": gain.direction},
            "trained": budget_and_filters.is_trained(content.shown, gain),
            "apart": content.certainty.apart,
        },
        "population": _population_data(content),
    }


def front_data(name: str, view: View) -> dict[str, Any]:
    """Return the script's data for the front."""
    figures = front_figures(view)
    return {
        "study": name,
        "config": CONFIG,
        "fronts": {x: {y: _light(figure) for y, figure in row.items()} for x, row in figures.items()},
        "log": {name: axis.log for name, axis in view.axes.items()},
        "directions": {name: axis.direction for name, axis in view.axes.items()},
        "hover": hover_texts(view),
    }


def _light(figure: go.Figure) -> dict[str, Any]:
    """Return a figure without its trials' texts, which the script knows by row."""
    data = figure.to_plotly_json()
    for trace in data["data"]:
        if trace.get("meta") == "trials":
            del trace["text"]
    return data


def _details(content: Content) -> list[dict[str, Any]]:
    """Return the panel's data for each row: trials in their order, then published networks."""
    shown = content.shown
    trials = {trial.number: trial for trial in shown.trials}
    details = []
    for row, (trial, front) in enumerate(zip(shown.trials, on_front(shown).tolist(), strict=True)):
        sure = certainty.group(content.certainty, trial, row) if outcome(trial) == "finished" else None
        details.append(trial_detail(shown, trial, front, sure, trials))
    return details + [published_detail(shown, point) for point in shown.published]


def _population_data(content: Content) -> dict[str, Any] | None:
    """Return the charts of the population, with the objectives as the last axes of the lines."""
    gain, known = content.gain, [trial_figures(trial) for trial in content.shown.trials]
    names = [o.name for o in content.shown.objectives if o.name != gain.name and o.name in content.figures]
    columns = {name: [row.get(name) for row in known] for name in [*names, gain.name] if name in content.figures}
    axes = {name: (content.figures[name], column) for name, column in columns.items()}
    front = [row for part in content.view.front.values() for row in part]
    return parameters.section_data(content.networks, gain, axes, front, content.rows)


def _budget(content: Content) -> Html:
    axes = budget_and_filters.budget_axes(content.figures, content.gain.name)
    if not axes:
        return Html("")
    budget = budget_and_filters.first_budget(content.shown, axes[0].name)
    return Html(
        fill(
            "budget.html",
            controls=budget_and_filters.budget_controls(axes, budget),
            answer=budget_and_filters.answer(content.shown, axes[0], content.gain, budget, content.certainty),
        )
    )


def levels_of(networks: Population) -> dict[str, list[str]]:
    """Return the parameters to filter by, with their levels. Families are in the legend instead."""
    names = [name for name in map(str, networks.choices) if name != "family"]
    return {name: list(map(str, networks.choices[name].cat.categories)) for name in names}


def _front(record: StudyRecord, content: Content) -> Html:
    shown, view, sure = content.shown, content.view, content.certainty
    return Html(
        fill(
            "front.html",
            x_axis=summary.axis_select(view, "x", "Across"),
            y_axis=summary.axis_select(view, "y", "Upwards"),
            z_axis=summary.axis_select(view, "z", "Third"),
            legend=summary.legend(view, record),
            filters=budget_and_filters.filter_controls(content.figures, levels_of(content.networks)),
            thinned=summary.thinned_note(shown, record) or Html(""),
            guide=guide(),
            table=tables.front_table(shown, view, sure.chances),
            certainty=text(tables.doubts_note(shown, view), tag("p", certainty.note(sure, shown), class_="note")),
        )
    )


def _population(content: Content) -> Html:
    networks, gain = content.networks, content.gain
    frame = importance_frame(networks)
    if frame.empty:
        return Html("")
    return Html(
        fill(
            "population.html",
            select=parameters.parameter_select(frame),
            first=parameters.sentence(next(frame.itertuples()), networks, gain),
            table=parameters.table(networks, gain),
            note=parameters.note(networks, gain),
        )
    )


def _history(record: StudyRecord, histories: dict[str, History]) -> Html | None:
    if not histories:
        return None
    note = search_history.history_note(record, next(iter(histories.values())))
    return text(tag("h3", "Hypervolume"), note, search_history.history_chart(histories))
