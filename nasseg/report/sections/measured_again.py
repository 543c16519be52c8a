"""Latencies measured again, beside those of the search."""

from typing import Any

from nasseg.analyse.remeasured import agreement, remeasured_frame, sessions
from nasseg.records import StudyRecord
from nasseg.report.html.markup import Html, section, tag, text
from nasseg.report.numbers.content import Content
from nasseg.report.parts.tables import plain_table


def write(content: Content) -> Html | None:
    """Return the section; None if there is nothing to show."""
    table = remeasured_table(content.record)
    return section("again", "Latency measured again", table) if table else None


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
    note = f"Networks were timed in turns, in one session. {agreement(frame).line()}."
    return text(tag("p", note, class_="note"), plain_table(heads, rows))
