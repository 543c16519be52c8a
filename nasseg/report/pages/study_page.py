"""The report's page: one self-contained HTML file that needs no network and no server."""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from nasseg import words
from nasseg.analyse.trials import on_front, outcome
from nasseg.records import StudyRecord
from nasseg.report.charts.front import CONFIG, axis_layout, axis_title, front_template, hover_texts, limit_shapes
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill, library, packed, packed_json, packed_list, policy, resource, scripts_in
from nasseg.report.html.scripts import bundle
from nasseg.report.numbers import certainty
from nasseg.report.numbers.all_trials import all_trials
from nasseg.report.numbers.columns import choices_of, rows_data
from nasseg.report.numbers.content import Content, content_of
from nasseg.report.numbers.front_view import View
from nasseg.report.parts import predictions, tables
from nasseg.report.parts.network_panel import BETTER, published_detail, trial_detail
from nasseg.report.sections import SECTIONS, Section

LIBRARY = "plotly.min.js"  # beside the pages that share it


def render(record: StudyRecord, shared: bool = False, since: str | None = None) -> str:
    """Return a study's page. shared: the plotting library is a file beside it.

    since: a date; the page opens with the changes since.
    """
    content = content_of(record, since)
    shown, view = content.shown, content.view
    sections = {section: part for section in SECTIONS if (part := section.write(content)) is not None}
    return whole_page(
        shared,
        title=record.name,
        kicker="Design-space search",
        question=record.question.strip(),
        about=about(record.created, len(tables.front_rows(shown, view))),
        sections=text(*sections.values()),
        payload=payload(content, sections),
        details=_details(content),
        pictures=_pictures(content),
        table=table_data([record], all_trials(record)),
    )


def whole_page(
    shared: bool, *, payload: object, details: Iterable[object], pictures: object, table: str, **parts: str
) -> str:
    """Return a page with these parts, the script and its data."""
    script = bundle(*scripts_in("sections"), "page.js")
    plotly, code = ("", None) if shared else library()
    return fill(
        "page.html",
        policy=policy(script, code),
        style=stylesheet(),
        library=tag("script", Html(plotly), type="text/plain", id="library", data_src=LIBRARY if shared else None),
        payload=Html(packed_json(payload)),
        details=Html(packed_list(details)),
        pictures=Html(packed_json(pictures)),
        table=Html(packed(table)),
        script=Html(script),
        **parts,
    )


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
    """Return plain data with None for numbers that JSON lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def payload(content: Content, shown: Collection[Section] = SECTIONS) -> dict[str, Any]:
    """Return the data that the script reads first: figures, filters and ranks. shown: the page's sections.

    Texts of marks are kept once per row.
    """
    return {
        **front_data(content.shown.name, content.view),
        "rows": rows_data(content.shown, content.view, choices_of(content.shown, content.networks)),
        **{section.key: section.data(content) for section in SECTIONS if section.data and section in shown},
    }


def front_data(name: str, view: View) -> dict[str, Any]:
    """Return the script's data for the front: a figure to fill, and the axes to choose from."""
    return {
        "study": name,
        "config": CONFIG,
        "front": front_template(view),
        "axes": {
            name: {
                "title": axis_title(axis),
                "direction": axis.direction,
                "log": axis.log,
                "layout": axis_layout(axis),
                "limits": {letter: limit_shapes(axis, letter) for letter in "xy"},
            }
            for name, axis in view.axes.items()
        },
        "halves": view.halves,
        "hover": hover_texts(view),
        "better": BETTER,
    }


def _details(content: Content) -> Iterator[dict[str, Any]]:
    """Yield the panel's data for each row: trials in their order, then published networks."""
    shown = content.shown
    trials = {trial.number: trial for trial in shown.trials}
    for row, (trial, front) in enumerate(zip(shown.trials, on_front(shown).tolist(), strict=True)):
        sure = certainty.group(content.certainty, trial, row) if outcome(trial) == "finished" else None
        yield trial_detail(shown, trial, front, sure, trials)
    yield from (published_detail(shown, point) for point in shown.published)


def _pictures(content: Content) -> dict[str, Any]:
    """Return networks' predictions, for each row that has some."""
    examples = content.record.examples
    rows = {row: examples[t.number] for row, t in enumerate(content.shown.trials) if t.number in examples}
    return predictions.data(rows)
