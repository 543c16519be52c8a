"""A tabular benchmark on real images: networks of all families, drawn evenly by cost, each trained on CamVid.

    python -m tests.benchmarks.bench_camvid --data PATH/TO/camvid         trains what is not trained yet
    python -m tests.benchmarks.bench_camvid --data PATH --share 1/2       every second one of all, beside --share 2/2
    python -m tests.benchmarks.bench_camvid --latency                     times networks instead: on a quiet machine
    python -m tests.benchmarks.bench_camvid --table                       makes camvid.csv anew, and nothing else

Everything lies in reports/camvid-bench. networks.csv: the networks in the order in which they are trained, of which any
beginning is drawn evenly. trainings.csv: a row for each training, rung and kind of weights; the rows of a training are
written at once when it ends, so it may be killed at any moment and goes on where it was. latency.csv: likewise.
camvid.csv is made of the three, for `nasseg replay`: averaged weights, seed 0. One thread.
"""

import argparse
import csv
import fcntl
import io
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nasseg.data.dataset import DataSet, load_data
from nasseg.errors import UserError
from nasseg.families import arch_of
from nasseg.files import written_whole
from nasseg.measure.cost import measure_cost
from nasseg.measure.latency.attempts import measure_latency
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.reference import ReferenceArch
from nasseg.records import IN_TURNS, LatencyProtocol, digest
from nasseg.space import Space, load_space
from nasseg.space.parameter import Parameter
from nasseg.study.replay.trained_table import read_table
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.loop import Diverged, Guard, Scores, evaluate, scores_of
from nasseg.train.recipe import Recipe
from nasseg.train.session import train_network, working

FOLDER = Path("reports/camvid-bench")
SIZE, CLASSES = (120, 160), 11
RUNGS = (22, 66, 200, 600)
RECIPE = Recipe(
    steps=RUNGS[-1],
    batch_size=8,
    crop_size=(96, 128),
    scale_range=(0.75, 1.5),
    jitter=0.2,
    learning_rate=0.05,
    warmup_steps=40,
    schedule="poly",
    ema_decay=0.98,
)
LOW, HIGH, BINS = 4e6, 128e6, 10  # multiply-adds, in bins of half an octave
ROUNDS = 5  # networks of each family and bin
TWICE = 5  # of so many networks one is trained with a second seed, too
MAX_DRAWS = 10_000  # a family
WEIGHTS = ("averaged", "last")
COLUMNS = ["arch_id", "seed", "step", "weights", "miou", "pixel_accuracy", "cpu_seconds", "protocol"]

Row = dict[str, Any]
Task = tuple[Row, int]  # a row of networks.csv, and the seed


def draw(space: Space, seed: int = 0) -> Iterator[Row]:
    """Yield networks round by round: one of each family and each bin of cost, in an order drawn by the seed."""
    rng = random.Random(seed)
    cells = [list(_cells(space, family, rng)) for family in space.families]
    for place in range(ROUNDS):
        networks = [cell[place] for family in cells for cell in family]
        yield from rng.sample(networks, len(networks))


def _cells(space: Space, family: str, rng: random.Random) -> Iterator[list[Row]]:
    of_family = replace(space, parameters={**space.parameters, "family": Parameter("family", (family,))})
    cells: list[list[Row]] = [[] for _ in range(BINS)]
    known = set()
    for _ in range(MAX_DRAWS):
        point = of_family.sample(rng)
        try:
            arch = arch_of(space.settings(point))
            cost = measure_cost(arch, SIZE, CLASSES)
        except UserError:  # parts that do not fit each other
            continue
        place = math.floor(BINS * math.log(cost.macs / LOW) / math.log(HIGH / LOW))
        if 0 <= place < BINS and len(cells[place]) < ROUNDS and arch.id not in known:
            known.add(arch.id)
            cells[place].append({**point, "arch_id": arch.id, "macs": cost.macs, "params": cost.params})
            if all(len(cell) == ROUNDS for cell in cells):
                return iter(cells)
    filled = ", ".join(str(len(cell)) for cell in cells)
    raise SystemExit(f"{MAX_DRAWS} draws of {family} do not fill all bins of cost: {filled} networks in them")


