"""Write the page of the tabular benchmark on CamVid: every network with its figures, as in the report of a search.

    python -m tests.benchmarks.bench_camvid_page

makes reports/camvid-bench.html of the files in reports/camvid-bench. It trains and times nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from nasseg.families import arch_of
from nasseg.figures import FIGURES
from nasseg.measure.cost import measure_cost
from nasseg.measure.environment import environment
from nasseg.records import (
    IN_TURNS,
    Accuracy,
    AccuracyProtocol,
    Latency,
    LatencyProtocol,
    Measurement,
    Objective,
    StudyRecord,
    TrialRow,
)
from nasseg.report.write import write_report
from nasseg.space import load_space
from tests.benchmarks.bench_camvid import (
    CLASSES,
    COLUMNS,
    FOLDER,
    RECIPE,
    RUNGS,
    SIZE,
    Row,
    point_of,
    rows_of,
)

QUESTION = "Which of 300 small networks, drawn evenly by family and cost, are worth their cost on CamVid?"
LATENCY = LatencyProtocol(device="cpu", input_size=SIZE, num_classes=CLASSES, rule=IN_TURNS)
HERE = replace(environment(), commit=None)


def record() -> StudyRecord:
    timed = {row["arch_id"]: row for row in rows_of(FOLDER / "latency.csv")}
    names = ["miou", "latency_ms", "macs"] if timed else ["miou", "macs"]
    objectives = [Objective(name=f.name, unit=f.unit, direction=f.direction) for f in map(FIGURES.get, names) if f]
    return StudyRecord(
        name="camvid-bench",
        question=QUESTION,
        objectives=tuple(objectives),
        trials=tuple(trials(timed, names)),
        created="2026-11-30",
        environment=asdict(HERE),
    )


def trials(timed: dict[str, Row], names: list[str]) -> Iterator[TrialRow]:
    """Yield a trial for each training, in the order of networks.csv."""
    space = load_space(FOLDER / "camvid.yaml")
    ends: dict[str, list[Row]] = {}
    for row in rows_of(FOLDER / "trainings.csv"):
        if row["weights"] == "averaged" and row["step"] == str(RUNGS[-1]) and row["miou"]:
            ends.setdefault(row["arch_id"], []).append(row)
    number = 0
    for network in rows_of(FOLDER / "networks.csv"):
        point = point_of(network, space)
        arch = arch_of(space.settings(point))
        cost = measure_cost(arch, SIZE, CLASSES)
        for row in sorted(ends.get(arch.id, ()), key=lambda row: row["seed"]):
            measurement = Measurement(
                arch_id=arch.id, cost=cost, latency=latency(timed.get(arch.id)), accuracy=accuracy(row)
            )
            yield TrialRow(
                number=number,
                state="COMPLETE",
                arch={"family": arch.family, **arch.params()},
                params=point,
                values={name: value for name in names if (value := FIGURES[name].of(measurement)) is not None},
                measurement=measurement,
                seed=int(row["seed"]),
            )
            number += 1


def latency(row: Row | None) -> Latency | None:
    if row is None:
        return None
    ms, unknown = float(row["p50_ms"]), math.nan  # percentiles were not kept
    known: dict[str, Any] = {"iqr_ms": float(row["iqr_ms"]), "load": float(row["load"])}
    known |= {"reference_ms": float(row["reference_ms"]), "disturbed": row["disturbed"] == "True"}
    return Latency(protocol=LATENCY, environment=HERE, p50_ms=ms, p90_ms=unknown, p99_ms=unknown, n=0, **known)


def accuracy(row: Row) -> Accuracy:
    protocol = AccuracyProtocol(
        data="CamVid at 120 x 160",
        data_fingerprint=row["protocol"],
        recipe="camvid-bench",
        recipe_hash=RECIPE.hash,
        steps=RUNGS[-1],
        seed=int(row["seed"]),
    )
    return Accuracy(
        protocol=protocol,
        environment=HERE,
        miou=float(row["miou"]),
        pixel_accuracy=float(row["pixel_accuracy"]),
        class_iou={name: float(value) for name, value in row.items() if name not in COLUMNS and value},
        train_seconds=float(row["cpu_seconds"]),
    )


def main() -> None:
    print(write_report(record(), FOLDER.with_suffix(".html"), shared=True))


if __name__ == "__main__":
    main()
