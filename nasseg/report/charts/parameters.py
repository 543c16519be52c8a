"""Charts of a population: the effects of its parameters. They only draw; nasseg.analyse.parameters computes.

`rows` maps a network's place in the population to its row on the page; networks without a row are not drawn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nasseg.analyse.parameters import Population, importance_frame
from nasseg.report.charts.front import (
    COLOURS,
    DASHES,
    INK,
    MUTED,
    escape,
    figure_layout,
    mark,
    plain_figure,
    wrapped,
)
from nasseg.report.numbers.front_view import Axis
from nasseg.words import number, percent, sentence

VERDICTS = {  # colour, symbol, size
    "matters": (COLOURS[0], "circle", 11),
    "undecided": ("#8a94a0", "circle-open", 10),
    "hardly matters": ("#8a94a0", "x-thin", 9),
}
_STRIP = 300  # networks drawn behind the means
_LINES = 300  # dominated networks drawn as lines
_AXES = 5  # parameters among the lines' axes


def importance_figure(population: Population) -> go.Figure:
    """Draw each parameter's share of the differences at equal cost, with its interval."""
    frame = importance_frame(population).dropna(subset="share")
    labels = {str(name): wrapped(str(name), 30) for name in frame["parameter"]}
    names = list(labels.values())[::-1]
    traces = []
    for verdict, (colour, symbol, size) in VERDICTS.items():
        part = frame[frame["verdict"] == verdict]
        share, low, high = (100 * part[column] for column in ("share", "low", "high"))
        spread = {"type": "data", "symmetric": False, "array": (high - share).tolist(), "thickness": 1.4, "width": 0}
        found: Any = part.itertuples()
        texts = [
            f"<b>{escape(str(row.parameter))}</b><br>{percent(row.share)} ({percent(row.low)} to {percent(row.high)})"
            for row in found
        ]
        traces.append(
            go.Scatter(
                x=share.tolist(),
                y=[labels[str(name)] for name in part["parameter"]],
                mode="markers",
                name=verdict,
                customdata=part["parameter"].tolist(),
                meta="parameters",
                text=texts,
                cliponaxis=False,
                error_x={**spread, "arrayminus": (share - low).tolist(), "color": colour},
                marker={"color": colour, "symbol": symbol, "size": size, "line": {"color": colour, "width": 2}},
                hovertemplate="%{text}<extra></extra>",
            )
        )
    layout = figure_layout(
        {"title": {"text": "Share, %"}, "rangemode": "tozero"},
        {"type": "category", "categoryorder": "array", "categoryarray": names, "ticks": ""},
    )
    if not names:
        layout |= _reason("Too few networks to judge any parameter.")
    return go.Figure(data=traces, layout={**layout, "height": 110 + 26 * max(2, len(names))})


