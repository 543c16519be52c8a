"""Draw finished trials over any two columns, coloured by a third."""

import pandas as pd
import plotly.graph_objects as go
from pandas.api.types import is_numeric_dtype

from nasseg.report.charts.front import INK, axis_layout, escape, figure_layout, limit_shapes, mark
from nasseg.report.numbers.front_view import Axis


def scatter_figure(shown: pd.DataFrame, x: Axis, y: Axis, color: str) -> go.Figure:
    """Draw each row of `shown` over two of its columns. Rows with `on_front` are marked by rings.

    color: one of its columns; numbers become a scale with a bar, anything else one colour per value.
    """
    if is_numeric_dtype(shown[color]) and shown[color].nunique() > 1:
        bar = {"color": shown[color], "colorscale": "Viridis", "colorbar": {"title": {"text": escape(color)}}}
        traces = [_trace(shown, x, y, {**bar, "size": 9}, name=color, showlegend=False)]
    else:
        values = shown[color].astype(object).where(shown[color].notna(), "none").astype(str)
        traces = []
        for index, value in enumerate(sorted(values.unique())):
            colour, symbol = mark(index)
            marker = {"color": colour, "symbol": symbol, "size": 9}
            traces.append(_trace(shown[values == value], x, y, marker, name=escape(value)))
    ring = {"symbol": "circle-open", "size": 16, "color": INK, "line": {"width": 1.4}}
    traces.append(_trace(shown[shown["on_front"]], x, y, ring, name="on the front", hoverinfo="skip"))
    layout = figure_layout(axis_layout(x), axis_layout(y))
    for axis, letter in ((x, "x"), (y, "y")):
        if not is_numeric_dtype(shown[axis.name]):
            layout[f"{letter}axis"]["type"] = "category"
    return go.Figure(data=traces, layout={**layout, "shapes": limit_shapes(x, "x") + limit_shapes(y, "y")})


def _trace(rows: pd.DataFrame, x: Axis, y: Axis, marker: dict[str, object], **more: object) -> go.Scatter:
    text = [f"#{number} {escape(str(family))}" for number, family in zip(rows["number"], rows["family"], strict=True)]
    return go.Scatter(x=rows[x.name], y=rows[y.name], mode="markers", marker=marker, text=text, **more)
