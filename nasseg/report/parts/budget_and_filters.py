"""What the reader sets: a budget, and filters. Only the script makes them work, so without it they do not show."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nasseg import words
from nasseg.analyse.trials import best_within, trial_figures
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.numbers.front_view import Axis, family_of, finished_rows
from nasseg.report.parts.tables import link

BUDGETS = ("latency_ms", "latency_p90_ms", "latency_p99_ms", "macs", "params")


def budget_axes(figures: Mapping[str, Axis], gain: str) -> list[Axis]:
    """The figures that one may have a budget of, latency first."""
    return [figures[name] for name in BUDGETS if name in figures and name != gain]


def first_budget(record: StudyRecord, figure: str) -> float:
    """A round number near the middle of what finished networks take, at which there is an answer."""
    taken = [trial_figures(record.trials[row]).get(figure, math.nan) for row in finished_rows(record)]
    known = sorted(value for value in taken if math.isfinite(value))
    return max(known[0], float(f"{np.median(known):.2g}"))


def budget_controls(axes: list[Axis], budget: float) -> Html:
    options = [tag("option", words.sentence(axis.label), value=axis.name) for axis in axes]
    choose = tag("label", tag("span", "At most"), tag("select", *options, id="budget-figure"), class_="control")
    value = tag("input", id="budget-value", inputmode="decimal", size=8, autocomplete="off", aria_label="Budget")
    slider = tag("input", type="range", id="budget-slider", min=0, max=400, aria_label="Budget")
    unit = tag("span", axes[0].unit, id="budget-unit")
    parts = [choose, tag("span", value, unit, class_="control"), slider]
    return tag("div", *parts, class_="controls script", data_start=budget)


def answer(record: StudyRecord, figure: Axis, gain: Axis, budget: float) -> Html:
    """The best network within a budget, in a sentence. The script says the same of every other budget."""
    found = best_within(record, figure.name, budget, gain.name)
    if found is None:
        return text(f"No finished network is within {words.number(budget, figure.unit)}.")
    trial = next(trial for trial in record.trials if trial.number == found.number)
    spent = words.number(trial_figures(trial)[figure.name], figure.unit)
    ran = f" (published as {trial.extra['published']})" if "published" in trial.extra else None
    parts: list[object] = [f"Within {words.number(budget, figure.unit)}: "]
    parts += [tag("strong", link(found.number), " ", family_of(trial), ran), f", {gain.label} "]
    parts += [tag("strong", words.number(found.value, gain.unit)), f" at {spent}"]
    if found.runner_up is not None:
        parts += [", ", _margin(found.value, found.runner_up_value, gain), " the runner-up, ", link(found.runner_up)]
    if found.published is not None:
        parts += [", and " if found.runner_up is not None else ", "]
        parts += [_margin(found.value, found.published_value, gain), f" {found.published}"]
        parts.append(", the best published network within this budget.")
    else:
        parts.append(". No published network is known to be within this budget." if record.published else ".")
    return text(*parts)


def _margin(value: float, other: float, gain: Axis) -> str:
    if value == other:
        return "as much as"
    return f"{words.difference(value - other, gain.unit)} {'more' if value > other else 'less'} than"


def filter_controls(figures: Mapping[str, Axis], choices: Mapping[str, Sequence[str]]) -> Html:
    """A range a figure, a value a parameter (with its levels). Groups are chosen in the legend."""
    ranges = []
    for name, axis in figures.items():
        sides = [
            tag("input", inputmode="decimal", size=7, autocomplete="off", placeholder=word, data_figure=name,
                data_side=side, aria_label=f"{words.sentence(axis.label)}, {word}")
            for side, word in (("min", "at least"), ("max", "at most"))
        ]  # fmt: skip
        title = words.sentence(axis.label) + (f", {axis.unit}" if axis.unit else "")
        ranges.append(tag("div", tag("span", title), tag("span", *sides, class_="range"), class_="field"))
    selects = []
    for name, levels in choices.items():
        options = [tag("option", "any", value=""), *(tag("option", v, value=i) for i, v in enumerate(levels))]
        selects.append(tag("label", tag("span", name), tag("select", *options, data_parameter=name), class_="field"))
    fields = text(tag("div", *ranges, class_="fields-grid"), tag("div", *selects, class_="fields-grid"))
    return tag("details", tag("summary", "Filter"), fields, id="filters", class_="script")
