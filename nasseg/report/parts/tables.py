"""The page's tables and their basis: the front, history, ledger, protocols, provenance."""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from nasseg import words
from nasseg.analyse.trials import Outcome, is_disturbed, outcome, reason_of, trial_figures
from nasseg.figures import USUAL, figure_in
from nasseg.records import StudyRecord, TrialRow
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.numbers.front_view import DISTURBED, View, family_of
from nasseg.report.parts.network_panel import OUTCOMES

_ORDER: tuple[Outcome, ...] = ("rejected", "stopped", "failed", "reused", "running", "waiting")
_REASONS = 40  # rows of the ledger


def link(key: int | str) -> Html:
    """Link to a trial by its key."""
    return tag("a", f"#{key}", href=f"#trial-{key}")


def front_rows(record: StudyRecord, view: View) -> list[int]:
    """Return the rows of the front, best first by the first objective."""
    first = record.objectives[0]
    rows = [row for rows in view.front.values() for row in rows]
    sign = 1 if first.direction == "minimize" else -1
    return sorted(rows, key=lambda row: (sign * record.trials[row].values[first.name], row))


def front_table(
    record: StudyRecord, view: View, chances: Sequence[float] | None = None, studies: Mapping[int, Html] | None = None
) -> Html:
    """Return a table of the front's networks, one per row.

    chances: of each trial to stay on it, if known. studies: the study of each row, if there are several.
    """
    rows = front_rows(record, view)
    trials = [record.trials[row] for row in rows]
    figures = [trial_figures(trial) for trial in trials]
    objectives = {objective.name: objective for objective in record.objectives}
    names = [*objectives, *(n for n in USUAL if n not in objectives and any(n in known for known in figures))]
    shown = [figure_in(record, name) for name in names]
    varying = _varying([trial for trial in record.trials if outcome(trial) == "finished"])
    best = {
        n: (min if o.direction == "minimize" else max)(f[n] for f in figures) for n, o in objectives.items() if rows
    }
    first = [_head("trial"), *([_head("study")] if studies else []), _head("family")]
    head = [*first, *(_head(figure.label, figure.unit, "number") for figure in shown)]
    if chances is not None:
        head.append(_head("stays on the front", "", "number"))
    head.append(tag("th", "Architecture, what varies", scope="col"))
    body = []
    for row, trial, known in zip(rows, trials, figures, strict=True):
        cells = [tag("td", link(view.keys[row]), data_value=row)]
        cells += [*([tag("td", studies[row], class_="nowrap")] if studies else []), tag("td", family_of(trial))]
        for name in names:
            winner = "number best" if known.get(name) == best.get(name, object()) else "number"
            doubt = doubtful(trial, name)
            cells.append(tag("td", words.number(known.get(name)), doubt, class_=winner, data_value=known.get(name, "")))
        if chances is not None:
            cells.append(tag("td", words.percent(chances[row]), class_="number", data_value=chances[row]))
        fields = [f"{k} {words.plain(trial.settings.get(k))}" for k in varying.get(family_of(trial), [])]
        cells.append(tag("td", *[tag("span", field) for field in fields], class_="fields"))
        body.append(tag("tr", *cells, id=f"trial-{view.keys[row]}"))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), id="front-table")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Networks on the front")


def doubtful(trial: TrialRow, name: str) -> Html | None:
    """Return the mark of a latency timed beside other work; None for any other figure."""
    if not (name.startswith("latency") and is_disturbed(trial)):
        return None
    return tag("abbr", "?", title=words.sentence(DISTURBED), class_="doubt")


def doubts_note(record: StudyRecord, view: View) -> Html | None:
    """Return how many of the front's latencies are doubtful, and what to do about it; None if none are."""
    numbers = [record.trials[row].number for row in front_rows(record, view) if is_disturbed(record.trials[row])]
    if not numbers:
        return None
    n = len(numbers)
    said = f"{n:,} of the front's latencies {'was' if n == 1 else 'were'} timed beside other work and marked with a ?. "
    again = record.command if "@" in record.name else f"nasseg search {shlex.quote(record.name)} --remeasure"
    said += f"Time the front again on a quiet machine: {again}."
    return tag("p", said, class_="warning note")


def ledger(record: StudyRecord, prefix: str = "") -> Html:
    """Return a table of the trials that no chart shows, by outcome and reason, the most frequent first.

    prefix: of the study's trial names.
    """
    found: dict[tuple[int, Outcome, str], list[int]] = {}
    for trial in record.trials:
        of = outcome(trial)
        if of != "finished":
            why = reason_of(trial) if of in ("rejected", "stopped", "failed") else words.NOTHING
            found.setdefault((_ORDER.index(of), of, why), []).append(trial.number)
    if not found:
        return tag("p", "No trial was rejected, stopped, copied or lost.", class_="note")
    groups = sorted(found.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][2]))
    most = max(len(numbers) for _, numbers in groups)
    rows = []
    for (_, of, why), numbers in groups[:_REASONS]:
        bar = tag("span", tag("i", style=f"width: {100 * len(numbers) / most:.1f}%"), class_="bar")
        which = [part for number in numbers[:5] for part in (link(f"{prefix}{number}"), " ")]
        more = f"and {len(numbers) - 5:,} more" if len(numbers) > 5 else None
        cells = [
            tag("td", words.sentence(OUTCOMES[of])),
            tag("td", why),
            tag("td", f"{len(numbers):,}", class_="number"),
        ]
        rows.append(tag("tr", *cells, tag("td", bar, class_="bars"), tag("td", *which, more, class_="which")))
    if len(groups) > _REASONS:
        rows.append(tag("tr", tag("td", f"and {len(groups) - _REASONS:,} more reasons", colspan=5)))
    return plain_table((("outcome", None), ("reason", None), ("trials", "number"), ("", None), ("which", None)), rows)


def _head(name: str, unit: str = "", class_: str | None = None) -> Html:
    shown = text(words.sentence(name), tag("small", f" {unit}") if unit else None)
    return tag("th", tag("button", shown, type="button"), scope="col", class_=class_)


def plain_table(heads: Sequence[tuple[str, str | None]], rows: Iterable[Html], class_: str | None = None) -> Html:
    head = tag("tr", *(tag("th", words.sentence(name), scope="col", class_=kind) for name, kind in heads))
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", *rows), class_=class_), class_="scroll", tabindex="0"
    )


def _varying(trials: Iterable[TrialRow]) -> dict[str, list[str]]:
    """Return family -> the fields that differ among its trials."""
    values: dict[str, dict[str, set[str]]] = {}
    for trial in trials:
        for key, value in trial.settings.items():
            values.setdefault(family_of(trial), {}).setdefault(key, set()).add(repr(value))
    return {family: [k for k, found in fields.items() if len(found) > 1] for family, fields in values.items()}
