"""The report's page: one HTML file that needs nothing else, neither a network nor a server."""

import base64
import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from nasseg.analyse.table import front_frame, networks_trained, progress, reasons, trial_figures, trials_frame
from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.records import StudyRecord, TrialRow
from nasseg.report.figures import finished_points, front_figures, hypervolume_figure, number

_HERE = Path(__file__).parent


def write_report(record: StudyRecord, path: Path | str) -> Path:
    """Write a study's report as one self-contained HTML file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    target = Path(path)
    page = render(record)
    try:
        with written_whole(target) as partial:
            partial.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the report {target}: {error.strerror}; choose another place with -o") from None
    return target


def render(record: StudyRecord) -> str:
    """The page as text."""
    data = {
        "study": record.name,
        "objectives": [objective.name for objective in record.objectives],
        "fronts": {pair: figure.to_plotly_json() for pair, figure in front_figures(record).items()},
        "hypervolume": hypervolume_figure(record).to_plotly_json(),
        "trials": {point.trial.number: detail(record, point.trial) for point in finished_points(record)},
        "csv": trials_frame(record).to_csv(index=False),
    }
    sections = [
        _headline(record),
        _front_section(record),
        _front_table(record),
        _section("How the search went", '<div id="hypervolume" class="chart small"></div>' + _ledger(record), "search"),
        _provenance(record),
    ]
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(record.name)}: nasseg report</title><style>{_file('page.css')}</style></head><body>"
        f"<main>{''.join(sections)}</main>"
        f"{_packed('data', json.dumps(data, default=_plain))}{_packed('plotly', get_plotlyjs())}"
        f"<script>{_file('page.js')}</script></body></html>\n"
    )


def detail(record: StudyRecord, trial: TrialRow) -> dict[str, Any]:
    """What the panel of one trial shows."""
    arch, m = dict(trial.arch or {}), trial.measurement
    chosen, groups = set(_chosen(trial)), []  # what the search chose comes first
    if m and m.cost:
        c = m.cost
        rows = [("parameters", number(c.params)), ("multiply-adds", number(c.macs)),
                ("fvcore FLOPs", number(c.fvcore_flops)), ("activations", number(c.activations)),
                ("field of view", f"{c.field_of_view:,} px")]  # fmt: skip
        groups.append({"name": "Cost", "rows": rows, "protocol": _protocol(c.protocol)})
    if m and m.latency:
        t = m.latency
        rows = [("median", f"{t.p50_ms:.3g} ms"), ("p90, p99", f"{t.p90_ms:.3g}, {t.p99_ms:.3g} ms"),
                ("replicates", f"{t.n}{', disturbed' if t.disturbed else ''}")]  # fmt: skip
        groups.append({"name": "Latency", "rows": rows, "protocol": _protocol(t.protocol)})
    if m and m.accuracy:
        a = m.accuracy
        rows = [("mIoU", f"{a.miou:.2f} %"), ("pixel accuracy", f"{a.pixel_accuracy:.2f} %"),
                ("training", f"{a.train_seconds:.0f} s")]  # fmt: skip
        groups.append({"name": "Accuracy", "rows": rows, "protocol": _protocol(a.protocol)})
    own = [(name, f"{entry['value']:.4g} {entry['unit']}") for name, entry in (m.custom if m else {}).items()]
    if own:
        groups.append({"name": "Own figures", "rows": own, "protocol": ""})
    return {
        "title": f"Trial {trial.number}: {arch.pop('family', 'unknown')}",
        "arch": [(name, str(arch[name])) for name in sorted(arch, key=lambda name: name not in chosen)],
        "groups": groups,
        "iou": list(m.accuracy.class_iou.items()) if m and m.accuracy else [],
        "curve": m.accuracy.curve if m and m.accuracy else [],
        "stages": [asdict(stage) for stage in m.cost.stages] if m and m.cost else [],
        "command": f"nasseg measure '{record.name}#{trial.number}' --latency",
        "id": m.arch_id if m else "",
    }


def _headline(record: StudyRecord) -> str:
    counts = progress(record)
    front = front_frame(record)
    cards = [("networks trained", networks_trained(record)), ("on the front", len(front)),
             ("over a limit, never trained", counts["rejected"]), ("failed", counts["failed"])]  # fmt: skip
    best = []
    for objective in record.objectives:
        if not front.empty:
            row = front.sort_values(objective.name, ascending=objective.direction == "minimize").iloc[0]
            value = f"{number(row[objective.name])} {objective.unit}".strip()
            best.append(
                f"{escape(objective.name)} <b>{escape(value)}</b> (trial {row['number']}, {escape(str(row['family']))})"
            )
    tiles = "".join(f"<div class='card'><b>{value}</b><span>{label}</span></div>" for label, value in cards)
    sentence = f"<p>Best of each objective: {'; '.join(best)}.</p>" if best else "<p>No trial is finished yet.</p>"
    question = escape(record.question.strip())
    header = f"<header><h1>{escape(record.name)}</h1><p class='question'>{question}</p></header>"
    return f"{header}<div class='cards'>{tiles}</div>{sentence}"


def _front_section(record: StudyRecord) -> str:
    def select(axis: str, chosen: int) -> str:
        options = "".join(
            f"<option{' selected' if index == chosen else ''}>{escape(objective.name)}</option>"
            for index, objective in enumerate(record.objectives)
        )
        return (
            f"<label>{axis} <select id='{axis}'>{options}</select></label>"
            f"<label><input type='checkbox' id='log-{axis}'> log</label>"
        )

    last = len(record.objectives) - 1
    hint = "<span class='hint'>Click a point to see its network.</span>"
    controls = f"<div class='controls'>{select('x', last)}{select('y', 0)}{hint}</div>"
    panel = "<aside id='panel' aria-live='polite'><p class='hint'>No network chosen.</p></aside>"
    body = f"{controls}<div class='columns'><div id='front' class='chart'></div>{panel}</div>"
    return _section(
        "The front",
        body + "<noscript>The charts need JavaScript; the table below does not.</noscript>",
        "front-section",
    )


def _front_table(record: StudyRecord) -> str:
    objectives = [objective.name for objective in record.objectives]
    more = [name for name in ("params", "macs", "latency_ms", "miou") if name not in objectives]
    heads = ["trial", "family", *objectives, *more, "architecture"]
    rows = []
    points = {point.trial.number: point for point in finished_points(record) if point.on_front}
    for trial_number in front_frame(record)["number"]:
        trial = points[trial_number].trial
        figures, arch = trial_figures(trial), dict(trial.arch or {})
        family = str(arch.pop("family", "unknown"))
        setting = ", ".join(f"{name} {trial.arch[name]}" for name in _chosen(trial) if trial.arch)
        cells = [f"<td><a href='#panel' data-trial='{trial.number}'>{trial.number}</a></td><td>{escape(family)}</td>"]
        cells += [
            f"<td class='n' data-value='{figures.get(n, '')}'>{number(figures.get(n))}</td>" for n in objectives + more
        ]
        rows.append(f"<tr>{''.join(cells)}<td class='arch'>{escape(setting)}</td></tr>")
    head = "".join(f"<th scope='col'><button type='button'>{escape(name)}</button></th>" for name in heads)
    table = f"<table id='front-table'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    table = f"<div class='scroll'>{table}</div>"
    download = "<p><button type='button' id='csv'>Download all trials as CSV</button></p>"
    return _section(f"Networks on the front ({len(rows)})", table + download, "table-section")


def _chosen(trial: TrialRow) -> list[str]:
    """The fields that the search chose, in the arch's order."""
    drawn = {part for name in trial.params for part in name.split(".")}
    return [name for name in trial.arch or {} if name != "family" and (name in drawn or not trial.params)]


