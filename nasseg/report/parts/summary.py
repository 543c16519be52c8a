"""The top of the page, which needs no script: headline, tiles, and the chart's controls and legend."""

from collections import Counter
from collections.abc import Sequence

from nasseg import words
from nasseg.analyse.trials import networks_trained, outcome, progress, reasons
from nasseg.figures import label_of
from nasseg.records import StudyRecord, TrialRow
from nasseg.report.charts.front import PUBLISHED, mark
from nasseg.report.html.markup import Html, tag, text
from nasseg.report.numbers.front_view import View, family_of, finished_rows
from nasseg.report.parts.tables import doubtful, front_rows, link
from nasseg.words import counted

_SHAPES = {
    "circle": "M2 7a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "square": "M2.5 2.5h9v9h-9z",
    "diamond": "M7 1l6 6l-6 6l-6-6z",
    "triangle-up": "M7 1.5l6 10.5h-12z",
    "pentagon": "M7 1.2l6 4.4l-2.3 7h-7.4l-2.3-7z",
    "triangle-down": "M7 12.5l6-10.5h-12z",
    "star": "M7 .8l1.7 4.1l4.4.3l-3.4 2.8l1.1 4.3l-3.8-2.3l-3.8 2.3l1.1-4.3l-3.4-2.8l4.4-.3z",
}


def headline(record: StudyRecord, shown: StudyRecord, view: View) -> Html:
    """Describe the result in a sentence or two. `shown`: the record of the view's rows."""
    counts, front = progress(record), front_rows(shown, view)
    if not front and counts["finished"]:
        done = counted(counts["finished"], "network")
        return tag("p", f"{done} finished, but each is over a limit of the study: no front yet.", class_="headline")
    if not front:
        return tag(
            "p", f"{counted(len(record.trials), 'trial')} so far, but no network has finished yet.", class_="headline"
        )
    names = [label_of(objective.name) for objective in record.objectives]
    ended = [trial for trial in record.trials if outcome(trial) == "finished"]
    different = len({trial.measurement.arch_id if trial.measurement else trial.number for trial in ended})
    of = f"{counted(len(ended), 'trial')} of " * (different < len(ended))  # seeds, or recipes, of one network
    parts: list[object] = [f"{of}{counted(different, 'network')} finished. "]
    if len(names) == 1:
        best = shown.trials[front[0]]
        parts += [f"The best {names[0]} is {_value(record, best, 0)}, of trial ", link(best.number), "."]
    else:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        parts.append(f"On the front {'is' if len(front) == 1 else 'are'} {len(front):,}: ")
        parts.append(f"no other network is as good in {listed} and better in one of them.")
    if counts["rejected"]:
        most, times = next(iter(reasons(record, "rejected").items()))
        rejected = f"{counted(counts['rejected'], 'candidate')} {'was' if counts['rejected'] == 1 else 'were'}"
        parts.append(f" {rejected} rejected by limits, {times:,} because {most}.")
    return tag("p", *parts, class_="headline")


def tiles(record: StudyRecord, shown: StudyRecord, view: View) -> Html:
    """Return the counts, and the best network for each objective. `shown`: the record of the view's rows."""
    counts, front, trained = progress(record), front_rows(shown, view), networks_trained(record)
    stopped, rejected = counts["stopped"], counts["rejected"]
    cards = [
        _tile("Networks trained", f"{trained:,}", f"{counts['finished']:,} trials to the end, {stopped:,} stopped")
        if trained
        else _tile("Networks measured", f"{counts['finished']:,}", "no accuracy measured"),
        _tile("Rejected by limits", f"{rejected:,}", f"of {len(record.trials):,} trials, {counts['failed']:,} failed"),
        _tile("On the front", f"{len(front):,}", f"of {counts['finished']:,} finished"),
    ]
    for index, objective in enumerate(record.objectives if front else ()):
        sign = 1 if objective.direction == "minimize" else -1
        best = shown.trials[min(front, key=lambda row: sign * shown.trials[row].values[objective.name])]
        note = text(link(best.number), f" {family_of(best)}")
        value = text(_value(record, best, index), doubtful(best, objective.name))
        cards.append(_tile(f"Best {label_of(objective.name)}", value, note))
    return tag("div", *cards, class_="tiles")


def summary_section(*parts: Html) -> Html:
    return tag("section", *parts, aria_label="Summary")


def thinned_note(shown: StudyRecord, record: StudyRecord) -> Html | None:
    """Return a note on the sample for a study too large for one page; None for others."""
    if len(shown.trials) == len(record.trials):
        return None
    return tag(
        "p",
        f"The figures show {len(shown.trials):,} of {len(record.trials):,} trials: the front and every best trade-off "
        "in full, the others as an even sample. Counts, hypervolume and parameters cover all trials.",
        class_="note",
    )


