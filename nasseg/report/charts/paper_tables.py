"""Figures of papers' tables: printed numbers beside ours, and the printed speed and accuracy."""

import textwrap
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from nasseg.analyse.paper_table import Cell, Column, Comparison, Verdict, number, text_of
from nasseg.analyse.paper_verdict import Answer, points
from nasseg.report.charts.front import COLOURS, INK, MUTED, PUBLISHED, escape, figure_layout

SHADES: dict[Verdict, str] = {  # of a cell, by its verdict
    "equal": "#bfe3d3",
    "flagged": "#f6d9a8",
    "differs": "#eeb49b",
    "not printed": "#d5e6f2",
    "measured": "#9cc6e2",
    "not run": "#e7eaee",
    "cited": "#f3f5f7",
    "given": "#f3f5f7",
}
_WRAP = 24  # characters of a row's name per line
_NAMED = 12  # up to this many rows of a scatter are all named


def speed_figure(one: Comparison) -> go.Figure | None:
    """Draw the printed accuracy over the printed speed; None if fewer than three rows have both.

    The paper's own networks are named; cited ones, too, if there are few.
    """
    speeds = [column for column in one.columns if column.unit.lower() in ("fps", "ms")]
    gains = [column for column in one.columns if column.label.startswith("mIoU")]

    def both(speed: Column, gain: Column) -> list[tuple[str, float, float, bool]]:
        found = []
        for row in one.rows:
            cells = one.cell(row, speed.name), one.cell(row, gain.name)
            x, y = (number(cell.printed) if cell else None for cell in cells)
            if x is not None and y is not None:
                found.append((row, float(x), float(y), any(cell and cell.verdict == "cited" for cell in cells)))
        return found

    pairs = [(both(speed, gain), speed, gain) for speed in speeds for gain in gains]
    if not pairs:
        return None
    known, speed, gain = max(pairs, key=lambda pair: len(pair[0]))
    if len(known) < 3:
        return None
    traces = []
    for cited, name in ((True, "cited"), (False, f"of {one.paper}")):
        rows = [row for row in known if row[3] is cited]
        if not rows:
            continue
        marker = {"symbol": "star", "size": 12, "color": "white", "line": {"color": PUBLISHED, "width": 1.4}}
        if not cited:
            marker = {"symbol": "circle", "size": 11, "color": COLOURS[0], "line": {"color": "white", "width": 1}}
        named = not cited or len(known) <= _NAMED
        traces.append(
            go.Scatter(
                x=[row[1] for row in rows],
                y=[row[2] for row in rows],
                mode="markers+text" if named else "markers",
                name=name,
                marker=marker,
                text=[escape(row[0]) for row in rows],
                textposition=[("top center", "bottom center")[i % 2] for i in range(len(rows))],
                textfont={"size": 11, "color": INK},
                cliponaxis=False,
                hovertemplate="%{text}<br>%{x:.4~g}, %{y:.4~g}<extra></extra>",
            )
        )
    x = {**_titled(f"{speed.label}, printed" if speed.unit in speed.label else f"{speed.label}, {speed.unit}, printed")}
    y = {**_titled(f"{gain.label}, {gain.unit}, printed")}
    layout = {**figure_layout(x, y), "height": 360, "margin": {"l": 10, "r": 40, "t": 34, "b": 50}}
    return go.Figure(data=traces, layout=layout)


def figure_of(one: Comparison) -> go.Figure:
    """Draw a table's most telling numbers: differences from the base row, else a column, else all verdicts."""
    if one.answers and one.answers[0].to_base:
        return pairs_figure(one.answers[0])
    column = _drawn(one)
    return verdicts_figure(one) if column is None else values_figure(one, column)


def _drawn(one: Comparison) -> Column | None:
    """Return the first column with two of our numbers; if nothing is computed, the first with two printed ones."""

    def numbers(column: Column, ours: bool) -> int:
        cells = [cell for cell in one.cells if cell.column == column.name]
        return sum(isinstance(cell.ours, float | int) if ours else number(cell.printed) is not None for cell in cells)

    computed = any(cell.ours is not None for cell in one.cells)
    asked = (True,) if computed else (True, False)
    return next((column for ours in asked for column in one.columns if numbers(column, ours) > 1), None)


def _label(row: str) -> str:
    return "<br>".join(map(escape, textwrap.wrap(row, _WRAP)))


