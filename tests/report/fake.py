"""A made-up study of two families, the same for the same arguments: figures such as a real search would give."""

import math
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from nasseg.records import (
    Accuracy,
    AccuracyProtocol,
    Cost,
    CostProtocol,
    Environment,
    Latency,
    LatencyProtocol,
    Measurement,
    Objective,
    PublishedPoint,
    Stage,
    StudyRecord,
    TrialRow,
    digest,
)

# Cityscapes' classes with an IoU that a small network reaches on them.
CLASSES = {
    "road": 97.6,
    "sidewalk": 80.5,
    "building": 91.0,
    "wall": 49.0,
    "fence": 50.5,
    "pole": 57.0,
    "traffic light": 62.0,
    "traffic sign": 71.0,
    "vegetation": 91.5,
    "terrain": 61.0,
    "sky": 94.0,
    "person": 77.5,
    "rider": 53.0,
    "car": 93.0,
    "truck": 60.0,
    "bus": 74.0,
    "train": 62.0,
    "motorcycle": 48.5,
    "bicycle": 73.0,
}
SIZE = (512, 1024)
ENVIRONMENT = Environment(
    nasseg="0.1.0",
    commit="ce69c53",
    python="3.11.7",
    torch="2.13.0",
    system="Linux-6.1-x86_64-with-glibc2.36",
    cpu="AMD EPYC 9R14",
    cores=2,
)
COST = CostProtocol(input_size=SIZE, num_classes=19)
LATENCY = LatencyProtocol(device="cpu", input_size=SIZE, num_classes=19)
WIDTHS = {2: 32, 4: 48, 8: 128, 16: 256, 32: 320}  # by stride
LIMITS = {"macs": {"max": 7e9}, "latency_ms": {"max": 80.0}}
STEPS = (300, 1200)  # by rung


def fake_record(trials: int = 400, seed: int = 0) -> StudyRecord:
    rng = random.Random(seed)
    rows: list[TrialRow] = []
    waiting: list[TrialRow] = []  # at rung 0
    for number in range(trials):
        finished = [row for row in rows if row.state == "COMPLETE" and row.reused_from is None]
        if finished and rng.random() < 0.02:
            source = rng.choice(finished)
            rows.append(replace(source, number=number, reused_from=source.number))
        elif waiting and rng.random() < 0.1:
            rows.append(_promoted(number, waiting.pop(0), rng))
        else:
            rows.append(_trial(number, rng))
            if "stopped_at_rung" in rows[-1].extra:
                waiting.append(rows[-1])
    rows.append(TrialRow(number=trials, state="RUNNING", arch=_arch(rng), started="2026-03-02T11:58:03"))
    return StudyRecord(
        name="street-scenes/cpu-front",
        question="Which of RegSeg and BiSeNetV2 gives the better accuracy for its latency on one CPU core, and does "
        "a long dilation schedule still pay below 5 G multiply-adds?",
        objectives=(
            Objective(name="miou", unit="%", direction="maximize"),
            Objective(name="latency_ms", unit="ms", direction="minimize"),
            Objective(name="macs", unit="", direction="minimize"),
        ),
        limits=LIMITS,
        trials=tuple(rows),
        published=PUBLISHED,
        identity={"space": "regseg-or-bisenetv2 (9f3c61aa07d2be14)", "data": "street scenes, 1d3f00c2a94e7b65"},
        command="nasseg search street-scenes/cpu-front --trials 400 --workers 2",
        created="2026-03-02T08:00:00",
        environment={"nasseg": "0.1.0", "commit": "ce69c53", "python": "3.11.7", "torch": "2.13.0", "optuna": "5.0.0"},
        study_file=STUDY_FILE,
        extra={"searched_seconds": 30.0 * trials, "price_per_hour": 0.34},
    )


def without_parameters(record: StudyRecord) -> StudyRecord:
    """Return a study that varies nothing, for tests of the rest of its page: most of the time goes into parameters."""
    return replace(record, trials=tuple(replace(trial, params={}) for trial in record.trials))