def tasks(networks: list[Row]) -> Iterator[Task]:
    for place, network in enumerate(networks):
        yield network, 0
        if place % TWICE == TWICE - 1:
            yield network, 1


def trained(row: Row, space: Space, data: DataSet, seed: int, guard: Guard) -> Iterator[Row]:
    """Yield the scores of a training at each rung, by averaged and by last weights; empty once it diverged."""
    settings, step_seconds, begun = space.settings(point_of(row, space)), 0.0, time.thread_time()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, diverged = Checkpoints(Path(folder) / "checkpoint.pt", {"arch_id": row["arch_id"]}), False
        for step in RUNGS:
            scores: dict[str, Scores] = {}
            try:
                if not diverged:
                    network = train_network(
                        arch_of(settings), data, RECIPE, seed=seed, guard=guard, checkpoints=checkpoints, until=step
                    )
                    scores["averaged"] = network.result
            except Diverged:
                diverged = True
            step_seconds += time.thread_time() - begun
            if scores:
                state = checkpoints.read()
                assert state is not None
                network.model.load_state_dict(state["model"])
                matrix = evaluate(network.model, data.val, data.num_classes, guard=guard)
                scores["last"] = scores_of(matrix, data.classes)
            begun = time.thread_time()
            for weights in WEIGHTS:
                found = scores.get(weights)
                yield {
                    "arch_id": row["arch_id"],
                    "seed": seed,
                    "step": step,
                    "weights": weights,
                    "miou": found and found.miou,
                    "pixel_accuracy": found and found.pixel_accuracy,
                    "cpu_seconds": step_seconds,
                    "protocol": protocol(data),
                    **(found.class_iou if found else dict.fromkeys(data.classes)),
                }


def protocol(data: DataSet) -> str:
    return digest([RECIPE.hash, data.fingerprint, RUNGS])


def point_of(row: Row, space: Space) -> Row:
    """Return the point of a row of networks.csv."""
    values = {name: {cell(value): value for value in space.parameters[name].values} for name in space.parameters}
    return {name: values[name][row[name]] for name in values if row.get(name)}


def train_all(folder: Path, data: DataSet, share: str, minutes: float) -> None:
    """Train what is not in the file yet, until the time is over."""
    space, networks = load_space(folder / "camvid.yaml"), rows_of(folder / "networks.csv")
    path, until = folder / "trainings.csv", time.monotonic() + 60 * minutes
    size = len(RUNGS) * len(WEIGHTS)
    done = {(row["arch_id"], row["seed"]) for row in whole_rows(path, size) if row["protocol"] == protocol(data)}
    number, of = map(int, share.split("/"))
    mine = [*tasks(networks)][number - 1 :: of]  # of all, so that shares begun at other times do not meet
    left = [task for task in mine if (task[0]["arch_id"], str(task[1])) not in done]
    with working("cpu", 1) as guard:
        for place, (network, seed) in enumerate(left, 1):
            rows = list(trained(network, space, data, seed, guard))
            append(path, [*COLUMNS, *data.classes], rows)
            last = rows[-2]
            line = f"{network['family']}, {float(network['macs']) / 1e6:.0f} M multiply-adds"
            tell(f"{place} of {len(left)}: {line}, mIoU {last['miou'] or math.nan:.1f}, {last['cpu_seconds']:.0f} s")
            if time.monotonic() > until:
                return


