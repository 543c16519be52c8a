"""The front: the chart with its controls and filter, the panel, and the table below."""

from typing import Any

from nasseg.analyse.parameters import Population
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill, resource
from nasseg.report.numbers import certainty
from nasseg.report.numbers.content import Content
from nasseg.report.numbers.front_view import View
from nasseg.report.parts import filters, for_paper, summary, tables


def write(content: Content) -> Html | None:
    """Return the section; None before a network has finished."""
    if not content.histories:
        return None
    shown, view, sure = content.shown, content.view, content.certainty
    return front_section(
        view,
        legend=summary.legend(view, content.record),
        filters=filters.filter_controls(content.figures, levels_of(content.networks)),
        thinned=summary.thinned_note(shown, content.record),
        table=tables.front_table(shown, view, sure.chances),
        certainty=text(tables.doubts_note(shown, view), tag("p", certainty.note(sure, shown), class_="note")),
    )


def data(content: Content) -> dict[str, Any]:
    """Return what the script copies for a paper."""
    record = content.record
    return {"study": record.name, "latex": for_paper.latex_front(record), "bibtex": for_paper.bibtex(record)}


def front_section(view: View, *, guide: str = "guide.html", **parts: Html | None) -> Html:
    """Return the section of these parts. guide: the file of what the panel says before a network is chosen."""
    axes = {"x": "Across", "y": "Upwards", "z": "Third"}
    selects = {f"{letter}_axis": summary.axis_select(view, letter, title) for letter, title in axes.items()}
    filled = {name: text(part) for name, part in parts.items()}
    files = {"guide": Html(resource(guide)), "save": Html(resource("save_figure.html"))}
    return Html(fill("front.html", **files, **selects, **filled))


def levels_of(networks: Population) -> dict[str, list[str]]:
    """Return the parameters to filter by, with their levels. Families are in the legend instead."""
    names = [name for name in map(str, networks.choices) if name != "family"]
    return {name: list(map(str, networks.choices[name].cat.categories)) for name in names}