def legend(view: View, record: StudyRecord) -> Html:
    """Explain colours and shapes, with the whole study's counts. Each entry shows and hides its marks."""
    finished = Counter(family_of(record.trials[row]) for row in finished_rows(record))
    return group_legend(view, [finished[group] for group in view.groups])


def group_legend(view: View, finished: Sequence[int]) -> Html:
    """Return a legend of groups, with the number of networks that finished in each."""
    entries = []
    for index, (group, n) in enumerate(zip(view.groups, finished, strict=True)):
        early = len(view.unfinished[group])
        on = f"{len(view.front[group]):,} of {n:,} on {'its' if view.lines > 1 else 'the'} front"
        count = tag("small", f"{early:,} measured" if early else on)
        entries.append(_key(swatch(*mark(index)), group, count, data_group=str(index)))
    known = ([name for name in view.axes if view.columns[name][row] is not None] for row in view.published)
    if any(len(names) > 1 for names in known):  # a star needs two figures
        entries.append(_key(swatch(PUBLISHED, "star", hollow=True), "published", None, data_group="published"))
    return tag("div", *entries, class_="legend script")


_PARTS = {  # marks of the chart, each with the path of its sign and its meaning
    "front": ("circle", "on the front"),
    "dominated": ("pale", "dominated"),
    "over": ("hollow", "over a limit, or not finished"),
    "steps": ("M0 10h5v-6h9", "best trade-off of these two"),
    "spread": ("M1 7h12", "middle half of a latency's runs"),
    "limit": ("M7 0v3.5m0 2v3.5m0 2v3", "limit of the study"),
    "budget": ("M7 0v14", "your budget"),
    "answer": ("ring", "the best network within it"),
}


def key_of_marks() -> Html:
    """Explain marks and lines. The script shows those that the chart has."""
    entries = []
    for part, (sign, meaning) in _PARTS.items():
        shape = _SHAPES["circle"] if sign in ("circle", "pale", "hollow", "ring") else sign
        path = tag("path", d=shape, class_=sign.split()[0])
        drawn = tag("svg", path, viewBox="0 0 14 14", width=14, height=14, aria_hidden="true")
        entries.append(tag("span", drawn, tag("span", meaning), data_part=part))
    return tag("div", *entries, id="key", class_="note script")


def axis_select(view: View, parameters: Sequence[str], letter: str, title: str) -> Html:
    """Return a choice of the column on one axis, and of its scale."""
    chosen = {"x": view.x, "y": view.y}.get(letter, "")
    options = [tag("option", "none", value="")] if letter == "z" else []
    options += _columns(view, parameters, chosen)
    box = tag("input", type="checkbox", id=f"{letter}-log", checked=letter != "z" and view.axes[chosen].log)
    select = tag("select", *options, id=f"{letter}-axis")
    return tag("div", tag("label", tag("span", title), select), tag("label", box, "log"), class_="control")


def colour_select(view: View, parameters: Sequence[str]) -> Html:
    """Return a choice of the column that colours the marks; the default is their group."""
    options = [tag("option", "as in the legend", value=""), *_columns(view, parameters, "")]
    return tag("label", tag("span", "Colour"), tag("select", *options, id="colour"), class_="control")


def _columns(view: View, parameters: Sequence[str], chosen: str) -> list[Html]:
    """Return the options of a choice of columns, by kind."""
    kinds: dict[str, list[Html]] = {}
    for axis in view.axes.values():
        kind = "IoU by class" if axis.name.startswith("iou.") else "Objectives" if axis.direction else "Figures"
        option = tag("option", words.sentence(axis.label), value=axis.name, selected=axis.name == chosen)
        kinds.setdefault(kind, []).append(option)
    # The script's name of a parameter, which no figure has.
    kinds["Parameters"] = [tag("option", name, value=f"arch.{name}") for name in parameters]
    order = ("Objectives", "Figures", "Parameters", "IoU by class")
    return [tag("optgroup", *kinds[kind], label=kind) for kind in order if kinds.get(kind)]


def _value(record: StudyRecord, trial: TrialRow, index: int) -> str:
    objective = record.objectives[index]
    return words.number(trial.values[objective.name], objective.unit)


def _tile(title: str, value: object, note: object) -> Html:
    return tag("div", tag("h3", title), tag("strong", value), tag("p", note), class_="tile")


def swatch(colour: str, symbol: str, hollow: bool = False) -> Html:
    path = tag("path", d=_SHAPES[symbol], fill="none" if hollow else colour, stroke=colour)
    return tag("svg", path, viewBox="0 0 14 14", width=14, height=14, aria_hidden="true")


def _key(swatch: Html, name: str, note: Html | None, **data: str) -> Html:
    return tag("button", swatch, tag("span", name), note, type="button", aria_pressed="true", **data)
