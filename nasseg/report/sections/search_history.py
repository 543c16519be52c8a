"""The search itself: hypervolume, rungs, compute spent and saved."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from nasseg import words
from nasseg.analyse.compute_spent import Compute, compute_of
from nasseg.analyse.rungs import rung_lines, rungs_frame
from nasseg.analyse.trials import outcome
from nasseg.figures import label_of
from nasseg.records import StudyRecord
from nasseg.report.charts.front import OVER, hypervolume_figure
from nasseg.report.html.markup import Html, section, tag, text, titled
from nasseg.report.numbers.content import Content
from nasseg.report.numbers.front_view import History
from nasseg.report.parts.tables import ledger, plain_table


def write(content: Content) -> Html:
    """Return the section."""
    record, histories = content.record, content.histories
    chart = None
    if histories:
        chart = text(history_note(record, next(iter(histories.values()))), history_chart(histories))
    return section(
        "search",
        "How the search went",
        titled("Hypervolume", chart),
        rungs_table(record),
        spent_table(record),
        tag("h3", "Trials that are not in the figures"),
        ledger(record),
    )


def data(content: Content) -> dict[str, Any] | None:
    """Return the chart of the hypervolume over each possible x axis; None without one."""
    found = {name: hypervolume_figure(history).to_plotly_json() for name, history in content.histories.items()}
    return found or None


def history_note(record: StudyRecord, history: History) -> Html:
    at = reference_words(record, history)
    return tag(
        "p",
        f"The share that the front covers of the box between the reference point ({at}) and the best value of "
        f"each objective: {history.share[-1]:.3f} now. The reference point is the worst finished value of each, "
        "widened by 10 % of the range. The box is this study's own, so compare two studies only over one box.",
        class_="note",
    )


def reference_words(record: StudyRecord, history: History) -> str:
    """Describe the reference point in the record's objectives."""
    found = [(o, history.reference[o.name]) for o in record.objectives]
    return ", ".join(f"{label_of(o.name)} {words.number(value, o.unit)}" for o, value in found)


def history_chart(histories: Mapping[str, object]) -> Html:
    """Return the chart's element, and a choice of its x axis if there are several."""
    options = [tag("option", title, value=name) for name, title in OVER.items() if name in histories]
    select = tag("label", tag("span", "Over"), tag("select", *options, id="over"), class_="control")
    control = tag("div", select, class_="controls script") if len(options) > 1 else None
    chart = tag(
        "div", id="hypervolume", class_="chart low script", role="img", aria_label="Hypervolume over the search"
    )
    return text(control, chart)


def rungs_table(record: StudyRecord) -> Html | None:
    """Return a table of successive halving, rung by rung; None without halving."""
    frame = rungs_frame(record)
    if frame.empty:
        return None
    most, rows = max(frame["reached"]), []
    last = frame["rung"].max()
    found: list[Any] = list(frame.itertuples())
    for row in found:
        ends = row.rung == last
        counts = [row.reached, words.NOTHING if ends else row.promoted, words.NOTHING if ends else row.stopped]
        cells = [tag("td", f"{row.rung}, the last" if ends else row.rung), tag("td", f"{row.steps:,}", class_="number")]
        cells += [tag("td", f"{n:,}" if isinstance(n, int) else n, class_="number") for n in counts]
        cells.append(tag("td", words.duration(row.seconds), class_="number"))
        cells.append(tag("td", words.NOTHING if row.tau != row.tau else f"{row.tau:.2f}", class_="number"))
        cells.append(tag("td", bar(100 * row.reached / most), class_="bars"))
        rows.append(tag("tr", *cells))
    heads = [
        ("rung", None),
        *((name, "number") for name in ("step", "trained", "went on", "wait", "training", "tau")),
        ("", None),
    ]
    note = "Networks are trained to a rung and compared there. The best continue, the others wait. Only those at the "
    note += "last rung are finished: figures, fronts and tables hold no others."
    note += " Tau is Kendall's, between a rung's ranking and the final one."
    known = [tag("p", f"{words.sentence(line)}.", class_="note") for line in rung_lines(record)]
    return text(tag("h3", "Rungs"), tag("p", note, class_="note"), plain_table(heads, rows), *known)


def spent_table(record: StudyRecord) -> Html | None:
    """Return a table of hours of training and estimated savings; None if nothing was trained."""
    found = compute_of(record)
    if found.trained == 0 and found.saved == 0:
        return None
    rows = [
        tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, (None, "number", None), strict=True)))
        for row in _spent_rows(record, found)
    ]
    heads = (("compute", None), ("one worker's time", "number"), ("what it is", None))
    note = "Savings are estimates, because those trainings never ran."
    return text(tag("h3", "Spent and saved"), plain_table(heads, rows), tag("p", note, class_="note"))


def _spent_rows(record: StudyRecord, found: Compute) -> list[tuple[str, str, str]]:
    counts = Counter(map(outcome, record.trials))
    rows = [("Trained", words.duration(found.trained), "steps of training, as measured with each trial")]
    if found.by_limits:
        why = f"{counts['rejected']:,} rejected candidates, each at the training time of networks of its size"
        rows.append(("Saved by limits, about", words.duration(found.by_limits), why))
    if found.by_duplicates:
        why = f"{counts['reused']:,} copies of known networks, each at its first training time"
        rows.append(("Saved by duplicates, about", words.duration(found.by_duplicates), why))
    if found.by_halving:
        why = "networks waiting at a rung, each trained on to the last step at its own pace"
        rows.append(("Saved by halving, about", words.duration(found.by_halving), why))
    if found.searched:
        rows.append(("Searched", words.duration(found.searched), "by the clock, with all workers at once"))
    if found.money is not None:
        price = record.extra["price_per_hour"]
        rows.append(("Cost", f"{found.money:,.2f}", f"at {words.plain(price)} per hour searched"))
    return rows


def bar(percent: float) -> Html:
    return tag("span", tag("i", style=f"width: {percent:.1f}%"), class_="bar")
