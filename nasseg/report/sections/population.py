"""The section on parameters: which ones matter here? A sentence for each, a table, and charts."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nasseg import words
from nasseg.analyse.parameters import Population, edf_frame, importance_frame
from nasseg.analyse.trials import trial_figures
from nasseg.figures import label_of
from nasseg.report.charts.parameters import edf_figure, effects_figure, importance_figure, parallel_figure
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill
from nasseg.report.numbers.content import Content
from nasseg.report.numbers.front_view import Axis

_ANSWERS = {"matters": "Yes", "hardly matters": "Hardly", "undecided": "Undecided"}


def write(content: Content) -> Html | None:
    """Return the section; None if nothing varies."""
    if not content.histories:
        return None
    networks, gain = content.networks, content.gain
    frame = importance_frame(networks)
    if frame.empty:
        return None
    return Html(
        fill(
            "population.html",
            select=parameter_select(frame),
            first=sentence(next(frame.itertuples()), networks, gain),
            table=table(networks, gain),
            note=note(networks, gain),
        )
    )


def data(content: Content) -> dict[str, Any] | None:
    """Return the charts of the population, with the objectives as the last axes of the lines."""
    gain, known = content.gain, [trial_figures(trial) for trial in content.shown.trials]
    names = [o.name for o in content.shown.objectives if o.name != gain.name and o.name in content.figures]
    columns = {name: [row.get(name) for row in known] for name in [*names, gain.name] if name in content.figures}
    axes = {name: (content.figures[name], column) for name, column in columns.items()}
    front = [row for part in content.view.front.values() for row in part]
    return section_data(content.networks, gain, axes, front, content.rows)


def sentence(row: Any, population: Population, target: Axis) -> str:
    """Return whether a parameter matters, in words, from its row of `importance_frame`."""
    among = f"{row.n:,} {f'{row.family} ' if isinstance(row.family, str) else ''}network{'s' if row.n != 1 else ''}"
    equal = f"at equal {label_of(population.cost)}" if population.cost else "whatever the cost"
    start = f"{_ANSWERS[row.verdict]}: "
    if math.isnan(row.share):
        if row.n < 20:
            return f"{start}{among} with {row.parameter} {'are' if row.n != 1 else 'is'} too few to tell."
        return f"{start}among {among}, no two values of {row.parameter} occur at the same cost: no conclusion."
    if row.verdict == "hardly matters":
        share = f"at most {words.percent(row.high)}"
        return (
            f"{start}{equal}, {row.parameter} accounts for {share} of the differences in {target.label} among {among}."
        )
    share = f"{words.percent(row.share)} ({words.percent(row.low)} to {words.percent(row.high)})"
    text = f"{start}{equal}, {row.parameter} accounts for {share} of the differences in {target.label} among {among}"
    if row.verdict == "undecided":
        return f"{text}, but chance alone could do that (p = {row.p:.2g}). More networks would decide."
    if row.best is None:
        return f"{text}."
    low, high = (f"{value:.3g}" for value in (row.gain_low, row.gain_high))
    gain = words.difference(row.gain, target.unit)
    return f"{text}. Best is {row.best}: better than {row.worst} by {gain} ({low} to {high})."


def section_data(
    population: Population,
    target: Axis,
    figures: Mapping[str, tuple[Axis, list[float | None]]],
    front: list[int],
    rows: Mapping[int, int],
) -> dict[str, Any] | None:
    """Return the script's data: charts and a sentence for each parameter; None without parameters."""
    if population.choices.empty or not len(population.choices.columns):
        return None
    frame, parameters = importance_frame(population), {}
    for row in frame.itertuples():
        name = str(row.parameter)
        known = edf_frame(population, name)
        bins = known["bin"].where(known["row"].isin(list(rows))).dropna().astype(int)
        parameters[name] = {
            "sentence": sentence(row, population, target),
            "verdict": row.verdict,
            "effects": effects_figure(population, name, target, rows).to_plotly_json(),
            "edf": edf_figure(known, target, rows),
            "bins": [part.tolist() for _, part in bins.groupby(known["value"], observed=True)],
            "equal": bool((known["bin"] >= 0).any()),
        }
    return {
        "parameters": parameters,
        "importance": importance_figure(population).to_plotly_json(),
        "parallel": parallel_figure(population, figures, front, rows).to_plotly_json(),
    }


def parameter_select(frame: pd.DataFrame) -> Html:
    options = [tag("option", str(name), value=str(name)) for name in frame["parameter"]]
    return tag("select", *options, id="parameter")


def table(population: Population, target: Axis) -> Html:
    """Return a table of every parameter with its sentence: the charts' content, without a script."""
    rows = [
        tag("tr", tag("td", str(row.parameter)), tag("td", sentence(row, population, target)))
        for row in importance_frame(population).itertuples()
    ]
    head = tag("tr", tag("th", "Parameter", scope="col"), tag("th", "Does it matter?", scope="col"))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="scroll", tabindex="0")


def note(population: Population, target: Axis) -> Html:
    cost = label_of(population.cost) if population.cost else None
    held = (
        f"The trend of {target.label} with {cost} is removed, so that no value looks good for being large; "
        if cost
        else "No cost is known, so a value may look good for being large; "
    )
    return text(
        f"{held}the share is the part of the remaining variance that the parameter explains, with 95 % intervals "
        "from an analysis of variance in which the other parameters vary as the search drew them. A search draws "
        "its preferred values together, so close calls are only hints. Parameters count only where they are active."
    )