def pairs_figure(answer: Answer) -> go.Figure:
    """Draw each row against the base row, printed and measured here, with intervals."""
    pairs = answer.to_base
    rows = [_label(pair.row) for pair in pairs]
    ratio = answer.kind == "ratio"
    unit = "" if ratio else f", {points(answer.unit)}"
    ours = [pair.ours for pair in pairs]
    spread = {
        "type": "data",
        "symmetric": False,
        "thickness": 1.6,
        "width": 4,
        "color": COLOURS[0],
        "array": [0 if i.high is None else i.high - i.value for i in ours],
        "arrayminus": [0 if i.low is None else i.value - i.low for i in ours],
    }
    traces = [
        _dots(rows, [i.value for i in ours], "ours", COLOURS[0], "circle", error_x=spread),
        _dots(rows, [pair.printed for pair in pairs], "printed", INK, "diamond-open"),
    ]
    traces = [trace for trace in traces if any(value is not None for value in trace.x)]
    x = _titled(f"{answer.quantity}, {'ratio to' if ratio else 'difference from'} {answer.base}{unit}")
    line = {"type": "line", "x0": int(ratio), "x1": int(ratio), "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
    layout = {
        **_rows_layout(x, rows),
        "shapes": [{**line, "line": {"color": MUTED, "width": 1.2, "dash": "dash"}}],
    }
    return go.Figure(data=traces, layout=layout)


def values_figure(one: Comparison, column: Column) -> go.Figure:
    """Draw a column of numbers, printed and ours, row by row."""
    found = (one.cell(row, column.name) for row in one.rows)
    cells = [cell for cell in found if cell and (cell.ours is not None or number(cell.printed) is not None)]
    rows = [_label(cell.row) for cell in cells]
    ours = [float(cell.ours) if isinstance(cell.ours, float | int) else None for cell in cells]
    theirs = [None if (value := number(cell.printed)) is None else float(value) for cell in cells]
    traces = [
        _dots(rows, values, name, colour, symbol)
        for name, values, colour, symbol in (
            ("ours", ours, COLOURS[0], "circle"),
            ("printed", theirs, INK, "diamond-open"),
        )
        if any(value is not None for value in values)
    ]
    label = column.label if column.label.startswith(column.unit) else f"{column.label}, {column.unit}"
    return go.Figure(data=traces, layout=_rows_layout(_titled(label), rows))


def verdicts_figure(one: Comparison) -> go.Figure:
    """Draw every cell by its verdict."""
    names = [verdict for verdict in SHADES if any(cell.verdict == verdict for cell in one.cells)]
    labels = [column.label for column in one.columns]
    named = [f"{c.label}, {c.unit}" if labels.count(c.label) > 1 else c.label for c in one.columns]
    rows, columns = [_label(row) for row in one.rows], [_label(name) for name in named]
    cells = [[one.cell(row, column.name) for column in one.columns] for row in one.rows]
    shown = [[_shown(cell) for cell in line] for line in cells]
    traces: list[Any] = [
        go.Heatmap(
            x=columns,
            y=rows,
            z=[[1 if cell and cell.verdict == name else None for cell in line] for line in cells],
            colorscale=[[0, SHADES[name]], [1, SHADES[name]]],
            showscale=False,
            xgap=2,
            ygap=2,
            name=name,
            text=shown,
            texttemplate="%{text}",
            textfont={"size": 11, "color": INK},
            hoverongaps=False,
            hovertemplate=f"%{{y}}, %{{x}}: %{{text}} ({name})<extra></extra>",
        )
        for name in names
    ]
    traces += [
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=name,
            marker={"symbol": "square", "size": 11, "color": SHADES[name]},
        )
        for name in names
    ]
    layout = _rows_layout({"type": "category", "side": "bottom"}, rows)
    return go.Figure(data=traces, layout={**layout, "meta": {"needs": 180 + 64 * len(columns)}})


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return escape(text_of(cell.ours, cell.printed) if cell.ours is not None else cell.printed or "")


def _dots(
    rows: list[str], values: Sequence[float | None], name: str, colour: str, symbol: str, **more: Any
) -> go.Scatter:
    marker = {"color": colour, "symbol": symbol, "size": 10, "line": {"width": 1.6, "color": colour}}
    return go.Scatter(
        x=list(values),
        y=rows,
        mode="markers",
        name=name,
        marker=marker,
        cliponaxis=False,
        hovertemplate=f"%{{y}}<br>{name}: %{{x:.4~g}}<extra></extra>",
        **more,
    )


def _titled(title: str) -> dict[str, Any]:
    return {"title": {"text": "<br>".join(map(escape, textwrap.wrap(title, 36))), "font": {"size": 12}}}


def _rows_layout(x: dict[str, Any], rows: list[str]) -> dict[str, Any]:
    """Return a layout with rows from top to bottom, as in the table, and the height that they need."""
    y = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": rows[::-1],
        "ticks": "",
        "tickfont": {"size": 12},
    }
    height = 130 + max(sum(10 + 16 * (row.count("<br>") + 1) for row in rows), 70)
    return {**figure_layout(x, y), "height": height, "margin": {"l": 10, "r": 22, "t": 34, "b": 50}}
