"""The page's panel about one network: plain data, already in words."""

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from nasseg import words
from nasseg.analyse.remeasured import SEARCHED_MS
from nasseg.analyse.trials import broken_limit, outcome, trial_figures
from nasseg.errors import UserError
from nasseg.figures import figure_in, label_of
from nasseg.records import Measurement, PublishedPoint, StudyRecord, TrialRow
from nasseg.report.html import protocols
from nasseg.report.numbers.front_view import family_of, key_of, over_words
from nasseg.schedule import parse_schedule

OUTCOMES = {
    "finished": "finished",
    "reused": "same network and protocol as an earlier trial",
    "stopped": "stopped at a rung",
    "rejected": "rejected by a limit",
    "failed": "failed",
    "running": "running",
    "waiting": "waiting",
}
# Attributes that a report shows elsewhere, or that only the search needs.
_HIDDEN = {"arch_id", "eval_key", "lease", "constraints", "continues", "stopped_at_rung"}

# Names of figures in the panel -> 1 if more is better, -1 if less is; for the best in a comparison.
BETTER = {
    **dict.fromkeys(("mIoU", "pixel accuracy", "field of view"), 1),
    **dict.fromkeys(("training time", "median", "p90", "p99", "interquartile range"), -1),
    **dict.fromkeys(("multiply-adds", "parameters", "FLOPs as fvcore counts", "activations"), -1),
    **dict.fromkeys(map(label_of, ("peak_activation_bytes", "eager_memory_bytes")), -1),
}

Trials = Mapping[int, TrialRow]  # by number