def hostile_record(text: str) -> StudyRecord:
    """A small study with `text` in every field that holds text, keys of mappings and names of figures too."""

    def poison(value: Any) -> Any:
        if isinstance(value, str):
            return text
        if isinstance(value, dict):
            return {f"{text} {key}": poison(item) for key, item in value.items()}
        return value

    record = fake_record(60)
    objectives = tuple(replace(o, name=f"{text} {o.name}", unit=text) for o in record.objectives)
    environment = replace(
        ENVIRONMENT, nasseg=text, commit=text, python=text, torch=text, system=text, cpu=text, gpu=text
    )
    rows = []
    for row in record.trials:
        m = row.measurement
        if m is not None and m.cost is not None:
            cost = replace(m.cost, environment=environment, protocol=replace(COST, form=text, rule=text))
            m = replace(
                m, arch_id=text, cost=replace(cost, uncounted={text: 1}), custom={text: {"value": 1.0, "unit": text}}
            )
        if m is not None and m.latency is not None:
            latency = replace(LATENCY, device=text, precision=text, backend=text, memory_format=text, form=text)
            m = replace(m, latency=replace(m.latency, environment=environment, protocol=latency))
        if m is not None and m.accuracy is not None:
            p = replace(
                m.accuracy.protocol, data=text, data_fingerprint=text, recipe=text, recipe_hash=text, split=text
            )
            ious = {f"{text} {name}": iou for name, iou in m.accuracy.class_iou.items()}
            m = replace(m, accuracy=replace(m.accuracy, environment=environment, protocol=p, class_iou=ious))
        arch = {**poison({k: v for k, v in row.arch.items() if k != "family"}), "family": text} if row.arch else None
        rows.append(
            replace(
                row,
                arch=arch,
                params=poison(row.params),
                values={f"{text} {k}": v for k, v in row.values.items()},
                reason=text,
                measurement=m,
                started=text,
                finished=text,
                extra={text: text},
            )
        )
    published = tuple(
        PublishedPoint(
            name=text,
            citation=text,
            family=text,
            params=poison(p.params),
            figures={f"{text} {name}": value for name, value in p.figures.items()},
        )
        for p in record.published
    )
    return StudyRecord(
        name=text,
        question=text,
        objectives=objectives,
        limits={f"{text} {k}": v for k, v in LIMITS.items()},
        trials=tuple(rows),
        published=published,
        identity={text: text},
        command=text,
        created=text,
        environment={text: text},
        study_file=text,
        extra={text: text},
    )


