"""The best network within a budget. Only the script changes the budget; without it there is the first answer."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nasseg import words
from nasseg.analyse.trials import best_within, contenders, is_disturbed, trial_figures
from nasseg.figures import figure_in
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill
from nasseg.report.numbers.certainty import Certainty
from nasseg.report.numbers.content import BUDGETS, Content
from nasseg.report.numbers.front_view import DISTURBED, Axis, family_of, over_words
from nasseg.report.parts.tables import link


def write(content: Content) -> Html | None:
    """Return the section; None where no figure can have a budget."""
    axes = budget_axes(content.figures, content.gain.name)
    if not axes or not content.histories:
        return None
    budget = first_budget(content.shown, axes[0].name)
    return Html(
        fill(
            "budget.html",
            controls=budget_controls(axes, budget),
            answer=answer(content.shown, axes[0], content.gain, budget, content.certainty),
        )
    )


def data(content: Content) -> dict[str, Any]:
    """Return what the script ranks networks within a budget by."""
    gain = content.gain
    return {
        "gain": {"name": gain.name, "label": gain.label, "unit": gain.unit, "direction": gain.direction},
        "trained": is_trained(content.shown, gain),
        "apart": content.certainty.apart,
    }


def budget_axes(figures: Mapping[str, Axis], gain: str) -> list[Axis]:
    """Return the figures that may have a budget, latency first."""
    return [figures[name] for name in BUDGETS if name in figures and name != gain]


def first_budget(record: StudyRecord, figure: str) -> float:
    """Return the study's own limit, or a round number near the middle of its networks' values.

    At either there is an answer, if any network keeps all limits.
    """
    limit = record.limits.get(figure, {}).get("max")
    if limit is not None:
        return limit
    trials = [trial for trial, counts in zip(record.trials, contenders(record), strict=True) if counts]
    known = sorted(value for trial in trials if math.isfinite(value := trial_figures(trial).get(figure, math.nan)))
    return max(known[0], float(f"{np.median(known):.2g}")) if known else 1.0


def budget_controls(axes: list[Axis], budget: float) -> Html:
    options = [tag("option", words.sentence(axis.label), value=axis.name) for axis in axes]
    choose = tag("label", tag("span", "At most"), tag("select", *options, id="budget-figure"), class_="control")
    value = tag("input", id="budget-value", inputmode="decimal", size=8, autocomplete="off", aria_label="Budget")
    slider = tag("input", type="range", id="budget-slider", min=0, max=400, aria_label="Budget")
    unit = tag("span", axes[0].unit, id="budget-unit")
    parts = [choose, tag("span", value, unit, class_="control"), slider]
    return tag("div", *parts, class_="controls script", data_start=budget)


def is_trained(record: StudyRecord, gain: Axis) -> bool:
    """Return whether a figure comes from training, so that it varies from seed to seed."""
    return figure_in(record, gain.name).phase == "trained"


def answer(record: StudyRecord, figure: Axis, gain: Axis, budget: float, certainty: Certainty) -> Html:
    """Describe the best network within a budget in a sentence. The script does the same for every other budget."""
    found = best_within(record, figure.name, budget, gain.name)
    if found is None:
        return text(f"No finished network is within {words.number(budget, figure.unit)} and all limits of the study.")
    trial = next(trial for trial in record.trials if trial.number == found.number)
    spent = words.number(trial_figures(trial)[figure.name], figure.unit)
    ran = f" (published as {trial.extra['published']})" if "published" in trial.extra else None
    doubt = f" ({DISTURBED})" if is_disturbed(trial) else ""
    parts: list[object] = [f"Within {words.number(budget, figure.unit)}: "]
    parts += [tag("strong", link(found.number), " ", family_of(trial), ran), f", {gain.label} "]
    parts += [tag("strong", words.number(found.value, gain.unit)), f" at {spent}{doubt}"]
    known = found.published is not None and found.published_over is None
    trained = is_trained(record, gain)
    apart = certainty.apart if trained else None
    if found.runner_up is not None:
        runner_up = text("the runner-up, ", link(found.runner_up))
        parts += [", ", _lead(found.value, found.runner_up_value, gain, apart, runner_up)]
    if known:
        parts += [", and " if found.runner_up is not None else ", "]
        parts += [_lead(found.value, found.published_value, gain, apart, text(found.published))]
        parts.append(", the best published network within this budget.")
    elif found.published_over is not None:
        over = over_words(record, found.published_over)
        value = words.number(found.published_value, gain.unit)
        parts.append(f". Published {found.published}: {value}, but {over}.")
    else:
        parts.append(". No published network is known to be within this budget." if record.published else ".")
    if trained and certainty.apart is None and (found.runner_up is not None or known):
        parts.append(" Each has one seed only, so another seed may change the order.")
    return text(*parts)


def _lead(value: float, other: float, gain: Axis, apart: float | None, who: Html) -> Html:
    """Compare a value with another's in words. apart: by how much seeds differ; None if not known."""
    by = words.difference(value - other, gain.unit)
    if value == other:
        return text("as much as ", who)
    if apart and abs(value - other) < apart:
        seeds = words.difference(apart, gain.unit)
        return text("too close to call with ", who, f" ({by} apart; two seeds of one network differ by up to {seeds})")
    return text(f"{by} {'more' if value > other else 'less'} than ", who)
