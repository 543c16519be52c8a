"""The page of several studies: which figures are comparable, the fronts together, hypervolumes in one box, a table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd

from nasseg import words
from nasseg.analyse.compute_spent import compute_of
from nasseg.analyse.several_studies import (
    PARTS,
    Difference,
    common_objectives,
    joint_front,
    protocol_differences,
    shared_networks,
)
from nasseg.analyse.trials import on_front, progress
from nasseg.errors import UserError
from nasseg.figures import Part, figure_in, label_of
from nasseg.records import Objective, PublishedPoint, StudyRecord
from nasseg.report.charts.front import hypervolume_figure, mark
from nasseg.report.html.markup import Html, section, tag, text, titled
from nasseg.report.numbers.all_trials import all_trials
from nasseg.report.numbers.columns import figures_of, rows_data
from nasseg.report.numbers.content import BUDGETS, rows_shown
from nasseg.report.numbers.front_view import History, View, box_of, family_of, finished_rows, histories_of, view_of
from nasseg.report.numbers.sample_trials import MOST_TRIALS, thinned
from nasseg.report.pages.study_page import about, front_data, table_data, whole_page
from nasseg.report.parts import predictions, summary, tables
from nasseg.report.parts.filters import filter_controls
from nasseg.report.parts.network_panel import published_detail, trial_detail
from nasseg.report.sections import every_trial, origin, search_history
from nasseg.report.sections.front import front_section
from nasseg.report.sections.front_table import table_section


def render_several(records: Sequence[StudyRecord], shared: bool = False) -> str:
    """Return the page of several studies. Trials are named by their study's letter and number: A12.

    Raises:
        UserError: the studies share no objective, or there are none or too many.
    """
    if not 0 < len(records) <= len(ascii_uppercase):
        raise UserError(f"a report covers 1 to {len(ascii_uppercase)} studies, got {len(records)}")
    return Several(records).page(shared)


class Several:
    """Studies side by side. Rows are the trials of all studies, one study after the other, then published networks.

    parts: the studies with only their common objectives; shown: their trials on the page.
    """

    def __init__(self, records: Sequence[StudyRecord]) -> None:
        self.records = records
        self.objectives = common_objectives(records)
        self.letters = ascii_uppercase[: len(records)]
        self.names = [f"{letter} {record.name}" for letter, record in zip(self.letters, records, strict=True)]
        self.parts = [replace(record, objectives=self.objectives) for record in records]
        gain = next((o.name for o in self.objectives if o.direction == "maximize"), self.objectives[0].name)
        most = MOST_TRIALS // len(records)
        self.shown = [thinned(part, gain, BUDGETS, most) for part in self.parts]
        self.differences = protocol_differences(records)
        self.merged = _merged(self.shown, self.letters)
        self.view = _view(self.merged, self.shown, self.names, self.letters)
        self.box = box_of(self.parts)
        self.histories = [histories_of(p, self.box, x) for p, x in zip(self.parts, self.letters, strict=True)]

    def page(self, shared: bool) -> str:
        finished = any(self.view.front.values())
        names = ", ".join(dict.fromkeys(record.name for record in self.records))
        frames = [all_trials(record).assign(study=x) for record, x in zip(self.records, self.letters, strict=True)]
        frame = pd.concat([f.astype(object) for f in frames], ignore_index=True)
        return whole_page(
            shared,
            title=names if len(names) <= 90 else f"{len(self.records)} studies",
            kicker=f"{len(self.records)} studies compared",
            question=" / ".join(dict.fromkeys(record.question.strip() for record in self.records)),
            about=about(max(r.created for r in self.records), sum(map(len, self.view.front.values()))),
            sections=text(
                summary.summary_section(self.headline(), self.tiles()),
                section("comparable", "Which figures compare", *self.comparable()),
                self.front() if finished else None,
                every_trial.trials_section() if finished else None,
                section("search", "Hypervolume in one box", *self.hypervolume()) if finished else None,
                section("studies", "Study by study", self.study_table(), self.ranks()),
                section("origin", "Where these figures come from", *map(self.origin, range(len(self.records)))),
            ),
            payload={
                **front_data(names, self.view),
                "hypervolume": self.hypervolume_data() if finished else None,
                "rows": rows_data(self.merged, self.view, self.choices()),
                "budget": None,
                "paper": {},
                "trials": every_trial.columns_of(self.merged, ["study"]),
                "population": None,
            },
            details=self.details(),
            pictures=self.pictures(),
            table=table_data(self.records, frame[["study", *(c for c in frame if c != "study")]]),
        )

    def headline(self) -> Html:
        done = [len(finished_rows(part)) for part in self.parts]
        if not any(done):
            return tag("p", "No network has finished yet in any of these studies.", class_="headline")
        listed = [label_of(objective.name) for objective in self.objectives]
        start = f"{sum(done):,} networks finished in {len(done)} studies. "
        start += f"Fronts use the objectives that all studies share: {_listed(listed)}."
        broken = self.not_comparable()
        if broken:
            warning = f"Protocols differ: {_listed([PARTS[part] for part in broken])} cannot be compared directly."
            return tag("p", start, " ", tag("strong", warning), class_="headline")
        joint = zip(joint_front(self.records), self.names, strict=True)
        on = _listed([f"{len(numbers):,} of {name}" for numbers, name in joint])
        return tag("p", f"{start} On their joint front are {on}.", class_="headline")

    def tiles(self) -> Html:
        cards = []
        for name, part, histories in zip(self.names, self.parts, self.histories, strict=True):
            history = histories.get("trial")
            share = f"{history.share[-1]:.3f}" if history else words.NOTHING
            done, on = len(finished_rows(part)), int(on_front(part).sum())
            note = f"hypervolume in the common box; {on:,} of {done:,} on its front"
            cards.append(tag("div", tag("h3", name), tag("strong", share), tag("p", note), class_="tile"))
        return tag("div", *cards, class_="tiles")

    def not_comparable(self) -> list[Part]:
        """Return the parts of measurements that hold objectives and have different protocols."""
        parts = {figure_in(self.merged, objective.name).part for objective in self.objectives}
        broken = {difference.part for difference in self.differences if difference.matters}
        return [part for part in PARTS if part in broken & parts]

    def comparable(self) -> list[Html]:
        found: list[Html] = []
        for part, figure in PARTS.items():
            mine = [d for d in self.differences if d.part == part]
            serious = [_field(d.field) for d in mine if d.matters]
            if serious:
                what = f"{words.sentence(part)} was measured under protocols that differ in {_listed(serious)}: "
                what += (
                    f"{figure} cannot be compared between these studies, nor can fronts and hypervolumes that use it."
                )
                found.append(tag("p", tag("strong", what), class_="warning"))
            elif mine:
                differing = _listed([_field(d.field) for d in mine])
                what = f"{words.sentence(part)}: the same protocol except for {differing}; {figure} can be compared."
                found.append(tag("p", what, class_="note"))
            elif self._measured(part):
                found.append(tag("p", f"{words.sentence(part)}: the same protocol in all.", class_="note"))
        if self.differences:
            heads = [("part", None), ("field", None), *((name, None) for name in self.names)]
            found.append(tables.plain_table(heads, map(_difference_row, self.differences)))
        return found

    def _measured(self, part: str) -> bool:
        return any(t.measurement and getattr(t.measurement, part) for record in self.records for t in record.trials)

    def front(self) -> Html:
        done = [len(finished_rows(part)) for part in self.parts]
        marks = [text(summary.swatch(*mark(i)), letter) for i, letter in enumerate(self.letters)]
        studies = {row: marks[i] for i, name in enumerate(self.names) for row in self.view.front[name]}
        levels = {name: choice["levels"] for name, choice in self.choices().items()}
        chart = front_section(
            self.view,
            list(self.choices()),
            guide="guide_several.html",
            legend=summary.group_legend(self.view, done),
            filters=filter_controls(figures_of(self.merged, self.view), levels),
            thinned=summary.thinned_note(self.merged, _merged(self.parts, self.letters)),
        )
        table = tables.front_table(self.merged, self.view, studies=studies)
        return text(chart, table_section(table, tables.doubts_note(self.merged, self.view)))

    def hypervolume(self) -> list[Html]:
        histories = next(h for h in self.histories if h)
        at = search_history.reference_words(self.parts[0], histories["trial"])
        note = f"The share that each front covers of a common box, between the reference point ({at}) and the best "
        note += "value of each objective in any study. Compare shares only if protocols are the same."
        return [tag("p", note, class_="note"), search_history.history_chart(histories)]

    def hypervolume_data(self) -> dict[str, Any]:
        found = {}
        for over in next(h for h in self.histories if h):
            drawn = [self._on_page(i, h[over]) if over in h else None for i, h in enumerate(self.histories)]
            figure = hypervolume_figure(*drawn, names=self.names)
            found[over] = figure.to_plotly_json()
        return found

    def _on_page(self, index: int, history: History) -> History:
        offset = sum(len(part.trials) for part in self.shown[:index])
        places = {trial.number: offset + row for row, trial in enumerate(self.shown[index].trials)}
        return rows_shown(history, [places.get(trial.number, -1) for trial in self.parts[index].trials])

    def choices(self) -> dict[str, Any]:
        """Return the choices to filter by, besides studies and figures."""
        done = {
            row
            for part in (self.view.front, self.view.dominated, self.view.over)
            for rows in part.values()
            for row in rows
        }
        families = [family_of(trial) if row in done else None for row, trial in enumerate(self.merged.trials)]
        levels = sorted({family for family in families if family is not None})
        places = {family: i for i, family in enumerate(levels)}
        codes = [-1 if family is None else places[family] for family in families]
        return {"family": {"levels": levels, "codes": codes}} if len(levels) > 1 else {}

    def study_table(self) -> Html:
        """Return a table with a row for each fact and a column for each study."""
        facts: list[tuple[str, list[object]]] = [("question", [record.question.strip() for record in self.records])]
        counts = [progress(record) for record in self.records]
        facts.append(("trials", [f"{len(record.trials):,}" for record in self.records]))
        for name in ("finished", "stopped", "rejected", "reused", "failed"):
            if any(count[name] for count in counts):
                facts.append((name, [f"{count[name]:,}" for count in counts]))
        shares = [h["trial"].share[-1] if "trial" in h else None for h in self.histories]
        facts.append(("hypervolume, common box", [words.NOTHING if s is None else f"{s:.3f}" for s in shares]))
        facts.append(("on its front", [f"{int(on_front(part).sum()):,}" for part in self.parts]))
        if not self.not_comparable():
            facts.append(("of these, on the front of all", [f"{len(joint):,}" for joint in joint_front(self.records)]))
        for objective in self.objectives:
            best = [_best(part, objective) for part in self.parts]
            facts.append((f"best {label_of(objective.name)}", [words.number(b, objective.unit) for b in best]))
        spent = [compute_of(record) for record in self.records]
        facts.append(("training", [words.duration(c.trained) for c in spent]))
        facts.append(("saved, about", [words.duration(c.saved) for c in spent]))
        facts.append(("begun", [words.moment(record.created) or words.NOTHING for record in self.records]))
        facts.append(("space", [words.plain(record.identity.get("space")) for record in self.records]))
        for name in ("cpu", "gpu", "nasseg", "commit"):
            values: list[object] = [words.plain(record.environment.get(name)) for record in self.records]
            if set(values) != {words.NOTHING}:
                facts.append((name, values))
        rows = [
            tag("tr", tag("th", words.sentence(name), scope="row"), *(tag("td", value) for value in values))
            for name, values in facts
        ]
        return tables.plain_table([("", None), *((name, None) for name in self.names)], rows, "facts")

    def ranks(self) -> Html | None:
        """Describe the networks that two studies share, and how similarly the studies rank them."""
        frame = shared_networks(self.records)
        frame = frame[frame["networks"] > 2]
        if frame.empty:
            return None
        rows = []
        found: list[Any] = list(frame.itertuples())
        for row in found:
            pair = f"{self.letters[row.first]} and {self.letters[row.second]}"
            tau = words.NOTHING if row.tau != row.tau else f"{row.tau:.2f}"
            cells = [tag("td", pair), tag("td", figure_in(self.records[row.first], row.figure).label)]
            rows.append(tag("tr", *cells, *(tag("td", v, class_="number") for v in (f"{row.networks:,}", tau))))
        heads = (("studies", None), ("figure", None), ("networks in both", "number"), ("Kendall's tau", "number"))
        note = (
            "How far studies agree on the networks that both have: 1 means the same order, 0 no relation, -1 "
            "the reverse."
        )
        return titled("The same networks", text(tag("p", note, class_="note"), tables.plain_table(heads, rows)))

    def origin(self, index: int) -> Html:
        record, letter = self.records[index], self.letters[index]
        parts = [
            tag("h3", "Trials that are not in the figures"),
            tables.ledger(record, letter),
            search_history.rungs_table(record),
            titled("Protocols", origin.protocols_table(record)),
            titled("Published networks beside the study's own", origin.published_table(record)),
            origin.provenance(record),
        ]
        return tag("details", tag("summary", self.names[index]), *parts, open=index == 0)

    def pictures(self) -> dict[str, Any]:
        pairs = [(record.examples, trial) for record in self.shown for trial in record.trials]
        rows = {row: known[trial.number] for row, (known, trial) in enumerate(pairs) if trial.number in known}
        return predictions.data(rows)

    def details(self) -> list[dict[str, Any]]:
        found = []
        for record, shown, letter in zip(self.records, self.shown, self.letters, strict=True):
            trials = {trial.number: trial for trial in shown.trials}
            for trial, front in zip(shown.trials, on_front(shown).tolist(), strict=True):
                found.append(trial_detail(record, trial, front, None, trials, letter))
        return found + [published_detail(self.merged, point) for point in self.merged.published]


def _merged(parts: Sequence[StudyRecord], letters: str) -> StudyRecord:
    """Merge the studies into one.

    Limits stay if all studies have them. Published networks appear once for each set of figures.
    """
    first = parts[0]
    limits = {n: limit for n, limit in first.limits.items() if all(p.limits.get(n) == limit for p in parts)}
    found: dict[str, dict[tuple[tuple[str, float], ...], tuple[PublishedPoint, str]]] = {}
    for part, letter in zip(parts, letters, strict=True):
        for point in part.published:
            same = found.setdefault(point.name, {})
            figures = tuple(sorted(point.figures.items()))
            same[figures] = point, same.get(figures, (point, ""))[1] + letter
    published = [
        replace(point, name=f"{name} ({', '.join(of)})") if len(same) > 1 else point
        for name, same in found.items()
        for point, of in same.values()
    ]
    trials = tuple(trial for part in parts for trial in part.trials)
    return replace(first, limits=limits, trials=trials, published=tuple(published))


def _view(merged: StudyRecord, parts: Sequence[StudyRecord], names: Sequence[str], letters: str) -> View:
    """Return the view of the merged studies. Each study keeps its own front and trade-off."""
    whole = view_of(merged)
    views = [view_of(part, letter) for part, letter in zip(parts, letters, strict=True)]
    ends = np.cumsum([0, *(len(part.trials) for part in parts)]).tolist()
    steps: dict[str, dict[str, list[list[int]]]] = {}
    for x, row in whole.steps.items():
        for y in row:
            lines = [(v.steps[x][y][0], start) for v, start in zip(views, ends, strict=False)]
            steps.setdefault(x, {})[y] = [[row + start for row in rows] for rows, start in lines]

    def rows(of: Callable[[View], dict[str, list[int]]]) -> dict[str, list[int]]:
        found = zip(names, views, ends, strict=False)
        return {name: sorted(row + start for part in of(v).values() for row in part) for name, v, start in found}

    hover = [text for v in views for text in v.hover[: len(v.keys)]]
    return replace(
        whole,
        keys=[key for v in views for key in v.keys],
        hover=hover + whole.hover[len(merged.trials) :],
        groups=tuple(names),
        front=rows(lambda v: v.front),
        dominated=rows(lambda v: v.dominated),
        over=rows(lambda v: v.over),
        unfinished={name: [] for name in names},
        steps=steps,
    )


def _field(name: str) -> str:
    return {"cpu": "processor", "gpu": "GPU"}.get(name, name.replace("_", " "))


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def _difference_row(difference: Difference) -> Html:
    cells = [", ".join(map(words.plain, values)) or "not measured" for values in difference.values]
    name = text(_field(difference.field), None if difference.matters else tag("small", " (does not matter)"))
    return tag("tr", tag("td", words.sentence(difference.part)), tag("td", name), *(tag("td", cell) for cell in cells))


def _best(record: StudyRecord, objective: Objective) -> float | None:
    values = [record.trials[row].values.get(objective.name, math.nan) for row in finished_rows(record)]
    known = [value for value in values if math.isfinite(value)]
    return (min if objective.direction == "minimize" else max)(known, default=None)
