"""The first of the page: the answer to a budget beside the chart of the front, with its controls, filter and legend."""

from nasseg.analyse.parameters import Population
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill, resource
from nasseg.report.numbers.content import Content
from nasseg.report.numbers.front_view import View
from nasseg.report.parts import filters, summary
from nasseg.report.parts.answer import answer_beside

GUIDE = "How to read this chart"


def write(content: Content) -> Html | None:
    """Return the section; None before a network has finished."""
    if not content.histories:
        return None
    return front_section(
        content.view,
        answer=answer_beside(content),
        legend=summary.legend(content.view, content.record),
        filters=filters.filter_controls(content.figures, levels_of(content.networks)),
        thinned=summary.thinned_note(content.shown, content.record),
    )


def front_section(view: View, *, answer: Html | None = None, guide: str = "guide.html", **parts: Html | None) -> Html:
    """Return the section of these parts. guide: a file, in the panel where there is no answer."""
    axes = {"x": "Across", "y": "Upwards", "z": "Third"}
    selects = {f"{letter}_axis": summary.axis_select(view, letter, title) for letter, title in axes.items()}
    said = Html(resource(guide))
    panel = None if answer else text(tag("h3", GUIDE), said)
    below = tag("details", tag("summary", GUIDE), said, class_="note") if answer else None
    filled = {name: text(part) for name, part in {"answer": answer, "panel": panel, "below": below, **parts}.items()}
    return Html(fill("front.html", **selects, **filled))


def levels_of(networks: Population) -> dict[str, list[str]]:
    """Return the parameters to filter by, with their levels. Families are in the legend instead."""
    names = [name for name in map(str, networks.choices) if name != "family"]
    return {name: list(map(str, networks.choices[name].cat.categories)) for name in names}
