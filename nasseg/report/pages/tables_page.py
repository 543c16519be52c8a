"""All tables on one self-contained page: printed beside ours, each with a chart and its answer."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from nasseg.analyse.paper_formats import Grid, grid, latex
from nasseg.analyse.paper_table import VERDICTS, Comparison
from nasseg.analyse.paper_verdict import UNTRAINED, in_words
from nasseg.files import ELSEWHERE, output_file
from nasseg.report.charts.front import CONFIG
from nasseg.report.charts.paper_tables import SHADES, figure_of, speed_figure
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.html.one_file import fill, library, packed_json, policy, resource
from nasseg.report.html.scripts import bundle

# What training or timing showed about a table's order: class of the badge -> words.
_TRENDS = {
    "confirmed": "trend seen",
    "contradicted": "trend reversed",
    "undecided": "trend undecided",
    "untrained": "not trained far enough",
    "not-run": "not run",
    "none": "nothing to run",
}
_CELLS = {"equal": "all cells equal", "flagged": "some flagged", "differs": "some differ", "none": "nothing computed"}


def write_tables(comparisons: Sequence[Comparison], path: Path | str) -> Path:
    """Write the page, complete or not at all. Equal comparisons give equal files.

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
    speeds = {f"{one.name} speed": figure for one in comparisons if (figure := speed_figure(one))}
    drawn = {name: figure.to_plotly_json() for name, figure in (figures | speeds).items()}
    shades = "".join(f".{_class(verdict)} {{ --shade: {shade}; }}\n" for verdict, shade in SHADES.items())
    return fill(
        "tables_page.html",
        policy=policy(script, code),
        about=f"{len(comparisons)} of {', '.join(sorted({one.paper for one in comparisons}))}: as printed and as here",
        style=Html(resource("page.css") + shades),
        tiles=_tiles(comparisons),
        papers=_options({paper: paper for paper in dict.fromkeys(one.paper for one in comparisons)}),
        cells=_options(_CELLS, {_architecture(one)[0] for one in comparisons}),
        trends=_options(_TRENDS, {_trend(one) for one in comparisons}),
        contents=_contents(comparisons),
        legend=_legend(comparisons),
        tables=text(*(_section(one, figures[one.name], speeds.get(f"{one.name} speed")) for one in comparisons)),
        library=Html(plotly),
        payload=Html(
            packed_json(
                {
                    "figures": drawn,
                    "config": {**CONFIG, "displayModeBar": False},
                    "latex": {one.name: latex(one) for one in comparisons},
                }
            )
        ),
        script=Html(script),
    )


def _class(verdict: str) -> str:
    return f"is-{verdict.replace(' ', '-')}"


def _options(words: Mapping[str, str], present: Container[str] | None = None) -> Html:
    known = {name: title for name, title in words.items() if present is None or name in present}
    return text(tag("option", "all", value=""), *(tag("option", title, value=name) for name, title in known.items()))


def _architecture(one: Comparison) -> tuple[str, str]:
    """Return the result of a table's computed cells: the class of its badge, and its words."""
    counts = one.counts()
    judged = counts["equal"] + counts["flagged"] + counts["differs"]
    if not judged:
        return "none", "no cell is computed"
    worst = "differs" if counts["differs"] else "flagged" if counts["flagged"] else "equal"
    more = {"differs": f", {counts['differs']} differ", "flagged": f", {counts['flagged']} flagged", "equal": ""}
    return worst, f"{counts['equal']} of {judged} cells equal{more[worst]}"


def _trend(one: Comparison) -> str:
    """Return the class of the badge for what was trained or timed."""
    if one.answers:
        return one.answers[0].verdict
    return "not-run" if one.counts()["not run"] else "undecided" if one.counts()["measured"] else "none"


def _badges(one: Comparison) -> Html:
    cells, trend = _architecture(one), _trend(one)
    what = one.answers[0].quantity if one.answers else "training"
    return text(
        tag("span", cells[1], class_=f"badge architecture {cells[0]}", title="Architecture: computed"),
        tag("span", f"{what}: {_TRENDS[trend]}", class_=f"badge trend {trend}", title="Trained or timed here"),
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
        link = tag("a", tag("strong", one.table), " ", one.title, href=f"#{one.name}", class_=_trend(one))
        papers.setdefault(one.paper, []).append(tag("li", link))
    return text(*(text(tag("h3", paper), tag("ul", *links)) for paper, links in papers.items()))


def _legend(comparisons: Sequence[Comparison]) -> Html:
    shown = {cell.verdict for one in comparisons for cell in one.cells}
    cells = [
        tag("li", tag("span", verdict, class_=f"{_class(verdict)} cell"), f" {meaning}")
        for verdict, meaning in VERDICTS.items()
        if verdict in shown
    ]
    said = f"✓ trend seen, ✗ reversed, ? undecided, ~ {UNTRAINED}. For accuracy and speed, this holds only for the "
    said += "data, steps and device that the sentence names."
    return text(tag("p", said, class_="note"), tag("ul", *cells, class_="cells"))


def _section(one: Comparison, figure: go.Figure, speed: go.Figure | None) -> Html:
    said = (
        one.conclusion.replace(f"{one.verdict}: ", "", 1) if one.conclusion.startswith(one.verdict) else one.conclusion
    )
    laid = grid(one)
    notes = tag("ul", *(tag("li", note) for note in laid.notes), class_="notes")
    room = f"height: {figure.layout.height}px; min-width: {(figure.layout.meta or {}).get('needs', 0)}px"
    drawn = tag(
        "div", class_="figure", data_figure=one.name, style=room, role="img", aria_label=f"Figure of {one.citation}"
    )
    body = [
        tag("p", tag("span", f"{in_words(one.verdict)}:", class_="said"), said, class_="conclusion"),
        tag("div", drawn, class_="scroll table"),
        tag("div", _table(laid), class_="scroll table", tabindex="0"),
    ]
    if speed:
        label = f"Speed and accuracy in {one.citation}"
        shown = tag(
            "div", class_="figure", data_figure=f"{one.name} speed", style="height: 360px", role="img", aria_label=label
        )
        body += [tag("h3", "Speed and accuracy, as printed in the paper"), tag("div", shown, class_="scroll table")]
    body.append(notes if len(laid.notes) < 4 else tag("details", tag("summary", "Notes and protocols"), notes))
    copy = tag("button", "Copy as LaTeX", type="button", data_latex=one.name)
    body.append(tag("p", copy, class_="actions script"))
    summary = tag(
        "summary", tag("h2", f"{one.citation}: {one.title}"), _badges(one), tag("p", one.question, class_="asks")
    )
    facts = {"data_paper": one.paper, "data_cells": _architecture(one)[0], "data_trend": _trend(one)}
    return tag("section", tag("details", summary, *body, class_="one"), id=one.name, **facts)


def _table(laid: Grid) -> Html:
    """Return the table, with cells coloured by verdict."""

    def kind(i: int, verdict: str | None = None) -> str | None:
        return " ".join(["number"] * (i > 0) + ([_class(verdict), "cell"] if verdict else [])) or None

    head = tag("tr", *(tag("th", name, scope="col", class_=kind(i)) for i, name in enumerate(laid.heads)))
    rows = [
        tag("tr", *(tag("td", cell, class_=kind(i, v), title=v) for i, (cell, v) in enumerate(zip(*row, strict=True))))
        for row in zip(laid.rows, laid.verdicts, strict=True)
    ]
    return tag("table", tag("thead", head), tag("tbody", *rows))
