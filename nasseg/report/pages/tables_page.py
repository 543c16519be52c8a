"""All tables on one self-contained page, printed against ours, each with a chart and its answer."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nasseg.analyse.paper_formats import grid
from nasseg.analyse.paper_table import VERDICTS, Cell, Column, Comparison, number, text_of
from nasseg.analyse.paper_verdict import UNTRAINED, Answer, in_words, points
from nasseg.files import ELSEWHERE, output_file
from nasseg.report.charts.front import COLOURS, CONFIG, INK, MUTED, escape, figure_layout
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill, library, packed_json, policy, resource
from nasseg.report.html.scripts import bundle
from nasseg.words import NOTHING

_SHADES = {  # of a cell's verdict, if a table has no numbers to draw
    "equal": "#bfe3d3",
    "flagged": "#f6d9a8",
    "differs": "#eeb49b",
    "not printed": "#d5e6f2",
    "measured": "#9cc6e2",
    "not run": "#e7eaee",
    "cited": "#f3f5f7",
    "given": "#f3f5f7",
}
_WRAP = 24  # characters of a row's name on a line


def write_tables(comparisons: Sequence[Comparison], path: Path | str) -> Path:
    """Write the page, completely or not at all. Equal comparisons give equal files.

    Raises:
        UserError: the file cannot be written.
    """
    target = Path(path)
    page = render_tables(comparisons)
    with output_file(target, ELSEWHERE) as partial:
        partial.write_text(page, encoding="utf-8")
    return target


def render_tables(comparisons: Sequence[Comparison]) -> str:
    """Return the page."""
    script, (plotly, code) = bundle("tables_page.js"), library()
    figures = {one.name: figure_of(one) for one in comparisons}
    drawn = {name: figure.to_plotly_json() for name, figure in figures.items()}
    return fill(
        "tables_page.html",
        policy=policy(script, code),
        about=f"{len(comparisons)} of {', '.join(sorted({one.paper for one in comparisons}))}: as printed and as here",
        style=Html(resource("page.css")),
        tiles=_tiles(comparisons),
        contents=_contents(comparisons),
        legend=_legend(comparisons),
        tables=text(*(_section(one, figures[one.name]) for one in comparisons)),
        library=Html(plotly),
        payload=Html(packed_json({"figures": drawn, "config": {**CONFIG, "displayModeBar": False}})),
        script=Html(script),
    )


def _tiles(comparisons: Sequence[Comparison]) -> Html:
    counts = {verdict: sum(one.counts()[verdict] for one in comparisons) for verdict in VERDICTS}
    answers = [one.verdict for one in comparisons]
    told = [f"{answers.count(verdict)} {in_words(verdict)}" for verdict in dict.fromkeys(answers)]
    judged = counts["equal"] + counts["flagged"] + counts["differs"]
    tiles = [
        ("Tables", f"{len(comparisons)}", ", ".join(told)),
        ("Decided by the architecture", f"{counts['equal']:,} of {judged:,}", "cells equal to print rounding"),
        ("Flagged", f"{counts['flagged']}", f"differ for a known reason; {counts['differs']} without one"),
        ("Measured", f"{counts['measured']:,}", f"cells trained or timed here; {counts['not run']:,} not run"),
    ]
    return tag(
        "div",
        *(
            tag("div", tag("h3", name), tag("strong", value), tag("p", more), class_="tile")
            for name, value, more in tiles
        ),
        class_="tiles",
    )


def _contents(comparisons: Sequence[Comparison]) -> Html:
    papers: dict[str, list[Html]] = {}
    for one in comparisons:
        link = tag("a", one.table, href=f"#{one.name}", class_=one.verdict, title=one.title)
        papers.setdefault(one.paper, []).append(tag("li", link))
    return text(*(text(tag("h3", paper), tag("ul", *links)) for paper, links in papers.items()))


def _legend(comparisons: Sequence[Comparison]) -> str:
    shown = {cell.verdict for one in comparisons for cell in one.cells}
    cells = "; ".join(f"{verdict}: {meaning}" for verdict, meaning in VERDICTS.items() if verdict in shown)
    return (
        f"✓ confirmed, ✗ contradicted, ? undecided, {NOTHING} {UNTRAINED}. On accuracy and speed, this holds for the "
        f"data, the steps and the device that the sentence names, no others. Cells: {cells}."
    )


def _section(one: Comparison, figure: go.Figure) -> Html:
    table = grid(one)
    head = tag(
        "tr", *(tag("th", name, scope="col", class_="number" if i else None) for i, name in enumerate(table.heads))
    )
    rows = [
        tag("tr", *(tag("td", cell, class_="number" if i else None) for i, cell in enumerate(row)))
        for row in table.rows
    ]
    grown = tag("table", tag("thead", head), tag("tbody", *rows))
    said = (
        one.conclusion.replace(f"{one.verdict}: ", "", 1) if one.conclusion.startswith(one.verdict) else one.conclusion
    )
    room = f"height: {figure.layout.height}px; min-width: {(figure.layout.meta or {}).get('needs', 0)}px"
    label = f"Figure of {one.citation}"
    drawn = tag("div", class_="figure", data_table=one.name, style=room, role="img", aria_label=label)
    notes = tag("ul", *(tag("li", note) for note in table.notes), class_="notes")
    return tag(
        "section",
        tag("h2", f"{one.citation}: {one.title}"),
        tag("p", one.question, class_="asks"),
        tag("p", tag("span", in_words(one.verdict), class_=f"badge {one.verdict}"), said, class_="conclusion"),
        tag("div", drawn, class_="scroll table"),
        tag("div", grown, class_="scroll table", tabindex="0"),
        notes if len(table.notes) < 4 else tag("details", tag("summary", "Notes and protocols"), notes),
        id=one.name,
    )


# Figures


def figure_of(one: Comparison) -> go.Figure:
    """Draw a table's most telling numbers: differences to the base row, else a column of numbers, else all verdicts."""
    if one.answers and one.answers[0].to_base:
        return pairs_figure(one.answers[0])
    column = _drawn(one)
    return verdicts_figure(one) if column is None else values_figure(one, column)


