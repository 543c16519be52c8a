"""The front: the chart with its controls and filter, the panel, and the table below."""

from collections.abc import Sequence
from typing import Any

from nasseg.analyse.parameters import Population
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill, resource
from nasseg.report.numbers import certainty
from nasseg.report.numbers.content import Content
from nasseg.report.numbers.front_view import View
from nasseg.report.parts import filters, for_paper, summary, tables


def write(content: Content) -> Html | None:
    """Return the section; None before a network is measured."""
    if not content.view.drawn:
        return None
    shown, view, sure = content.shown, content.view, content.certainty
    early = any(view.unfinished.values())
    none = tag("p", "No network has finished yet: cost and latency are measured before training.", class_="note")
    return front_section(
        view,
        list(map(str, content.networks.choices)),
        legend=summary.legend(view, content.record),
        filters=filters.filter_controls(content.figures, levels_of(content.networks)),
        thinned=summary.thinned_note(shown, content.record),
        guide="guide_unfinished.html" if early else "guide.html",
        table=none if early else tables.front_table(shown, view, sure.chances),
        certainty=text(tables.doubts_note(shown, view), tag("p", certainty.note(sure, shown), class_="note")),
    )


def data(content: Content) -> dict[str, Any]:
    """Return what the script copies for a paper."""
    record = content.record
    return {"study": record.name, "latex": for_paper.latex_front(record), "bibtex": for_paper.bibtex(record)}


def front_section(view: View, parameters: Sequence[str], *, guide: str = "guide.html", **parts: Html | None) -> Html:
    """Return the section of these parts. guide: the file of what the panel says before a network is chosen."""
    axes = {"x": "Across", "y": "Upwards", "z": "Third"}
    selects = {f"{letter}_axis": summary.axis_select(view, parameters, letter, title) for letter, title in axes.items()}
    heading = "Cost and latency so far" if any(view.unfinished.values()) else "The front"
    filled = {name: text(part) for name, part in parts.items()}
    colour = summary.colour_select(view, parameters)
    files = {"guide": Html(resource(guide)), "save": Html(resource("save_figure.html"))}
    return Html(fill("front.html", heading=heading, colour=colour, **files, **selects, **filled))


def levels_of(networks: Population) -> dict[str, list[str]]:
    """Return the parameters to filter by, with their levels. Families are in the legend instead."""
    names = [name for name in map(str, networks.choices) if name != "family"]
    return {name: list(map(str, networks.choices[name].cat.categories)) for name in names}
