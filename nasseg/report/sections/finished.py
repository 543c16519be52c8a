"""Networks of a front trained to the end."""

import math
from typing import Any

import pandas as pd

from nasseg import words
from nasseg.analyse.finished import FIGURES, finished_frame
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, section, tag, text
from nasseg.report.numbers.content import Content
from nasseg.report.parts.tables import plain_table


def write(content: Content) -> Html | None:
    """Return the section; None if there is nothing to show."""
    table = finished_table(content.record)
    return section("finished", "Trained to the end", table) if table else None


def finished_table(record: StudyRecord) -> Html | None:
    """Return a table of a front's networks trained to the end, on both splits; None if the study is not a finish."""
    if not any("test_miou" in trial.extra or "best_miou" in trial.extra for trial in record.trials):
        return None
    frame = finished_frame(record)
    shown = [name for name in FIGURES if name != "test_miou" or frame[name].notna().any()]
    heads: list[tuple[str, str | None]] = [("network", None), ("latency again, ms", "number"), ("seeds", "number")]
    heads += [(FIGURES[name], "number") for name in shown]
    rows = []
    found: list[Any] = frame.to_dict("records")
    for row in found:
        latency = words.NOTHING if math.isnan(row["latency_ms"]) else f"{row['latency_ms']:.4g}"
        cells = [tag("td", f"trial {row['number']}, {row['family']}")]
        cells += [tag("td", value, class_="number") for value in (latency, row["seeds"])]
        cells += [tag("td", _spread(row[name], row[f"{name}_sd"]), class_="number") for name in shown]
        rows.append(tag("tr", *cells))
    return text(tag("p", _note(frame), class_="note"), plain_table(heads, rows))


def _note(frame: pd.DataFrame) -> str:
    """Return the number of seeds, and the splits that the figures are from."""
    fewest, most = int(frame["seeds"].min()), int(frame["seeds"].max())
    seeds = f"{most} seed{'s' * (most > 1)}" if fewest == most else f"{fewest} to {most} seeds"
    over = ", mean and standard deviation" if most > 1 else ""
    note = f"mIoU in percent, from {seeds} per network{over}. The best weights were chosen on the validation split"
    if frame["test_miou"].notna().any():
        return f"{note}; the test split was used once, only for these."
    return f"{note}, and there is no other split, so their figure is better than it would be on new pictures."


def _spread(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return words.NOTHING
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} \u00b1 {deviation:.2f}"
