"""A study for a paper: its front as a LaTeX table, and BibTeX for the papers and data that it uses."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nasseg import words
from nasseg.analyse.paper_formats import tex
from nasseg.analyse.trials import is_disturbed, on_front, outcome, trial_figures
from nasseg.errors import UserError
from nasseg.figures import USUAL, figure_in
from nasseg.records import StudyRecord, TrialRow
from nasseg.report.html import protocols
from nasseg.report.numbers.front_view import family_of

_PAPERS = {  # key in papers.bib -> names of families, their parts and data sets
    "yu2021bisenetv2": ("bisenetv2", "bga", "ce"),
    "fan2021stdc": ("stdc", "ffm"),
    "meng2022eseg": ("eseg", "bifpn"),
    "gao2021regseg": ("regseg",),
    "li2019dabnet": ("dabnet",),
    "he2016resnet": ("resnet18", "resnet50"),
    "sandler2018mobilenetv2": ("mobilenetv2",),
    "howard2019mobilenetv3": ("mobilenetv3-large", "lraspp"),
    "han2020ghostnet": ("ghostnet",),
    "ma2018shufflenetv2": ("shufflenetv2-1.5x",),
    "tan2019efficientnet": ("efficientnet-b0", "efficientnet-b1", "eseg"),
    "chen2018deeplabv3plus": ("deeplabv3+", "aspp"),
    "cordts2016cityscapes": ("cityscapes",),
    "brostow2009camvid": ("camvid",),
    "zhou2017ade20k": ("ade20k",),
    "caesar2018cocostuff": ("coco-stuff",),
}
_PARTS = {"family", "encoder", "context", "decoder", "head", "name"}  # fields that name a part of a network


def latex_front(record: StudyRecord) -> str:
    """Return the front as a LaTeX table (booktabs), best first; the best of each objective is bold.

    Raises:
        UserError: the front is empty.
    """
    rows = [trial for trial, on in zip(record.trials, on_front(record).tolist(), strict=True) if on]
    if not rows:
        raise UserError(words.empty_front(record.name))
    objectives = {o.name: o for o in record.objectives}
    first = record.objectives[0]
    rows.sort(key=lambda trial: trial.values[first.name], reverse=first.direction == "maximize")
    known = [trial_figures(trial) for trial in rows]
    names = [*objectives, *(n for n in USUAL if n not in objectives and any(n in k for k in known))]
    figures = [figure_in(record, name) for name in names]
    best = {
        n: (min if o.direction == "minimize" else max)((k[n] for k in known), default=None)
        for n, o in objectives.items()
    }
    heads = ["trial", "family", *(f"{f.label} ({f.unit})" if f.unit else f.label for f in figures)]
    body = []
    for trial, values in zip(rows, known, strict=True):
        cells = [f"\\#{trial.number}", tex(family_of(trial))]
        for name in names:
            text = tex(words.number(values.get(name)))
            text = f"{text}*" if name.startswith("latency") and is_disturbed(trial) else text
            cells.append(rf"\textbf{{{text}}}" if values.get(name) == best.get(name, ...) else text)
        body.append(" & ".join(cells) + r" \\")
    notes = [tex(note) for note in _protocols(rows)]
    if any(map(is_disturbed, rows)):
        notes.append("*: timed beside other work.")
    lines = [r"\begin{table}", r"\centering", rf"\caption{{Pareto front of {tex(record.name)}.}}"]
    lines += [rf"\begin{{tabular}}{{rl{'r' * len(names)}}}", r"\toprule", " & ".join(map(tex, heads)) + r" \\"]
    lines += [r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(rf"\par\footnotesize {note}" for note in notes), r"\end{table}"]) + "\n"


def _protocols(trials: list[TrialRow]) -> list[str]:
    found: dict[str, None] = {}
    for m in (trial.measurement for trial in trials if trial.measurement):
        if m.accuracy:
            found[f"Accuracy: {protocols.accuracy_protocol(m.accuracy.protocol)}."] = None
        if m.latency:
            cpu = m.latency.environment.gpu if m.latency.protocol.device != "cpu" else m.latency.environment.cpu
            found[f"Latency: {protocols.latency_protocol(m.latency.protocol)}; {cpu}."] = None
    return list(found)


def bibtex(record: StudyRecord) -> str:
    """Return BibTeX for a study's families, parts, published networks and data; empty if unknown."""
    mentioned = {name.lower() for name in _mentioned(record)}
    entries = (Path(__file__).parent / "papers.bib").read_text(encoding="utf-8").strip().split("\n\n")
    by_key = {entry.partition("{")[2].partition(",")[0]: entry for entry in entries}
    return "".join(f"{by_key[key]}\n\n" for key, names in _PAPERS.items() if mentioned.intersection(names)).rstrip("\n")


def _mentioned(record: StudyRecord) -> Iterator[str]:
    for trial in record.trials:
        if outcome(trial) == "finished":
            yield from _parts(trial.arch or {})
    for data in {trial.accuracy.protocol.data for trial in record.trials if trial.accuracy}:
        yield from re.findall(r"[\w+-]+", data)
    for point in record.published:
        yield point.family
        yield from _parts(point.params)


def _parts(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of a network's family and parts, including those of its encoder."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _parts(value)
        elif isinstance(value, str) and name.rpartition(".")[2] in _PARTS:
            yield value
