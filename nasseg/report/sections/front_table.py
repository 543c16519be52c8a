"""The networks on the front as a table, and how certain the front is."""

from typing import Any

from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill
from nasseg.report.numbers import certainty
from nasseg.report.numbers.content import Content
from nasseg.report.parts import for_paper, tables


def write(content: Content) -> Html | None:
    """Return the section; None before a network is measured."""
    shown, view, sure = content.shown, content.view, content.certainty
    if not view.drawn:
        return None
    if not content.histories:
        none = "No network has finished yet: cost and latency are measured before training."
        return table_section(tag("p", none, class_="note"), None)
    said = text(tables.doubts_note(shown, view), tag("p", certainty.note(sure, shown), class_="note"))
    return table_section(tables.front_table(shown, view, sure.chances), said)


def data(content: Content) -> dict[str, Any]:
    """Return the text that the script copies for a paper."""
    record = content.record
    latex = for_paper.latex_front(record) if content.histories else ""
    return {"study": record.name, "latex": latex, "bibtex": for_paper.bibtex(record)}


def table_section(table: Html, certainty: Html | None) -> Html:
    return Html(fill("front_table.html", table=table, certainty=text(certainty)))
