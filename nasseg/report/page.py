"""The report's page: one HTML file that needs nothing else, neither a network nor a server."""

import base64
import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from nasseg.analyse.table import on_front, trials_frame
from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.records import StudyRecord
from nasseg.report import sections, tables
from nasseg.report.details import published_detail, trial_detail
from nasseg.report.figures import CONFIG, front_figures, hypervolume_figure
from nasseg.report.markup import Html, tag, text
from nasseg.report.view import History, View, history_of, view_of

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
    view, history = view_of(record), history_of(record)
    script = _file("panel.js") + _file("page.js")
    library, library_hash = _library()
    return _fill(
        "page.html",
        policy=_policy(_hash(script), library_hash),
        title=record.name,
        question=record.question.strip(),
        style=Html(_file("page.css")),
        headline=sections.headline(record, view),
        tiles=sections.tiles(record, view),
        front=_front(record, view) if history else Html(""),
        history=_history(record, history),
        ledger=tables.ledger(record),
        protocols=tables.protocols(record) or Html(""),
        published=_titled("Published networks beside the study's own", tables.published_table(record)),
        provenance=tables.provenance(record),
        library=Html(library),
        payload=Html(_packed(json.dumps(payload(record, view, history), allow_nan=False, separators=(",", ":")))),
        script=Html(script),
    )


def payload(record: StudyRecord, view: View, history: History | None) -> dict[str, Any]:
    """What the script reads: figures, and a panel for each row (trials in their order, then published networks)."""
    figures = front_figures(view)
    front = on_front(record).tolist()
    details = [trial_detail(record, trial, on) for trial, on in zip(record.trials, front, strict=True)]
    return {
        "study": record.name,
        "config": CONFIG,
        "fronts": {x: {y: figure.to_plotly_json() for y, figure in row.items()} for x, row in figures.items()},
        "log": {name: axis.log for name, axis in view.axes.items()},
        "hypervolume": hypervolume_figure(history).to_plotly_json() if history else None,
        "details": details + [published_detail(record, point) for point in record.published],
        "csv": trials_frame(record).to_csv(index=False),
    }


def _front(record: StudyRecord, view: View) -> Html:
    return Html(
        _fill(
            "front.html",
            x_axis=sections.axis_select(view, "x", "Across"),
            y_axis=sections.axis_select(view, "y", "Upwards"),
            legend=sections.legend(view),
            table=tables.front_table(record, view),
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


def _packed(content: str) -> str:
    """Text as a compressed block that page.js unpacks; base64 holds nothing that could end the script element."""
    return base64.b64encode(gzip.compress(content.encode(), 9, mtime=0)).decode()


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