def time_all(folder: Path) -> None:
    """Time the networks that are not in the file yet, each in turns with the reference network."""
    space, path = load_space(folder / "camvid.yaml"), folder / "latency.csv"
    known = whole_rows(path, 1)
    asked = LatencyProtocol(device="cpu", input_size=SIZE, num_classes=CLASSES, rule=IN_TURNS)
    lock = DeviceLock("cpu")
    times = [float(row["reference_ms"]) for row in known]
    reference = times[0] if times else measure_latency(ReferenceArch(), asked, lock.measuring).p50_ms
    left = [row for row in rows_of(folder / "networks.csv") if row["arch_id"] not in {k["arch_id"] for k in known}]
    for place, row in enumerate(left, 1):
        arch = arch_of(space.settings(point_of(row, space)))
        found = measure_latency(arch, asked, lock.measuring, reference_ms=reference, patience=60, tell=tell)
        columns = ("p50_ms", "iqr_ms", "disturbed", "load", "reference_ms")
        figures = {name: getattr(found, name) for name in columns}
        append(path, ["arch_id", *columns], [{"arch_id": row["arch_id"], **figures}])
        tell(f"{place} of {len(left)}: {found.p50_ms:.2f} ms")


def write_table(folder: Path) -> None:
    """Make camvid.csv of what was trained; networks that were not are left out."""
    space, networks = load_space(folder / "camvid.yaml"), rows_of(folder / "networks.csv")
    times = {row["arch_id"]: row["p50_ms"] for row in whole_rows(folder / "latency.csv", 1)}
    rungs: dict[str, list[Row]] = {}
    trainings = whole_rows(folder / "trainings.csv", len(RUNGS) * len(WEIGHTS))
    if len({row["protocol"] for row in trainings}) > 1:
        raise SystemExit(f"{folder}/trainings.csv has several protocols (recipe, data, steps): keep the rows of one")
    for row in trainings:
        if row["weights"] == "averaged" and row["seed"] == "0":
            rungs.setdefault(row["arch_id"], []).append(row)
    figures = ["arch_id", "macs", "params", "latency_ms", "step", "miou", "train_seconds", "seed"]
    rows = [
        {
            **{name: network[name] for name in (*space.parameters, "arch_id", "macs", "params")},
            "latency_ms": times.get(network["arch_id"], ""),
            "train_seconds": row["cpu_seconds"],
            **{name: row[name] for name in ("step", "miou", "seed")},
        }
        for network in networks
        for row in rungs.get(network["arch_id"], ())
    ]
    if not rows:
        return
    with written_whole(folder / "camvid.csv") as partial:
        partial.write_text(text_of([*space.parameters, *figures], rows))
    table = read_table(folder / "camvid.csv")
    tell(f"{len(table.networks)} of {len(networks)} networks are trained")


def rows_of(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def whole_rows(path: Path, size: int) -> list[Row]:
    """Return the rows of a file to which `size` are appended at a time, and cut off what a kill left of the last."""
    if path.exists():
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            lines = file.read().splitlines(keepends=True)
            count = sum(line.endswith(b"\n") for line in lines) - 1
            file.truncate(sum(map(len, lines[: 1 + count - count % size])))
    return rows_of(path)


def append(path: Path, columns: list[str], rows: list[Row]) -> None:
    """Add rows, in one write: other processes may add to the file at the same time."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = text_of(columns, rows)
        file.write(text if path.stat().st_size == 0 else text.partition("\n")[2])


def text_of(columns: list[str], rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: cell(value) for name, value in row.items()})
    return text.getvalue()


def cell(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="CamVid, as the SegNet tutorial distributes it")
    parser.add_argument("--share", default="1/1", metavar="K/N", help="every Nth training, from the Kth on")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no training after that")
    parser.add_argument("--latency", action="store_true", help="time the networks, on a quiet machine")
    parser.add_argument("--table", action="store_true", help="make camvid.csv anew, and nothing else")
    asked = parser.parse_args()
    if not (asked.data or asked.latency or asked.table):
        parser.error("give --data, --latency or --table")
    torch.set_num_threads(1)
    networks = FOLDER / "networks.csv"
    if not networks.exists():
        space = load_space(FOLDER / "camvid.yaml")
        rows = list(draw(space))
        with written_whole(networks) as partial:
            partial.write_text(text_of([*space.parameters, "arch_id", "macs", "params"], rows))
    if asked.data:
        data = load_data(asked.data, size=SIZE)
        data.read()
        train_all(FOLDER, data, asked.share, asked.minutes)
    if asked.latency:
        time_all(FOLDER)
    write_table(FOLDER)


if __name__ == "__main__":
    main()
