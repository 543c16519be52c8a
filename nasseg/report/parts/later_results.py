"""Results after the search: networks trained to the end or timed again, changes since a date, early rankings."""

import math
from typing import Any

from nasseg import words
from nasseg.analyse.compute_spent import since
from nasseg.analyse.early_figures import cheap_figures_frame
from nasseg.analyse.finished import FIGURES, finished_frame
from nasseg.analyse.remeasured import agreement, remeasured_frame, sessions
from nasseg.figures import figure_in
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.parts.tables import plain_table


def since_table(record: StudyRecord, date: str) -> Html:
    """Return a table of the compute spent and saved since a date, and of its results."""
    found = since(record, date)
    compute = found.compute
    rows = [("trials", f"{found.trials:,}"), ("training", words.duration(compute.trained))]
    rows.append(("saved, about", words.duration(compute.saved)))
    if compute.money is not None:
        rows.append(("cost", f"{compute.money:,.2f}"))
    if found.now is not None:
        rows.append(("hypervolume", f"{found.before or 0:.3f}, then {found.now:.3f}"))
    rows.append(("new on the front", ", ".join(f"#{n}" for n in found.new_front) or "none"))
    cells = (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows)
    return tag("div", tag("table", tag("tbody", *cells)), class_="scroll")


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


def remeasured_table(record: StudyRecord) -> Html | None:
    """Return a table of latencies timed again beside those of the search; None for a study without any."""
    if not sessions(record):
        return None
    frame = remeasured_frame(record)
    heads: list[tuple[str, str | None]] = [("network", None)]
    heads += [(name, "number") for name in ("search, ms", "again, ms", "ratio", "rounds, ms")] + [("front", None)]
    rows = []
    found: list[Any] = frame.to_dict("records")
    for row in found:
        name = row["published"] or f"trial {row['number']}, {row['family']}"
        front = "on it" if row["on_front"] else "no longer" if row["was_on_front"] else ""
        numbers = [f"{row['old_ms']:.4g}", f"{row['new_ms']:.4g}", f"{row['ratio']:.3f}"]
        numbers.append(f"{row['low_ms']:.4g} to {row['high_ms']:.4g}")
        limit = f"over the limit on {row['over_limit']}" if isinstance(row["over_limit"], str) else front
        cells = [tag("td", name), *(tag("td", n, class_="number") for n in numbers), tag("td", limit)]
        rows.append(tag("tr", *cells))
    note = f"In turns, in one session. {agreement(frame).line()}."
    return text(tag("p", note, class_="note"), plain_table(heads, rows))


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
    note = "1: the order of mIoU; 0: no relation; -1: the reverse order. Screening by a figure selects for it."
    return text(tag("p", note, class_="note"), plain_table(heads, rows))


def _spread(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return words.NOTHING
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} \u00b1 {deviation:.2f}"