def _arch(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.55:
        a, b = rng.randint(1, 6), rng.randint(1, 6)
        d, e = rng.choice((2, 4, 6)), rng.choice((8, 10, 12, 14))
        return {
            "family": "regseg",
            "width": rng.choice((0.5, 0.75, 1.0, 1.25)),
            "group_width": rng.choice((8, 16)),
            "dilations": f"(1,1)+{a}*(1,{d})+{b}*(1,{e})",
            "decoder_channels": (128, 64),
            "se": True,
            "input_scale": 1.0,
        }
    return {
        "family": "bisenetv2",
        "width": rng.choice((0.5, 0.75, 1.0, 1.5)),
        "channel_ratio": rng.choice((0.125, 0.25, 0.5)),
        "expansion": rng.choice((2, 4, 6, 8)),
        "depth": rng.choice((1, 2)),
        "aggregation": rng.choice(("bga", "sum")),
        "context": rng.random() < 0.8,
        "input_scale": rng.choice((0.5, 1.0)),
    }


def _strength(arch: dict[str, Any]) -> tuple[float, float]:
    """Multiply-adds and the mIoU that a long training would come to."""
    if arch["family"] == "regseg":
        blocks = sum(int(part.split("*")[0]) if "*" in part else 1 for part in arch["dilations"].split("+"))
        reach = int(arch["dilations"].rsplit(",", 1)[1].rstrip(")"))
        macs = 7.5e8 * (0.6 + 5.5 * arch["width"] ** 2 * (0.5 + blocks / 13))
        return macs, 46 + 11.5 * math.log10(macs / 1e9) + 0.25 * reach + (1.0 if arch["group_width"] == 16 else 0.0)
    macs = (
        4.2e9 * arch["width"] ** 2 * (0.5 + arch["expansion"] / 8) * (0.7 + 0.3 * arch["depth"]) * arch["input_scale"]
    )
    macs *= 0.8 + 0.8 * arch["channel_ratio"]
    gain = (1.2 if arch["aggregation"] == "bga" else 0.0) + (0.8 if arch["context"] else 0.0)
    return macs, 49.5 + 10 * math.log10(macs / 1e9) + gain - (4 if arch["input_scale"] < 1 else 0)


def _times(number: int) -> dict[str, str]:
    """Forty seconds each, three at a time."""
    start = datetime(2026, 3, 2, 8) + timedelta(seconds=37 * number)
    return {"started": start.isoformat(), "finished": (start + timedelta(seconds=90 + number % 40)).isoformat()}


def _trial(number: int, rng: random.Random) -> TrialRow:
    arch = _arch(rng)
    macs, limit_miou = _strength(arch)
    row = TrialRow(
        number=number,
        state="COMPLETE",
        arch=arch,
        params={k: v for k, v in arch.items() if k != "decoder_channels"},
        rung=0,
        seed=0,
        **_times(number),
    )
    if rng.random() < 0.01:
        return replace(row, state="FAIL", reason="loss is not finite\nat step 212: nan, learning rate 0.05")
    cost = _cost(int(macs), arch)
    measurement = Measurement(arch_id=digest([arch, "graph"]), cost=cost)
    if macs > LIMITS["macs"]["max"]:
        return replace(row, state="PRUNED", reason="macs is over the limit of 7e+09", measurement=measurement)
    p50 = (4 + 9.5 * macs / 1e9 * (1.25 if arch["family"] == "regseg" else 1.0)) * rng.lognormvariate(0, 0.07)
    latency = Latency(
        protocol=LATENCY,
        environment=ENVIRONMENT,
        p50_ms=p50,
        p90_ms=1.05 * p50,
        p99_ms=1.12 * p50,
        iqr_ms=0.03 * p50,
        n=max(20, int(500 / p50)),
        disturbed=rng.random() < 0.05,
        parts_ms={"encoder": 0.7 * p50, "decoder": 0.25 * p50, "head": 0.05 * p50},
    )
    measurement = replace(measurement, latency=latency)
    if p50 > LIMITS["latency_ms"]["max"]:
        return replace(row, state="PRUNED", reason="latency_ms is over the limit of 80", measurement=measurement)
    rung = 1 if rng.random() < 0.6 else 0
    measurement = replace(measurement, accuracy=_accuracy(limit_miou - (0 if rung else 9), rung, p50, rng))
    assert measurement.accuracy is not None
    values = {"miou": measurement.accuracy.miou, "latency_ms": p50, "macs": float(cost.macs)}
    row = replace(row, measurement=measurement, rung=rung)
    if rung == 0:
        reason = f"stopped at step {STEPS[0]} of {STEPS[1]}"
        return replace(row, state="PRUNED", reason=reason, extra={"stopped_at_rung": True})
    return replace(row, values=values)


def _promoted(number: int, before: TrialRow, rng: random.Random) -> TrialRow:
    """The last rung of a network that was stopped."""
    assert before.measurement is not None
    assert before.measurement.latency is not None
    assert before.arch is not None
    p50, (_, miou) = before.measurement.latency.p50_ms, _strength(before.arch)
    measurement = replace(before.measurement, accuracy=_accuracy(miou, 1, p50, rng))
    assert measurement.accuracy is not None
    assert before.measurement.cost is not None
    values = {"miou": measurement.accuracy.miou, "latency_ms": p50, "macs": float(before.measurement.cost.macs)}
    return replace(
        before,
        number=number,
        state="COMPLETE",
        reason=None,
        rung=1,
        values=values,
        measurement=measurement,
        extra={"continues": before.number},
        **_times(number),
    )


def _cost(macs: int, arch: dict[str, Any]) -> Cost:
    share = {2: 0.13, 4: 0.17, 8: 0.24, 16: 0.4, 32: 0.06}
    stages = tuple(
        Stage(
            stride=s,
            width=WIDTHS[s],
            operators=6 + 5 * i,
            params=int(macs / 1e3 * part * 4**i / 60),
            macs=int(macs * part),
            activations=int(8.4e6 / s),
        )
        for i, (s, part) in enumerate(share.items())
    )
    return Cost(
        protocol=COST,
        environment=ENVIRONMENT,
        params=sum(s.params for s in stages),
        macs=sum(s.macs for s in stages),
        fvcore_flops=int(macs * 1.03),
        activations=sum(s.activations for s in stages),
        peak_activation_bytes=int(24 * 2**20 * (macs / 1e9) ** 0.5),
        field_of_view=1551 if arch["family"] == "regseg" else 327,
        stages=stages,
        uncounted={"relu": 41, "sigmoid": 6},
    )


def _accuracy(miou: float, rung: int, p50: float, rng: random.Random) -> Accuracy:
    steps = STEPS[rung]
    miou = max(8.0, miou + rng.gauss(0, 0.8))
    mean = sum(CLASSES.values()) / len(CLASSES)
    ious: dict[str, float | None] = {
        name: min(99.0, max(0.0, top * (miou / mean) ** (2 - top / 97.6) + rng.gauss(0, 1.5)))
        for name, top in CLASSES.items()
    }
    ious["train"] = None  # does not occur in the split
    known = [iou for iou in ious.values() if iou is not None]
    marks = range(0, steps + 1, steps // 30)
    curve = tuple((s, 0.35 + 2.6 * math.exp(-4 * s / steps) + rng.gauss(0, 0.04)) for s in marks)
    return Accuracy(
        protocol=AccuracyProtocol(
            data="street scenes",
            data_fingerprint="1d3f00c2a94e7b65",
            recipe="short",
            recipe_hash="77aa01c3d5e8f902",
            steps=steps,
            seed=0,
        ),
        environment=ENVIRONMENT,
        miou=sum(known) / len(known),
        pixel_accuracy=min(97.0, 84 + miou / 6),
        class_iou=ious,
        train_seconds=steps * p50 / 90,
        curve=curve,
    )


PUBLISHED = (
    PublishedPoint(
        name="RegSeg",
        citation="RegSeg, Table 5, exp48_decoder26",
        family="regseg",
        params={"width": 1.0, "dilations": "(1,1)+(1,2)+4*(1,4)+7*(1,14)"},
        figures={"macs": 4.9e9, "params": 3.34e6, "latency_ms": 66.0, "miou": 57.4},
    ),
    PublishedPoint(
        name="BiSeNetV2",
        citation="BiSeNetV2, Table 6",
        family="bisenetv2",
        params={"width": 1.0},
        figures={"macs": 5.3e9, "params": 3.4e6, "latency_ms": 58.0, "miou": 55.2},
    ),
    PublishedPoint(
        name="BiSeNetV2, lambda = 1/8",
        citation="BiSeNetV2, Table 3a",
        family="bisenetv2",
        params={"channel_ratio": 0.125},
        figures={"macs": 5.1e9, "params": 3.1e6, "latency_ms": 57.0, "miou": 54.9},
    ),
    PublishedPoint(
        name="BiSeNetV2-Large",
        citation="BiSeNetV2, Table 6",
        family="bisenetv2",
        params={"width": 2.0, "depth": 3},
        figures={"macs": 2.96e10, "params": 4.7e7},
    ),
)

STUDY_FILE = """\
question: Which of RegSeg and BiSeNetV2 gives the better accuracy for its latency on one CPU core?
expected: About four hours on two cores; a front of a dozen networks.
space: regseg-or-bisenetv2
objectives: [miou, latency_ms, macs]
limits:
  macs: {max: 7e+9}
  latency_ms: {max: 80}
data: {name: street-scenes}
recipe: {name: short, steps: 1200}
sampler: tpe
trials: 400
workers: 2
"""
