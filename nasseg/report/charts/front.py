"""Charts of the front and the hypervolume. They only draw; nasseg.report.numbers.front_view computes.

Every trace names its rows in `customdata` and its part in `meta`. The page swaps figures and marks the chosen row.
"""

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from nasseg.report.numbers.front_view import Axis, History, View
from nasseg.words import number, sentence

# Okabe and Ito's colours, which colour-blind readers can tell apart. Shapes repeat the distinction.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# The same, darker where needed for a contrast of 3 against white and dark pages.
EDGES = ("#0A78B8", "#C45500", "#00825F", "#B25A8D", "#A87000", "#2A84B8")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
FILL = "rgba(0,114,178,0.08)"
INK, MUTED, GRID, PUBLISHED, ANSWER = "#1d2733", "#5d6977", "#e7eaee", "#1d2733", "#00649e"
HALO = ", ".join(["0 0 3px white"] * 3)
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["autoScale2d"],
}


def mark(index: int) -> tuple[str, str]:
    """Return the colour and symbol of the family or study with this index. The first 36 all differ."""
    return COLOURS[index % len(COLOURS)], SYMBOLS[(index + index // len(COLOURS)) % len(SYMBOLS)]


def tint(colour: str) -> str:
    """Return a see-through colour for the inside of pale marks. Their edges stay as clear as others."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.25)"


def escape(text: str) -> str:
    """Escape text for Plotly, which understands some markup and &lt; &gt; &amp;, but not &quot;."""
    return html.escape(text, quote=False)


def wrapped(text: str, width: int) -> str:
    """Return text in lines of at most this many letters, for Plotly."""
    return "<br>".join(map(escape, textwrap.wrap(text, width, drop_whitespace=False)))


def front_figure(view: View, x: str | None = None, y: str | None = None) -> go.Figure:
    """Draw finished trials over two figures: full colour for the front, dimmed if dominated, hollow if over a limit."""
    traces, layout = _front(view, x, y)
    return go.Figure(data=traces, layout=layout)


def plain_figure(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `to_plotly_json` does, without plotly's checks and copies of each number in the traces."""
    data = [{name: value for name, value in trace.items() if value is not None} for trace in traces]
    return {**go.Figure(layout=layout).to_plotly_json(), "data": data}


def _front(view: View, x: str | None = None, y: str | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the traces and the layout of `front_figure`."""
    across, up = view.axes[x or view.x], view.axes[y or view.y]
    lines = view.steps.get(across.name, {}).get(up.name, [[]])
    traces = [_steps(view, across, up, rows, index if len(lines) > 1 else None) for index, rows in enumerate(lines)]
    parts = (("unfinished", view.unfinished), ("over", view.over), ("dominated", view.dominated), ("front", view.front))
    for kind, rows_by_group in parts:
        for index, group in enumerate(view.groups):
            if kind in ("dominated", "front") or rows_by_group[group]:
                traces.append(_group(view, across, up, group, index, rows_by_group[group], kind))
    traces.append(_published(view, across, up))
    for part, ring in (("answer", _ring(ANSWER, 30)), ("selected", _ring(INK, 21))):
        traces.append(_scatter(view, across, up, [], part, marker=ring, hoverinfo="skip", showlegend=False))
    layout = figure_layout(axis_layout(across), axis_layout(up))
    return traces, {**layout, "shapes": limit_shapes(across, "x") + limit_shapes(up, "y")}


OVER = {"trial": "Trial", "compute": "Hours of training", "time": "Hours since the first trial began"}


def hypervolume_figure(*histories: History | None, names: Sequence[str] = ()) -> go.Figure:
    """Draw hypervolume over trials or hours, as a share of the box, with one line for each named study."""
    traces, known = [], [history for history in histories if history]
    for index, history in enumerate(histories):
        if history is None:
            continue
        at, share, group = history.at, history.share, str(index) if names else None
        colour = COLOURS[index % len(COLOURS)]
        gains = [i for i, value in enumerate(share) if value > (share[i - 1] if i else 0)]
        traces.append(
            go.Scatter(
                x=at,
                y=share,
                mode="lines",
                hoverinfo="skip",
                meta="line",
                legendgroup=group,
                line={"shape": "hv", "color": colour, "width": 2, "dash": DASHES[index % len(DASHES)]},
                **({"name": escape(names[index])} if names else {"fill": "tozeroy", "fillcolor": FILL}),
            )
        )
        traces.append(
            go.Scatter(
                x=[at[i] for i in gains],
                y=[share[i] for i in gains],
                customdata=[history.rows[i] for i in gains],
                mode="markers",
                meta="gains",
                legendgroup=group,
                showlegend=False,
                marker={"color": colour, "symbol": mark(index)[1], "size": 6},
                text=[f"<b>#{escape(history.keys[i])}</b> raised it to {share[i]:.4f}" for i in gains],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    title = OVER[known[0].over] if known else ""
    layout = figure_layout({"title": {"text": title}}, {"title": {"text": "Hypervolume"}, "rangemode": "tozero"})
    end = max((history.at[-1] for history in known), default=1.0)
    layout["xaxis"] |= {"range": [0, end if end > 0 else 1]}
    return go.Figure(data=traces, layout=layout)


def front_template(view: View) -> dict[str, Any]:
    """Return the figure of the first two axes without its points. The page fills them in for any two columns.

    Each trace names its rows in `customdata`, including published networks.
    """
    figure = plain_figure(*_front(view))
    for trace in figure["data"]:
        for key in ("x", "y", "text", "hovertext", "error_x", "error_y"):
            trace.pop(key, None)
        if trace["meta"] == "published":
            trace |= {"customdata": view.published, "text": [escape(name) for name in view.names]}
    return figure


def axis_title(axis: Axis) -> str:
    """Return an axis's title as plain text: Latency (median), ms."""
    return sentence(axis.label) + (f", {axis.unit}" if axis.unit else "")


def axis_layout(axis: Axis) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "title": {"text": escape(axis_title(axis))},
        "type": "log" if axis.log else "linear",
    }
    layout["tickformat"] = "~s" if axis.thousands else ""
    return layout


def limit_shapes(axis: Axis, letter: str) -> list[dict[str, Any]]:
    """Return a dashed line across the plot for each limit of an axis, with its value on the allowed side."""
    other = "y" if letter == "x" else "x"
    line = {"type": "line", "layer": "above", "line": {"color": MUTED, "width": 1.2, "dash": "dash"}}
    across = {f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    found = []
    for side, value in axis.limit.items():
        text = escape(f"limit: {side} {number(value, axis.unit)}")
        label: dict[str, Any] = {"text": text, "textangle": 0, "font": {"size": 11, "color": MUTED}}
        if letter == "x":
            label |= {"textposition": "end", "xanchor": "right" if side == "max" else "left", "yanchor": "top"}
        else:
            label |= {"textposition": "start", "xanchor": "left", "yanchor": "top" if side == "max" else "bottom"}
        found.append({**line, **across, f"{letter}0": value, f"{letter}1": value, "label": label})
    return found


def _scatter(view: View, x: Axis, y: Axis, rows: Sequence[int], role: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [view.columns[x.name][row] for row in rows],
        "y": [view.columns[y.name][row] for row in rows],
        "customdata": list(rows),
        "meta": role,
        "mode": "markers",
        **more,
    }


def _group(view: View, x: Axis, y: Axis, group: str, index: int, rows: list[int], kind: str) -> dict[str, Any]:
    colour, symbol = mark(index)
    edge = EDGES[index % len(EDGES)]
    marker: dict[str, Any] = {"color": tint(colour), "symbol": symbol, "size": 7, "opacity": 0.9}
    marker["line"] = {"color": edge, "width": 1}
    if kind in ("over", "unfinished"):
        marker |= {"symbol": f"{symbol}-open", "color": edge, "line": {"width": 1.2}}
    if kind == "front":
        marker |= {"color": colour, "size": 11, "opacity": 1}
    spreads = {} if kind != "front" else {**_spread(view, x, "x", rows, colour), **_spread(view, y, "y", rows, colour)}
    return _scatter(
        view,
        x,
        y,
        rows,
        "trials",
        name=escape(group),
        legendgroup=str(index),
        showlegend=kind == "front",
        marker=marker,
        **spreads,
        **_hover(view, rows),
    )


def _spread(view: View, axis: Axis, letter: str, rows: list[int], colour: str) -> dict[str, Any]:
    """Return error bars for the middle half of a latency's runs."""
    if axis.name not in view.halves:
        return {}
    halves = [view.halves[axis.name][row] or 0.0 for row in rows]
    return {f"error_{letter}": {"type": "data", "array": halves, "color": colour, "thickness": 1.2, "width": 0}}


def _published(view: View, x: Axis, y: Axis) -> dict[str, Any]:
    """Draw the published networks whose figures are both known."""
    marker = {"symbol": "star", "size": 13, "color": "white", "line": {"color": PUBLISHED, "width": 1.6}}
    known = [r for r in view.published if view.columns[x.name][r] is not None and view.columns[y.name][r] is not None]
    names = [escape(view.names[row - view.published[0]]) for row in known]
    return _scatter(
        view,
        x,
        y,
        known,
        "published",
        mode="markers+text",
        name="published",
        marker=marker,
        text=names,
        textposition="top center",
        textfont={"size": 12, "color": INK, "shadow": HALO},
        hovertext=_hover(view, known)["text"],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _steps(view: View, x: Axis, y: Axis, rows: list[int], group: int | None) -> dict[str, Any]:
    """Draw the best trade-off of two objectives alone: the best y of trials with at most, or at least, this x.

    Over trial numbers, it is the best so far.

    group: its family or study, if each has a line.
    """
    colour, dash = (
        ("#9aa5b1", "solid") if group is None else (COLOURS[group % len(COLOURS)], DASHES[group % len(DASHES)])
    )
    name = "best so far" if x.name == "number" else "best trade-off of these two"
    line = {"shape": "vh" if x.direction == "maximize" else "hv", "color": colour, "width": 1.2, "dash": dash}
    return _scatter(
        view,
        x,
        y,
        rows,
        "steps",
        mode="lines",
        line=line,
        name=name,
        hoverinfo="skip",
        legendgroup=None if group is None else str(group),
    )


def _ring(colour: str, size: int) -> dict[str, Any]:
    return {"symbol": "circle-open", "size": size, "color": colour, "line": {"width": size / 10}}


def hover_texts(view: View, rows: Sequence[int] | None = None) -> list[str]:
    """Return the hover texts of the rows (default: all)."""
    texts = []
    for row in range(len(view.hover)) if rows is None else rows:
        first, *rest = escape(view.hover[row]).split("\n")
        texts.append("<br>".join([f"<b>{first}</b>", *rest]))
    return texts


def _hover(view: View, rows: Sequence[int]) -> dict[str, Any]:
    return {"text": hover_texts(view, rows), "hovertemplate": "%{text}<extra></extra>"}


def figure_layout(x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    axis = {"gridcolor": GRID, "linecolor": "#c3cad2", "showline": True, "zeroline": False, "automargin": True}
    axis |= {"ticks": "outside", "tickcolor": "#c3cad2", "ticklen": 4}
    return {
        "template": None,
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 62, "r": 18, "t": 26, "b": 56},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(255,255,255,0.9)", "color": "#9aa5b1", "activecolor": INK},
        "hoverlabel": {
            "bgcolor": "white",
            "bordercolor": "#c3cad2",
            "font": {"size": 13, "color": INK},
            "align": "left",
        },
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {**axis, **x},
        "yaxis": {**axis, **y},
    }