def effects_figure(population: Population, name: str, target: Axis, rows: Mapping[int, int] | None = None) -> go.Figure:
    """Draw the effect of each value of a parameter at equal cost: mean and interval, with the networks behind."""
    fit = population.fits[name]
    place = {level: i for i, level in enumerate(fit.levels)}
    drawn = [row for row in fit.rest.index if rows is None or row in rows]
    drawn = drawn[:: max(1, math.ceil(len(drawn) / _STRIP))]
    jitter = 0.32 * (np.arange(len(drawn)) * 0.618034 % 1 - 0.5)  # evenly spread and reproducible
    strip = go.Scatter(
        x=[place[str(v)] + j for v, j in zip(population.choices.loc[drawn, name], jitter.round(3), strict=True)],
        y=[float(f"{value:.4g}") for value in fit.rest.loc[drawn]],
        customdata=[row if rows is None else rows[row] for row in drawn],
        meta="networks",
        mode="markers",
        marker={"color": MUTED, "size": 5, "opacity": 0.25},
        name="networks",
        showlegend=False,
        text=[f"<b>#{n}</b>" for n in population.figures.loc[drawn, "number"]],
        hovertemplate="%{text}<extra></extra>",
    )
    known = np.flatnonzero(np.isfinite(fit.effects))
    centre, low, high = (values[known] for values in (fit.effects, fit.low, fit.high))
    texts = [
        f"<b>{escape(fit.levels[i])}</b><br>{e:+.3g} ({a:+.3g} to {b:+.3g})"
        for i, e, a, b in zip(known, centre, low, high, strict=True)
    ]
    means = go.Scatter(
        x=known.tolist(),
        y=centre.tolist(),
        mode="markers",
        meta="means",
        name="mean",
        showlegend=False,
        text=texts,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (high - centre).tolist(),
            "arrayminus": (centre - low).tolist(),
            "color": COLOURS[0],
            "thickness": 2,
            "width": 7,
        },
        marker={"color": COLOURS[0], "size": 10},
        hovertemplate="%{text}<extra></extra>",
    )
    ticks = [f"{escape(level)}<br>({n:,})" for level, n in zip(fit.levels, fit.counts.tolist(), strict=True)]
    x: dict[str, Any] = {"tickvals": list(place.values()), "ticktext": ticks, "range": [-0.5, len(ticks) - 0.5]}
    unit = " in points" if target.unit == "%" else f" in {target.unit}" if target.unit else ""
    x["title"] = {"text": escape(name)}
    up = {"text": escape(f"{sentence(target.label)}{unit}, from the average"), "font": {"size": 12}}
    y: dict[str, Any] = {"title": up}
    y |= {"zeroline": True, "zerolinecolor": "#9aa5b1"}
    layout = figure_layout(x, y)
    if not len(known):
        layout |= _reason("No value has a mean at equal cost yet.")
    if not (fit.rest.abs() > 1e-9).any():  # too few networks: the trend passes through all of them
        layout["yaxis"] |= {"range": [-1, 1]}
    return go.Figure(data=[strip, means], layout=layout)


def edf_figure(distribution: pd.DataFrame, target: Axis, rows: Mapping[int, int]) -> dict[str, Any]:
    """Draw the distribution of the target from `edf_frame`, a line per value. A lower line has more large targets.

    The first point of a line only marks where it leaves zero and is no network. Every network is a point of every
    parameter's chart, so this is plain data.
    """
    traces, on_page = [], distribution["row"].isin(list(rows))
    for index, (level, part) in enumerate(distribution.groupby("value", observed=True)):
        shown = part[on_page[part.index]]
        x, y = shown["target"].tolist(), shown["share"].round(5).tolist()
        traces.append(
            {
                "type": "scatter",
                "x": [*x[:1], *x],
                "y": [*([0.0] if x else []), *y],
                "customdata": [*([-1] if x else []), *(rows[row] for row in shown["row"])],
                "meta": "edf",
                "mode": "lines",
                "name": f"{escape(str(level))} ({len(part):,})",
                "hovertemplate": "%{y:.0%}",
                "line": {"shape": "hv", "color": COLOURS[index % len(COLOURS)], "width": 2, "dash": DASHES[index % 8]},
            }
        )
    unit = f", {target.unit}" if target.unit else ""
    across = {"title": {"text": escape(sentence(target.label) + unit)}}
    up = {"title": {"text": "Share of networks at or below"}, "range": [0, 1.02], "tickformat": ".0%"}
    return plain_figure(traces, {**figure_layout(across, up), "showlegend": True})


