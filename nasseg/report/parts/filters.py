"""Filters by figures and parameters. They need the script, and are hidden without it."""

from collections.abc import Mapping, Sequence

from nasseg import words
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.numbers.front_view import Axis


def filter_controls(figures: Mapping[str, Axis], choices: Mapping[str, Sequence[str]]) -> Html:
    """Return a range for each figure, and the levels of each parameter. Groups are chosen in the legend."""
    ranges = []
    for name, axis in figures.items():
        sides = [
            tag(
                "input",
                inputmode="decimal",
                size=7,
                autocomplete="off",
                placeholder=word,
                data_figure=name,
                data_side=side,
                aria_label=f"{words.sentence(axis.label)}, {word}",
            )
            for side, word in (("min", "at least"), ("max", "at most"))
        ]
        title = words.sentence(axis.label) + (f", {axis.unit}" if axis.unit else "")
        ranges.append(tag("div", tag("span", title), tag("span", *sides, class_="range"), class_="field"))
    selects = []
    for name, levels in choices.items():
        options = [tag("option", "any", value=""), *(tag("option", v, value=i) for i, v in enumerate(levels))]
        selects.append(tag("label", tag("span", name), tag("select", *options, data_parameter=name), class_="field"))
    fields = text(tag("div", *ranges, class_="fields-grid"), tag("div", *selects, class_="fields-grid"))
    return tag("details", tag("summary", "Filter"), fields, id="filters", class_="script")
