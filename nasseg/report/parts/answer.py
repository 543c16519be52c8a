"""The best network within a budget: its figures, its weakest classes, and what they are based on.

Only the script can change the budget; without it, the page shows the first answer. The script writes other answers in
the same way (web/choices/answer.js), from `data`.
"""

import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from nasseg import words
from nasseg.analyse.trials import best_within, contenders, is_disturbed, outcome, trial_figures
from nasseg.figures import figure_in
from nasseg.records import StudyRecord, TrialRow
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill
from nasseg.report.numbers.certainty import Certainty
from nasseg.report.numbers.content import BUDGETS, Content
from nasseg.report.numbers.front_view import DISTURBED, Axis, family_of, over_words
from nasseg.report.parts.predictions import pictures
from nasseg.report.parts.tables import link

WEAKEST = 3


def answer_beside(content: Content) -> Html | None:
    """Return the choice of a budget and its first answer; None if no figure can have a budget."""
    axes = budget_axes(content.figures, content.gain.name)
    if not axes:
        return None
    limited = [axis for axis in axes if "max" in content.shown.limits.get(axis.name, {})]
    first = (limited or axes)[0]
    budget = first_budget(content.shown, first.name)
    shown = answer(content, first.name, budget)
    found = best_within(content.shown, first.name, budget, content.gain.name)
    examples = pictures(content.record.examples, found.number) if found else None
    return Html(fill("answer.html", controls=_controls(axes, first, budget), answer=shown, pictures=text(examples)))


def data(content: Content) -> dict[str, Any]:
    """Return the script's data to rank networks within a budget and to describe the best one.

    cards: row -> [index of what its figures are based on, its weakest classes]. export: the parts of the command around
    the network's number.
    """
    record, gain = content.shown, content.gain
    found: dict[str, int] = {}
    cards: dict[int, Any] = {}
    for row, trial in enumerate(record.trials):
        if outcome(trial) == "finished":
            basis = _basis(record, trial, content.certainty)
            cards[row] = [found.setdefault(basis, len(found)), _weakest(trial)]
    file = re.sub(r"[^\w.-]+", "-", record.name, flags=re.ASCII)
    return {
        "gain": {"name": gain.name, "label": gain.label, "unit": gain.unit, "direction": gain.direction},
        "trained": _is_trained(record, gain),
        "apart": content.certainty.apart,
        "bases": list(found),
        "cards": cards,
        "export": [f"nasseg export {shlex.quote(f'{record.name}#')[:-1]}", f"' -o {file}-", ".onnx"],
    }


def budget_axes(figures: Mapping[str, Axis], gain: str) -> list[Axis]:
    """Return the figures that may have a budget, latency first."""
    return [figures[name] for name in BUDGETS if name in figures and name != gain]


def first_budget(record: StudyRecord, figure: str) -> float:
    """Return the study's own limit, or a round number near the middle of its networks' values.

    Both have an answer if any network keeps all limits.
    """
    limit = record.limits.get(figure, {}).get("max")
    if limit is not None:
        return limit
    trials = [trial for trial, counts in zip(record.trials, contenders(record), strict=True) if counts]
    known = sorted(value for trial in trials if math.isfinite(value := trial_figures(trial).get(figure, math.nan)))
    return max(known[0], float(f"{np.median(known):.2g}")) if known else 1.0


def _controls(axes: list[Axis], first: Axis, budget: float) -> Html:
    options = [tag("option", words.sentence(a.label), value=a.name, selected=a.name == first.name) for a in axes]
    choose = tag("label", tag("span", "At most"), tag("select", *options, id="budget-figure"), class_="control")
    value = tag("input", id="budget-value", inputmode="decimal", size=8, autocomplete="off", aria_label="Budget")
    slider = tag("input", type="range", id="budget-slider", min=0, max=400, aria_label="Budget")
    unit = tag("span", first.unit, id="budget-unit")
    parts = [choose, tag("span", value, unit, class_="control"), slider]
    return tag("div", *parts, class_="controls script", data_start=budget)


def _is_trained(record: StudyRecord, gain: Axis) -> bool:
    """Return whether a figure comes from training, and so varies from seed to seed."""
    return figure_in(record, gain.name).phase == "trained"