def trial_detail(
    record: StudyRecord,
    trial: TrialRow,
    front: bool,
    certainty: dict[str, Any] | None = None,
    trials: Trials | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """Return everything recorded about a trial, and how certain it is.

    trials: all of the study; a trial may continue another. prefix: of their names.
    """
    state, reason = OUTCOMES[outcome(trial)], trial.reason
    if outcome(trial) == "finished":
        broken = broken_limit(record.limits, trial)
        state = "on the front" if front else "over a limit" if broken else "dominated"
        reason = over_words(record, broken) if broken else reason
    before = trial.extra.get("continues")
    facts = [("rung", str(trial.rung)), ("seed", trial.seed), ("reused from", trial.reused_from)]
    facts += [("continues", None if before is None else f"#{prefix}{before}")]
    facts += [("started", words.moment(trial.started)), ("finished", words.moment(trial.finished))]
    if trial.measurement:
        facts.append(("arch id", trial.measurement.arch_id))
    elsewhere = {*trial_figures(trial), *_HIDDEN}
    facts += [(name, words.plain(value)[:300]) for name, value in trial.extra.items() if name not in elsewhere]
    return {
        "title": f"#{key_of(trial, prefix)} {family_of(trial)}",
        "key": key_of(trial, prefix),
        "state": state,
        "front": front,
        "reason": reason,
        "arch": _arch(trial),
        "groups": [*_groups(record, trial), *([certainty] if certainty else [])],
        "commands": _commands(record, trial) if trial.arch else [],
        "facts": [[key, str(value)] for key, value in facts if value not in (None, "")],
        "schedules": list(_schedules(trial.arch or {})),
        **_curves(trial.measurement),
        "rungs": _rungs(trial, trials or {}),
    }


def published_detail(record: StudyRecord, point: PublishedPoint) -> dict[str, Any]:
    broken = broken_limit(record.limits, point)
    known = [(figure_in(record, name), value) for name, value in point.figures.items()]
    figures = [[figure.label, figure.text(value)] for figure, value in known]
    return {
        "title": point.name,
        "state": "published network, over a limit" if broken else "published network",
        "reason": over_words(record, broken) if broken else None,
        "front": False,
        "arch": [["family", point.family], *([key, words.plain(value)] for key, value in point.params.items())],
        "groups": [{"title": "Figures", "protocol": point.citation, "figures": figures}],
        "facts": [],
    }


def _arch(trial: TrialRow) -> list[list[str]]:
    """Return fields and values, the search's choices first."""
    fields = {key: value for key, value in (trial.settings or trial.params).items() if key != "family"}
    chosen = {part for name in trial.params for part in (name, *name.split("."))}
    return [[key, words.plain(fields[key])] for key in sorted(fields, key=lambda key: key not in chosen)]


def _groups(record: StudyRecord, trial: TrialRow) -> list[dict[str, Any]]:
    """Return figures by origin: objectives first, then each part of the measurement with its protocol."""
    objectives = [
        [label_of(objective.name), words.number(trial.values[objective.name], objective.unit)]
        for objective in record.objectives
        if objective.name in trial.values
    ]
    groups: list[dict[str, Any]] = (
        [{"title": "Objectives", "protocol": "", "figures": objectives}] if objectives else []
    )
    m = trial.measurement
    if m and m.accuracy:
        a = m.accuracy
        figures = [
            ("mIoU", a.miou, "%"),
            ("pixel accuracy", a.pixel_accuracy, "%"),
            ("training time", a.train_seconds, "s"),
        ]
        groups.append(
            _group("Accuracy", protocols.accuracy_protocol(a.protocol), protocols.environment(a.environment), figures)
        )
        deviations, loaded = trial.extra.get("deviations", ()), trial.extra.get("init", ())
        said = ([f"Deviations from its source: {'; '.join(deviations)}."] if deviations else []) + [
            f"Starting weights: {line}." for line in loaded
        ]
        if said:
            groups[-1]["note"] = " ".join(said)
        if a.unpredicted:
            groups[-1]["warning"] = f"{a.unpredicted:,} pixels have no prediction (a logit is NaN) and count as wrong."
    if m and m.latency:
        t = m.latency
        figures = [("median", t.p50_ms, "ms"), ("p90", t.p90_ms, "ms"), ("p99", t.p99_ms, "ms")]
        figures += [("interquartile range", t.iqr_ms, "ms")] if t.iqr_ms is not None else []
        figures += [("runs", t.n, "")]
        figures += [(f"energy of an image, {t.energy.rule}", t.energy.mj, "mJ")] if t.energy else []
        if SEARCHED_MS in trial.extra:
            figures += [("median in the search, before it was timed again", trial.extra[SEARCHED_MS], "ms")]
        if t.ratio is not None and t.reference_ms is not None:
            figures += [
                ("ratio to the reference network", t.ratio, ""),
                ("its time in the study", t.reference_ms, "ms"),
            ]
            figures += [("its drift since then, corrected for", t.drift, "")]
        groups.append(
            _group("Latency", protocols.latency_protocol(t.protocol), protocols.environment(t.environment), figures)
        )
        if t.disturbed:
            groups[-1]["warning"] = "Other work was running while it was timed, and repeats did not help."
    if m and m.cost:
        c = m.cost
        figures = [
            ("multiply-adds", c.macs, ""),
            ("parameters", c.params, ""),
            ("FLOPs as fvcore counts", c.fvcore_flops, ""),
        ]
        figures += [("activations", c.activations, ""), ("field of view", c.field_of_view, "px")]
        memory = {name: getattr(c, name) for name in ("peak_activation_bytes", "eager_memory_bytes")}
        figures += [(label_of(name), size / 2**20, "MiB") for name, size in memory.items() if size is not None]
        groups.append(
            _group("Cost", protocols.cost_protocol(c.protocol), protocols.environment(c.environment), figures)
        )
        if c.uncounted:
            groups[-1]["note"] = f"Operators that fvcore does not count: {words.plain(c.uncounted)}."
        if c.unknown:
            groups[-1]["warning"] = (
                f"It may need more multiply-adds: operators without a rule are {words.plain(c.unknown)}."
            )
    if m and m.custom:
        own = [(name, float(entry["value"]), str(entry.get("unit", ""))) for name, entry in m.custom.items()]
        sources = ", ".join(sorted({str(entry.get("source", "unknown source")) for entry in m.custom.values()}))
        groups.append(_group("Own figures", sources, "", own))
    return groups


def _group(title: str, protocol: str, environment: str, figures: list[tuple[str, float, str]]) -> dict[str, Any]:
    rows = [[name, words.number(value, unit)] for name, value, unit in figures]
    return {"title": title, "protocol": protocol, "environment": environment, "figures": rows}


def _commands(record: StudyRecord, trial: TrialRow) -> list[list[str]]:
    """Return commands to continue with a network. The reader chooses RECIPE."""
    address = shlex.quote(f"{record.name}#{trial.number}")
    file = shlex.quote(f"{re.sub(r'[^a-zA-Z0-9_.-]+', '-', record.name)}-{trial.number}.onnx")
    accuracy = trial.accuracy
    data = shlex.quote(accuracy.protocol.data) if accuracy else "DATA"
    return [
        ["Train it to the end", f"nasseg train {address} --data {data} --recipe RECIPE"],
        ["Measure it again", f"nasseg measure {address} --latency"],
        ["Export it", f"nasseg export {address} -o {file}"],
        ["See its graph, after `pip install netron`", f"nasseg export {address} -o {file} && netron {file}"],
    ]


def _schedules(arch: Mapping[str, Any], prefix: str = "") -> Iterator[list[Any]]:
    """Yield the dilation schedules of an architecture and its encoder: name, notation, runs of blocks.

    A run is [blocks, [rates, one per branch]].
    """
    for name, value in arch.items():
        if isinstance(value, Mapping):
            yield from _schedules(value, f"{prefix}{name}.")
        elif isinstance(value, str) and "(" in value:
            try:
                schedule = parse_schedule(value)
            except UserError:
                continue
            yield [f"{prefix}{name}", value, [[len(list(run)), list(entry)] for entry, run in groupby(schedule)]]


def _rungs(trial: TrialRow, trials: Trials) -> list[list[float]]:
    """Return mIoU at each rung that stopped the network, and now: [step, percent]."""
    points: list[list[float]] = []
    seen: set[int] = set()
    now: TrialRow | None = trial
    while now is not None and now.number not in seen:
        seen.add(now.number)
        accuracy = now.accuracy
        if accuracy and abs(accuracy.miou) < float("inf"):
            points.append([accuracy.protocol.steps, round(accuracy.miou, 2)])
        now = trials.get(now.extra.get("continues", -1))
    return points[::-1] if len(points) > 1 else []


def _curves(m: Measurement | None) -> dict[str, Any]:
    """Return IoU by class (best first), cost by stage and the learning curve, if known."""
    found: dict[str, Any] = {}
    if m and m.accuracy:
        items = sorted(
            m.accuracy.class_iou.items(), key=lambda item: -1.0 if item[1] is None else item[1], reverse=True
        )
        found["iou"] = [[name, None if iou is None else round(iou, 1)] for name, iou in items]
        found["curve"] = [[step, float(f"{loss:.4g}")] for step, loss in m.accuracy.curve if abs(loss) < float("inf")]
    if m and m.latency and m.latency.parts_ms:
        whole = sum(m.latency.parts_ms.values())
        found["parts"] = [
            [name, words.number(ms, "ms"), round(100 * ms / whole, 1)] for name, ms in m.latency.parts_ms.items()
        ]
    if m and m.cost:
        total = max(1, sum(stage.macs for stage in m.cost.stages))
        found["input"] = list(m.cost.protocol.input_size)
        found["blocks"] = [
            [block.stride, block.width, round(100 * block.macs / total, 1), list(block.inputs)]
            for block in m.cost.blocks
        ]
        found["stages"] = [
            [
                stage.stride,
                stage.width or None,
                words.number(stage.params),
                words.number(stage.macs),
                round(100 * stage.macs / total, 1),
            ]
            for stage in m.cost.stages
        ]
    return found
