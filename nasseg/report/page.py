"""The report's page: one HTML file that needs nothing else, neither a network nor a server."""

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from nasseg.analyse.population import Population, importance_frame, population_of
from nasseg.analyse.table import on_front, outcome, trial_figures, trials_frame
from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.records import StudyRecord
from nasseg.report import certainty, controls, population, sections, tables
from nasseg.report.details import published_detail, trial_detail
from nasseg.report.figures import CONFIG, front_figures, hover_texts, hypervolume_figure
from nasseg.report.markup import Html, tag, text
from nasseg.report.rows import figures_of, rows_data
from nasseg.report.thin import thinned
from nasseg.report.view import Axis, History, View, axis_of, history_of, view_of

_SCRIPTS = ("panel.js", "compare.js", "filter.js", "budget.js", "population.js", "page.js")
_HERE = Path(__file__).parent


def write_report(record: StudyRecord, path: Path | str) -> Path:
    """Write a study's report as one self-contained HTML file, whole or not at all. Equal records give equal files.

    Raises:
        UserError: the file cannot be written.
    """
    target = Path(path)
    page = render(record)
    try:
        with written_whole(target) as partial:
            partial.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the report {target}: {error.strerror}; choose another place with -o") from None
    return target


def render(record: StudyRecord) -> str:
    """The page as text."""
    content = _content(record)
    script = "".join(map(_file, _SCRIPTS))
    library, library_hash = _library()
    shown, view, history = content.shown, content.view, content.history
    return _fill(
        "page.html",
        policy=_policy(_hash(script), library_hash),
        title=record.name,
        question=record.question.strip(),
        style=Html(_file("page.css")),
        headline=sections.headline(record, shown, view),
        tiles=sections.tiles(record, shown, view),
        budget=_budget(content) if history else Html(""),
        front=_front(record, content) if history else Html(""),
        population=_population(content) if history else Html(""),
        history=_history(record, history),
        ledger=tables.ledger(record),
        protocols=tables.protocols(record) or Html(""),
        published=_titled("Published networks beside the study's own", tables.published_table(record)),
        provenance=tables.provenance(record),
        library=Html(library),
        payload=Html(_packed(_json(payload(content)))),
        details=Html(_packed(_json(_details(content)))),
        csv=Html(_packed(trials_frame(record).to_csv(index=False))),
        script=Html(script),
    )


@dataclass(frozen=True)
class Content:
    """A page's numbers. `shown`: the study as far as the page holds it; rows are places in it."""

    shown: StudyRecord
    view: View
    history: History | None
    networks: Population  # of the whole study
    rows: dict[int, int]  # a network's place in the population -> its row
    figures: dict[str, Axis]
    gain: Axis
    certainty: certainty.Certainty


def _content(record: StudyRecord) -> Content:
    networks = population_of(record)
    gain = networks.target
    shown = thinned(record, gain, controls.BUDGETS)
    view = view_of(shown)
    places = {trial.number: row for row, trial in enumerate(shown.trials)}
    numbers = networks.figures["number"]
    figures = figures_of(shown, view)
    return Content(
        shown=shown,
        view=view,
        history=_rows_shown(history_of(record), record, places),
        networks=networks,
        rows={i: places[number] for i, number in zip(numbers.index, numbers, strict=True) if number in places},
        figures=figures,
        gain=figures.get(gain) or axis_of(record, gain, []),
        certainty=certainty.certainty_of(shown),
    )


def _rows_shown(history: History | None, record: StudyRecord, places: dict[int, int]) -> History | None:
    """A history with the page's rows, -1 for trials that are not on it; of a long one only the steps."""
    if history is None:
        return None
    rows = [places.get(number, -1) for number in history.numbers]
    if len(places) == len(record.trials):
        return replace(history, rows=rows)
    share = history.share
    steps = [i for i in range(len(share)) if i in (0, len(share) - 1) or share[i] > share[i - 1]]
    numbers = [history.numbers[i] for i in steps]
    return replace(history, numbers=numbers, rows=[rows[i] for i in steps], share=[share[i] for i in steps])


def payload(content: Content) -> dict[str, Any]:
    """What the script reads first: figures, and what it filters and ranks by. Texts of marks are kept once a row."""
    view, history = content.view, content.history
    figures = front_figures(view)
    gain = content.gain
    return {
        "study": content.shown.name,
        "config": CONFIG,
        "fronts": {x: {y: _light(figure) for y, figure in row.items()} for x, row in figures.items()},
        "log": {name: axis.log for name, axis in view.axes.items()},
        "directions": {name: axis.direction for name, axis in view.axes.items()},
        "hover": hover_texts(view),
        "hypervolume": hypervolume_figure(history).to_plotly_json() if history else None,
        "rows": {**rows_data(content.shown, view, content.networks), "groups": list(view.families)},
        "budget": {"gain": {"name": gain.name, "label": gain.label, "unit": gain.unit, "direction": gain.direction}},
        "population": _population_data(content),
    }