def answer(content: Content, figure: str, budget: float) -> Html:
    """Describe the best network within a budget of a figure."""
    record, gain = content.shown, content.gain
    found = best_within(record, figure, budget, gain.name)
    if found is None:
        within = words.number(budget, content.figures[figure].unit)
        return tag("p", f"No finished network is within {within} and all limits of the study.")
    trial = next(trial for trial in record.trials if trial.number == found.number)
    ran = f", published as {trial.extra['published']}" if "published" in trial.extra else None
    known = trial_figures(trial)
    shown = [content.figures[name] for name in _three(content, figure) if name in known]
    figures = [tag("li", tag("strong", words.number(known[a.name], a.unit)), " ", a.label) for a in shown]
    weakest = [tag("span", part, class_="poor" if poor else None) for part, poor in _weakest(trial)]
    listed = [part for span in weakest for part in (", ", span)][1:]
    basis = _basis(record, trial, content.certainty)
    axis = content.figures[figure]
    best = f"Best with {axis.label} up to {words.number(budget, axis.unit)}."
    return text(
        tag("p", tag("strong", link(found.number), " ", family_of(trial), ran), class_="name"),
        tag("ul", *figures, class_="figures"),
        tag("p", "Weakest classes: ", *listed, class_="weakest") if listed else None,
        tag("p", *_comparison(content, figure, budget)),
        tag("p", best, f" Based on {basis}." if basis else None, class_="note"),
        tag("p", f"{words.sentence(DISTURBED)}.", class_="warning") if is_disturbed(trial) else None,
    )


def _three(content: Content, figure: str) -> list[str]:
    """Return the names of the figures to show: the maximised one, the one with the budget, and one more."""
    first = [content.gain.name, figure]
    return [*first, *(name for name in content.figures if name not in first)][:3]


def _weakest(trial: TrialRow) -> list[tuple[str, bool]]:
    """Return the classes with the lowest IoU, the worst first, and whether each is as good as missed."""
    known = trial.accuracy.class_iou.items() if trial.accuracy else ()
    lowest = sorted(((iou, name) for name, iou in known if iou is not None), key=lambda item: item[0])[:WEAKEST]
    return [(f"{name} {iou:.1f} %", iou < 10) for iou, name in lowest]


def _basis(record: StudyRecord, trial: TrialRow, certainty: Certainty) -> str:
    """Return what a network's figures are based on, in one line."""
    parts = []
    if accuracy := trial.accuracy:
        same, whole = certainty.seeds.get(trial.number), record.identity.get("accuracy protocol", {}).get("steps")
        seeds, steps = 1 if same is None else same.seeds, accuracy.protocol.steps
        parts += [
            f"{seeds} seed{'s' if seeds > 1 else ''}",
            f"{steps:,} of {whole:,} steps" if whole else f"{steps:,} steps",
        ]
        parts.append(f"{accuracy.protocol.split} split")
    if latency := trial.measurement and trial.measurement.latency:
        protocol, machine = latency.protocol, latency.environment
        if target := latency.target.get("device"):
            parts.append(target)
        elif protocol.device == "cpu":
            parts += [machine.cpu, f"{protocol.threads} thread{'s' if protocol.threads > 1 else ''}"]
        else:
            parts.append(machine.gpu or protocol.device)
        parts.append(protocol.precision)
    return ", ".join(parts)


def _comparison(content: Content, figure: str, budget: float) -> list[object]:
    """Compare the best network within a budget with the runner-up and the best published one, in words."""
    record, gain, certainty = content.shown, content.gain, content.certainty
    found = best_within(record, figure, budget, gain.name)
    assert found is not None
    trained = _is_trained(record, gain)
    apart = certainty.apart if trained else None
    known = found.published is not None and found.published_over is None
    leads = []
    if found.runner_up is not None:
        runner_up = text("the runner-up, ", link(found.runner_up))
        leads.append(_lead(found.value, found.runner_up_value, gain, apart, runner_up))
    if known:
        leads.append(_lead(found.value, found.published_value, gain, apart, text(found.published)))
    parts: list[object] = [f"{words.sentence(gain.label)}: ", leads[0]] if leads else []
    parts += [", and ", *leads[1:]] if leads[1:] else []
    parts.append(", the best published network within this budget. " if known else ". " if leads else "")
    if found.published_over is not None:
        value, over = words.number(found.published_value, gain.unit), over_words(record, found.published_over)
        parts.append(f"Published {found.published}: {value}, but {over}. ")
    elif not known and record.published:
        parts.append("No published network is known to be within this budget. ")
    if trained and certainty.apart is None and leads:
        parts.append("Each has only one seed, so another seed may change the order.")
    return parts


def _lead(value: float, other: float, gain: Axis, apart: float | None, who: Html) -> Html:
    """Compare a value with another in words. apart: how much seeds differ; None if not known."""
    by = words.difference(value - other, gain.unit)
    if value == other:
        return text("as much as ", who)
    if apart and abs(value - other) < apart:
        seeds = words.difference(apart, gain.unit)
        return text("too close to call with ", who, f" ({by} apart; two seeds of one network differ by up to {seeds})")
    return text(f"{by} {'more' if value > other else 'less'} than ", who)
