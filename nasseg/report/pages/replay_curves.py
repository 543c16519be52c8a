"""Draw the curves of several searches with bands, as one self-contained HTML file, from computed numbers."""

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from nasseg.files import ELSEWHERE, output_file
from nasseg.redaction import cell
from nasseg.report.charts.front import COLOURS, CONFIG, FONT, GRID, INK, escape

DASHES = ("solid", "dash", "dot", "dashdot")


def curves_figure(curves: pd.DataFrame, title: str, target: float = float("nan")) -> go.Figure:
    """Draw a line with its band for each policy.

    curves: columns policy, compute, mean, low, high. target: a level to mark.
    """
    figure = go.Figure()
    samplers = list(dict.fromkeys(_sampler(name) for name in curves["policy"]))
    kinds = list(dict.fromkeys(_kind(name) for name in curves["policy"]))
    for name, rows in curves.groupby("policy", sort=False):
        policy = str(name)
        colour = COLOURS[samplers.index(_sampler(policy)) % len(COLOURS)]
        dash = DASHES[kinds.index(_kind(policy)) % len(DASHES)]
        x = rows["compute"].tolist()
        figure.add_scatter(
            x=x + x[::-1],
            y=rows["high"].tolist() + rows["low"].tolist()[::-1],
            fill="toself",
            fillcolor=colour,
            opacity=0.12,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=policy,
            meta="band",
        )
        figure.add_scatter(
            x=x,
            y=rows["mean"].tolist(),
            name=escape(policy),
            legendgroup=policy,
            mode="lines",
            meta="mean",
            line={"color": colour, "dash": dash, "width": 2},
        )
    if target == target:
        figure.add_hline(y=target, line={"color": INK, "width": 1, "dash": "dot"})
    axis = {"gridcolor": GRID, "zeroline": False}
    figure.update_layout(
        title=escape(title),
        font={"family": FONT, "color": INK},
        plot_bgcolor="white",
        hovermode="x unified",
        xaxis={**axis, "title": "compute (full trainings)"},
        yaxis={**axis, "title": "share of the full hypervolume"},
    )
    return figure


def _sampler(policy: str) -> str:
    return policy.partition(" + ")[0]


def _kind(policy: str) -> str:
    return policy.partition(" + ")[2]


def write_curves(curves: pd.DataFrame, path: Path | str, title: str, target: float = float("nan")) -> Path:
    """Write the figure as an HTML file that works offline, and the numbers beside it as NAME.curves.csv.

    Raises:
        UserError: a file cannot be written.
    """
    page = Path(path)
    with output_file(page, ELSEWHERE) as partial:
        curves_figure(curves, title, target).write_html(partial, include_plotlyjs=True, config=CONFIG)
    with output_file(page.with_suffix(".curves.csv"), ELSEWHERE) as partial:
        curves.round(6).map(cell).to_csv(partial, index=False)
    return page
