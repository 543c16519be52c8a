"""The rank correlation between accuracy and figures known before training."""

from typing import Any

from nasseg import words
from nasseg.analyse.early_figures import cheap_figures_frame
from nasseg.figures import figure_in
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, section, tag, text
from nasseg.report.numbers.content import Content
from nasseg.report.parts.tables import plain_table


def write(content: Content) -> Html | None:
    """Return the section; None if there is nothing to show."""
    table = cheap_table(content.record)
    return section("cheap", "How well cheap figures predict accuracy", table) if table else None


def cheap_table(record: StudyRecord) -> Html | None:
    """Return a table of how well figures known before training rank mIoU; None if too few networks are finished."""
    frame = cheap_figures_frame(record)
    if frame.empty:
        return None
    rows = []
    found: list[Any] = frame.to_dict("records")
    for row in found:
        interval = f"{row['low']:+.2f} to {row['high']:+.2f}"
        cells = [tag("td", words.sentence(figure_in(record, row["figure"]).label))]
        cells += [tag("td", n, class_="number") for n in (f"{row['tau']:+.2f}", interval, f"{row['networks']:,}")]
        rows.append(tag("tr", *cells))
    numbers = ("Kendall tau with mIoU", "95 % interval", "networks")
    heads: list[tuple[str, str | None]] = [("figure", None), *((name, "number") for name in numbers)]
    note = "1: the same order as mIoU; 0: no relation; -1: the reverse order. Screening by a figure selects for it."
    return text(tag("p", note, class_="note"), plain_table(heads, rows))