def _drawn(one: Comparison) -> Column | None:
    """Return the first column with two numbers of ours; if nothing is computed, the first with two printed ones."""

    def numbers(column: Column, ours: bool) -> int:
        cells = [cell for cell in one.cells if cell.column == column.name]
        return sum(isinstance(cell.ours, float | int) if ours else number(cell.printed) is not None for cell in cells)

    computed = any(cell.ours is not None for cell in one.cells)
    asked = (True,) if computed else (True, False)
    return next((column for ours in asked for column in one.columns if numbers(column, ours) > 1), None)


def _label(row: str) -> str:
    return "<br>".join(map(escape, textwrap.wrap(row, _WRAP)))


def pairs_figure(answer: Answer) -> go.Figure:
    """Draw each row against the base row, as printed and as measured here, with intervals."""
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
    what = "Ratio" if ratio else "Difference"
    x = _titled(f"{what} of {answer.quantity} to {answer.base}{unit}")
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
    names = [verdict for verdict in _SHADES if any(cell.verdict == verdict for cell in one.cells)]
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
            colorscale=[[0, _SHADES[name]], [1, _SHADES[name]]],
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
            marker={"symbol": "square", "size": 11, "color": _SHADES[name]},
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
    """Return a layout with rows from top to bottom, as in the table, and the height they need."""
    y = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": rows[::-1],
        "ticks": "",
        "tickfont": {"size": 12},
    }
    height = 130 + max(sum(10 + 16 * (row.count("<br>") + 1) for row in rows), 70)
    return {**figure_layout(x, y), "height": height, "margin": {"l": 10, "r": 22, "t": 34, "b": 50}}