def parallel_figure(
    population: Population,
    figures: Mapping[str, tuple[Axis, Sequence[float | None]]],
    front: Sequence[int],
    rows: Mapping[int, int] | None = None,
) -> go.Figure:
    """Draw networks as lines over the parameters that matter most and over figures (axis and column over the rows).

    The front is drawn in full, dominated networks as an even sample. A line passes through the dash of a parameter that
    is not active in its network.
    """
    parameters = [n for n in importance_frame(population)["parameter"] if n != "family"][:_AXES]
    parameters = [*(["family"] if "family" in population.choices else []), *parameters]
    places = {
        row: row if rows is None else rows[row] for row in population.figures.index if rows is None or row in rows
    }
    columns = [_levels_on_axis(population.choices[name], list(places)) for name in parameters]
    columns += [_scaled(axis, [values[row] for row in places.values()]) for axis, values in figures.values()]
    titles = [wrapped(name.replace(".", ". ", 1), 16).replace(". ", ".") for name in parameters]
    titles += [wrapped(sentence(axis.label), 16) for axis, _ in figures.values()]
    lines = np.stack([places for places, _ in columns], axis=1) if columns else np.empty((len(places), 0))
    order = {row: i for i, row in enumerate(places.values())}
    best = [row for row in front if row in order]
    rest = [row for row in order if row not in set(best)]
    rest = rest[:: max(1, math.ceil(len(rest) / _LINES))]
    families = dict(zip(places.values(), population.figures.loc[list(places), "family"], strict=True))
    across = [*range(len(columns)), None]
    traces = []
    for dimmed, chosen in ((True, rest), (False, best)):
        for index, family in enumerate(population.families):
            members = [row for row in chosen if families[row] == family]
            drawn = [
                [*(None if math.isnan(v) else v for v in lines[order[row]].round(4).tolist()), None] for row in members
            ]
            line = {"color": mark(index)[0], "width": 1 if dimmed else 1.8}
            traces.append(
                go.Scatter(
                    x=across * len(members),
                    y=[value for points in drawn for value in points],
                    mode="lines",
                    customdata=[row for row in members for _ in across],
                    meta="lines",
                    line=line,
                    showlegend=False,
                    opacity=0.2 if dimmed else 0.75,
                    name=escape(family),
                    hoverinfo="text",
                )
            )
    labels = [note for i, (_, ticks) in enumerate(columns) for note in _tick_labels(i, ticks)]
    rules = [
        {"type": "line", "x0": i, "x1": i, "y0": -0.14, "y1": 1.04, "layer": "below", "line": {"color": "#9aa5b1"}}
        for i in range(len(columns))
    ]
    x = {"tickvals": list(range(len(columns))), "ticktext": titles, "side": "top", "range": [-0.15, len(columns) - 0.4]}
    x |= {"showgrid": False, "showline": False, "ticks": "", "tickangle": 0, "tickfont": {"size": 11}}
    y = {"visible": False, "range": [-0.18, 1.08]}
    layout = {**figure_layout(x, y), "annotations": labels, "shapes": rules}
    # For the page, which turns part of an axis into a choice of levels, or a range of a figure.
    ends = {name: _ends([values[row] for row in places.values()]) for name, (_, values) in figures.items()}
    layout["meta"] = {
        "axes": [
            *({"parameter": name} for name in parameters),
            *({"figure": name, "ends": ends[name], "log": axis.log} for name, (axis, _) in figures.items()),
        ]
    }
    layout["margin"] = {"l": 16, "r": 16, "t": 56, "b": 12}
    return go.Figure(data=traces, layout=layout)


def _ends(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return [min(known, default=0.0), max(known, default=0.0)]


def _levels_on_axis(column: pd.Series, rows: list[int]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    levels = list(map(str, column.cat.categories))
    step = 1 / max(1, len(levels) - 1)
    codes = column.loc[rows].cat.codes.to_numpy()
    ticks = [(i * step, level) for i, level in enumerate(levels)]
    absent = codes < 0
    # Lines that share a value are drawn side by side.
    jitter = 0.05 * min(step, 0.6) * (2 * (np.arange(len(codes)) * 0.618034 % 1) - 1)
    return np.where(absent, -0.1, codes * step) + jitter, [*ticks, *([(-0.1, "not active")] if absent.any() else [])]


def _scaled(axis: Axis, values: Sequence[float | None]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    column = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    known = column[np.isfinite(column)]
    if not len(known):
        return column, []
    low, high = float(known.min()), float(known.max())
    ends = [(0.0, number(low, axis.unit)), (1.0, number(high, axis.unit))]
    if low == high:
        return np.where(np.isfinite(column), 0.5, math.nan), [(0.5, number(low, axis.unit))]
    if axis.log:
        return np.log(column / low) / math.log(high / low), ends
    return (column - low) / (high - low), ends


def _reason(text: str) -> dict[str, Any]:
    """Return an annotation in the middle of a chart that says why it is empty."""
    at = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    return {"annotations": [{"text": text, **at, "font": {"size": 13, "color": MUTED}, "bgcolor": "white"}]}


def _tick_labels(index: int, ticks: list[tuple[float, str]]) -> list[dict[str, Any]]:
    font = {"size": 11, "color": INK}
    style = {"showarrow": False, "xanchor": "left", "xshift": 4, "font": font, "bgcolor": "rgba(255,255,255,0.75)"}
    return [{"x": index, "y": y, "text": escape(text), **style} for y, text in ticks]