def _light(figure: go.Figure) -> dict[str, Any]:
    """A figure without its trials' texts, which the script knows by row."""
    data = figure.to_plotly_json()
    for trace in data["data"]:
        if trace.get("meta") == "trials":
            del trace["text"]
    return data


def _details(content: Content) -> list[dict[str, Any]]:
    """A panel for each row: trials in their order, then published networks."""
    shown = content.shown
    details = []
    for row, (trial, front) in enumerate(zip(shown.trials, on_front(shown).tolist(), strict=True)):
        sure = certainty.group(content.certainty, trial, row) if outcome(trial) == "finished" else None
        details.append(trial_detail(shown, trial, front, sure))
    return details + [published_detail(shown, point) for point in shown.published]


def _population_data(content: Content) -> dict[str, Any] | None:
    """Figures of the population, with the objectives as the last axes of the lines."""
    gain, known = content.gain, [trial_figures(trial) for trial in content.shown.trials]
    names = [o.name for o in content.shown.objectives if o.name != gain.name and o.name in content.figures]
    columns = {name: [row.get(name) for row in known] for name in [*names, gain.name] if name in content.figures}
    axes = {name: (content.figures[name], column) for name, column in columns.items()}
    front = [row for part in content.view.front.values() for row in part]
    return population.section_data(content.networks, gain, axes, front, content.rows)


def _budget(content: Content) -> Html:
    axes = controls.budget_axes(content.figures, content.gain.name)
    if not axes:
        return Html("")
    budget = controls.first_budget(content.shown, axes[0].name)
    return Html(
        _fill(
            "budget.html",
            controls=controls.budget_controls(axes, budget),
            answer=controls.answer(content.shown, axes[0], content.gain, budget),
        )
    )


def _front(record: StudyRecord, content: Content) -> Html:
    shown, view, sure = content.shown, content.view, content.certainty
    return Html(
        _fill(
            "front.html",
            x_axis=sections.axis_select(view, "x", "Across"),
            y_axis=sections.axis_select(view, "y", "Upwards"),
            legend=sections.legend(view, record),
            filters=controls.filter_controls(content.figures, content.networks),
            thinned=sections.thinned_note(shown, record) or Html(""),
            table=tables.front_table(shown, view, sure.chances),
            certainty=tag("p", certainty.note(sure, shown), class_="note") if sure.chances is not None else Html(""),
        )
    )


def _population(content: Content) -> Html:
    networks, gain = content.networks, content.gain
    frame = importance_frame(networks)
    if frame.empty:
        return Html("")
    return Html(
        _fill(
            "population.html",
            select=population.parameter_select(frame),
            first=population.sentence(next(frame.itertuples()), networks, gain),
            table=population.table(networks, gain),
            note=population.note(networks, gain),
        )
    )


def _history(record: StudyRecord, history: History | None) -> Html:
    if history is None:
        return Html("")
    chart = tag("div", id="hypervolume", class_="chart low", role="img", aria_label="Hypervolume over the trials")
    return text(tag("h3", "Hypervolume"), tables.history_note(record, history), chart)


def _titled(title: str, body: Html | None) -> Html:
    return text(tag("h3", title), body) if body else Html("")


def _fill(name: str, **parts: str) -> str:
    """A template with its parts; what is not `Html` is escaped."""
    return Template(_file(name)).substitute({key: text(part) for key, part in parts.items()})


def _policy(*script_hashes: str) -> str:
    """Content security: the browser itself refuses every request, and every script but the page's own two."""
    scripts = " ".join(f"'sha256-{value}'" for value in script_hashes)
    style, image = "style-src 'unsafe-inline'", "img-src data: blob:"
    return f"default-src 'none'; script-src {scripts}; {style}; {image}; base-uri 'none'; form-action 'none'"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _library() -> tuple[str, str]:
    """plotly.js as a packed block, and its hash."""
    library = get_plotlyjs()
    return _packed(library), _hash(library)


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _packed(content: str) -> str:
    """Text as a compressed block that page.js unpacks; base64 holds nothing that could end the script element."""
    return base64.b64encode(gzip.compress(content.encode(), 6, mtime=0)).decode()


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
