"""The report's figures: numbers of a record in, Plotly figures out."""

import math
from dataclasses import dataclass
from html import escape
from itertools import permutations
from typing import Any

import plotly.graph_objects as go

from nasseg.analyse.front import hypervolume_history, reference_box
from nasseg.analyse.table import directions, objective_values, on_front, outcome, trial_figures
from nasseg.records import Objective, StudyRecord, TrialRow

# Okabe and Ito's colours, told apart with any colour vision; shapes tell families apart in print too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "star")
INK, PALE, GRID = "#1f2933", "#9aa5b1", "#e4e7eb"


@dataclass(frozen=True)
class Point:
    """A trial that has all objectives."""

    trial: TrialRow
    family: str
    on_front: bool
    figures: dict[str, float]


def finished_points(record: StudyRecord) -> list[Point]:
    """The finished trials, copies left out."""
    front = on_front(record)
    return [
        Point(trial, str((trial.arch or {}).get("family", "unknown")), bool(on), trial_figures(trial))
        for trial, on in zip(record.trials, front, strict=True)
        if outcome(trial) == "finished"
    ]


def axis_title(objective: Objective) -> str:
    unit = f" ({escape(objective.unit)})" if objective.unit else ""
    better = "lower is better" if objective.direction == "minimize" else "higher is better"
    return f"{escape(objective.name)}{unit}, {better}"


def front_figures(record: StudyRecord) -> dict[str, go.Figure]:
    """The front seen along each ordered pair of objectives, by `x|y`; `x|x` where there is only one."""
    points = finished_points(record)
    names = {objective.name: objective for objective in record.objectives}
    pairs = list(permutations(names, 2)) or [(name, name) for name in names]
    return {f"{x}|{y}": front_figure(record, names[x], names[y], points) for x, y in pairs}


def front_figure(record: StudyRecord, x: Objective, y: Objective, points: list[Point] | None = None) -> go.Figure:
    """Finished trials by two objectives: the front of all objectives stands out, limits and published networks shown.

    Each point's customdata is its trial's number.
    """
    points = finished_points(record) if points is None else points
    figure = go.Figure()
    families = sorted({point.family for point in points} | {p.family for p in record.published})
    for index, family in enumerate(families):
        style = {"color": COLOURS[index % len(COLOURS)], "symbol": SHAPES[index % len(SHAPES)]}
        for on in (False, True):
            chosen = [point for point in points if point.family == family and point.on_front == on]
            if chosen:
                figure.add_trace(_scatter(chosen, x, y, family, on, style))
        _add_published(figure, record, x, y, family, style)
    _add_limits(figure, record, x, y)
    figure.update_layout(
        **_layout(), xaxis=_axis(axis_title(x)), yaxis=_axis(axis_title(y)),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        hovermode="closest", margin={"l": 64, "r": 16, "t": 48, "b": 56},
    )  # fmt: skip
    return figure


def _scatter(
    chosen: list[Point], x: Objective, y: Objective, family: str, on: bool, style: dict[str, Any]
) -> go.Scatter:
    label = f"{escape(family)}, {'on the front' if on else 'dominated'}"
    marker = {**style, "size": 12 if on else 8, "opacity": 1.0 if on else 0.35}
    marker["line"] = {"width": 1 if on else 0, "color": "white"}
    return go.Scatter(
        x=[point.trial.values.get(x.name) for point in chosen],
        y=[point.trial.values.get(y.name) for point in chosen],
        customdata=[point.trial.number for point in chosen],
        text=[hover_text(point) for point in chosen],
        mode="markers", name=label, marker=marker, hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def hover_text(point: Point) -> str:
    lines = [f"<b>trial {point.trial.number}</b>, {escape(point.family)}"]
    lines += [f"{escape(name)} {value:,.4g}" for name, value in point.figures.items() if name in point.trial.values]
    return "<br>".join(lines)


def _add_published(
    figure: go.Figure, record: StudyRecord, x: Objective, y: Objective, family: str, style: dict[str, Any]
) -> None:
    """Published networks, where both figures are known under the study's own protocols."""
    known = [p for p in record.published if p.family == family and x.name in p.figures and y.name in p.figures]
    if known:
        names = [escape(p.name) for p in known]
        marker = {**style, "symbol": "star", "size": 15, "line": {"width": 1, "color": INK}}
        figure.add_trace(
            go.Scatter(
                x=[p.figures[x.name] for p in known], y=[p.figures[y.name] for p in known], text=names,
                mode="markers+text", textposition="top center", textfont={"size": 11, "color": INK}, marker=marker,
                name=f"{escape(family)}, as published", hovertemplate="%{text}, as published<extra></extra>",
            )
        )  # fmt: skip


def _add_limits(figure: go.Figure, record: StudyRecord, x: Objective, y: Objective) -> None:
    line = {"color": PALE, "dash": "dash", "width": 1}
    for objective, add in ((x, figure.add_vline), (y, figure.add_hline)):
        for side, bound in record.limits.get(objective.name, {}).items():
            add(
                bound,
                line=line,
                annotation_text=f"{side} {bound:,.4g}",
                annotation_font={"size": 11, "color": "#52606d"},
            )


def hypervolume_figure(record: StudyRecord) -> go.Figure:
    """The share of the box between the worst and the best values that the front covers, trial by trial."""
    points = finished_points(record)
    figure = go.Figure()
    values = objective_values(record, [point.trial for point in points])
    if len(values):
        box = reference_box(values, directions(record))
        history = hypervolume_history(values, box.reference, directions(record)) / box.volume
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(points) + 1)), y=[float(v) for v in history], mode="lines",
                line={"color": COLOURS[0], "width": 2, "shape": "hv"},
                hovertemplate="%{x} networks: %{y:.3f}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(
        **_layout(), xaxis=_axis("networks trained"), yaxis=_axis("hypervolume (share of the box)"),
        showlegend=False, margin={"l": 64, "r": 16, "t": 16, "b": 56},
    )  # fmt: skip
    figure.update_yaxes(range=[0, 1])
    return figure


def _layout() -> dict[str, Any]:
    font = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK}
    return {"font": font, "paper_bgcolor": "white", "plot_bgcolor": "white"}


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 12}, "gridcolor": GRID, "zeroline": False, "linecolor": PALE,
        "ticks": "outside", "exponentformat": "SI", "tickcolor": PALE, "automargin": True,
    }  # fmt: skip


def number(value: float | None) -> str:
    """A figure as people read it: thousands and millions by suffix, four digits."""
    if value is None or not math.isfinite(value):
        return "-"
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if suffix == ' k' else size):,.4g}{suffix}"
    return f"{value:,.4g}"
