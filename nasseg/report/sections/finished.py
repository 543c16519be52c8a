"""Networks of a front trained to the end."""

import math
from typing import Any

from nasseg import words
from nasseg.analyse.finished import FIGURES, finished_frame
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, section, tag, text
from nasseg.report.numbers.content import Content
from nasseg.report.parts.tables import plain_table


def write(content: Content) -> Html | None:
    """Return the section; None where there is nothing to show."""
    table = finished_table(content.record)
    return section("finished", "Trained to the end", table) if table else None


def finished_table(record: StudyRecord) -> Html | None:
    """Return a table of a front's networks trained to the end, on both splits; None for a study that is no finish."""
    if not any("test_miou" in trial.extra or "best_miou" in trial.extra for trial in record.trials):
        return None
    frame = finished_frame(record)
    heads: list[tuple[str, str | None]] = [("network", None), ("latency again, ms", "number"), ("seeds", "number")]
    heads += [(title, "number") for title in FIGURES.values()]
    rows = []
    found: list[Any] = frame.to_dict("records")
    for row in found:
        latency = words.NOTHING if math.isnan(row["latency_ms"]) else f"{row['latency_ms']:.4g}"
        cells = [tag("td", f"trial {row['number']}, {row['family']}")]
        cells += [tag("td", value, class_="number") for value in (latency, row["seeds"])]
        cells += [tag("td", _spread(row[name], row[f"{name}_sd"]), class_="number") for name in FIGURES]
        rows.append(tag("tr", *cells))
    note = "mIoU in percent, mean and standard deviation over seeds. The best weights were chosen on the validation "
    note += "split; the test split was evaluated once, for them alone."
    return text(tag("p", note, class_="note"), plain_table(heads, rows))


def _spread(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return words.NOTHING
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} \u00b1 {deviation:.2f}"