def _ledger(record: StudyRecord) -> str:
    parts = []
    for title, kind in (
        ("Over a limit, never trained", "rejected"),
        ("Failed", "failed"),
        ("Stopped early", "stopped"),
    ):
        counted = reasons(record, kind)  # type: ignore[arg-type]
        if counted:
            rows = "".join(f"<tr><td class='n'>{n}</td><td>{escape(reason)}</td></tr>" for reason, n in counted.items())
            parts.append(f"<h3>{title}</h3><div class='scroll'><table>{rows}</table></div>")
    reused = progress(record)["reused"]
    if reused:
        parts.append(f"<p>{reused} candidates were networks already trained: answered from the record.</p>")
    return "".join(parts) or "<p>No candidate was rejected, and none failed.</p>"


def _provenance(record: StudyRecord) -> str:
    facts = {"command": record.command, "created": record.created, **record.environment}
    protocols = {name: value for name, value in record.identity.items() if value}
    published = [
        (p.name, p.citation, ", ".join(f"{k} {number(v)}" for k, v in p.figures.items())) for p in record.published
    ]
    body = _definitions(facts) + "<h3>Protocols and identity</h3>" + _definitions(protocols)
    if published:
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in published)
        body += "<h3>Published networks, measured under this study's protocols</h3>"
        body += f"<div class='scroll'><table>{rows}</table></div>"
    body += f"<details><summary>Study file</summary><pre>{escape(record.study_file)}</pre></details>"
    if "space_file" in record.extra:
        body += f"<details><summary>Space file</summary><pre>{escape(str(record.extra['space_file']))}</pre></details>"
    return _section("Where these figures come from", body, "provenance")


def _definitions(items: dict[str, Any]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return (
        "<dl>"
        + "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(shown(v))}</dd>" for k, v in items.items() if v)
        + "</dl>"
    )


def _protocol(protocol: Any) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {'x'.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in asdict(protocol).items()
    )


def _section(title: str, body: str, name: str) -> str:
    return f"<section id='{name}'><h2>{escape(title)}</h2>{body}</section>"


def _packed(name: str, text: str) -> str:
    """Text as a compressed block that page.js unpacks; base64 holds nothing that could end the script element."""
    packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    return f"<script type='application/gzip' id='{name}'>{packed}</script>"


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _plain(value: Any) -> Any:
    """Arrays in Plotly's figures as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
