"""The page's first section: the answer to a budget, and the chart of the front with its controls, filter and legend."""

from collections.abc import Sequence

from nasseg.analyse.parameters import Population
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill, resource
from nasseg.report.numbers.content import Content
from nasseg.report.numbers.front_view import View
from nasseg.report.parts import filters, summary
from nasseg.report.parts.answer import answer_beside

GUIDE = "How to read this chart"


def write(content: Content) -> Html | None:
    """Return the section; None before a network is measured."""
    if not content.view.drawn:
        return None
    finished = bool(content.histories)
    return front_section(
        content.view,
        list(map(str, content.networks.choices)),
        answer=answer_beside(content) if finished else None,
        guide="guide.html" if finished else "guide_unfinished.html",
        legend=summary.legend(content.view, content.record),
        filters=filters.filter_controls(content.figures, levels_of(content.networks)),
        thinned=summary.thinned_note(content.shown, content.record),
    )


def front_section(
    view: View,
    parameters: Sequence[str],
    *,
    answer: Html | None = None,
    guide: str = "guide.html",
    **parts: Html | None,
) -> Html:
    """Return the section with these parts. guide: a file, shown in the panel if there is no answer."""
    axes = {"x": "Across", "y": "Upwards", "z": "Third"}
    selects = {f"{letter}_axis": summary.axis_select(view, parameters, letter, title) for letter, title in axes.items()}
    heading = "Cost and latency so far" if any(view.unfinished.values()) else "The front"
    said = Html(resource(guide))
    beside = {
        "answer": answer,
        "save": Html(resource("save_figure.html")),
        "key": summary.key_of_marks(),
        "panel": None if answer else text(tag("h3", GUIDE), said),
        "below": tag("details", tag("summary", GUIDE), said, class_="note") if answer else None,
    }
    filled = {name: text(part) for name, part in {**beside, **parts}.items()}
    return Html(
        fill("front.html", heading=heading, colour=summary.colour_select(view, parameters), **selects, **filled)
    )


def levels_of(networks: Population) -> dict[str, list[str]]:
    """Return the parameters to filter by, with their levels. Families are in the legend instead."""
    names = [name for name in map(str, networks.choices) if name != "family"]
    return {name: list(map(str, networks.choices[name].cat.categories)) for name in names}
