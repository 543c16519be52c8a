"""What procedural scenes reward: field of view, detail and levels, at equal steps and multiply-adds, three seeds each.

    python -m tests.benchmarks.bench_scenes --out reports/scenes      goes on where it stopped; writes the report anew
    python -m tests.benchmarks.bench_scenes --out reports/scenes --report-only

A row of rewards.csv is one training of one network and is written as soon as that ends; a row of another protocol
(network, recipe, scenes) counts for nothing. README.md and rewards.png are made of the rows that are there, each
sentence in them included. One thread.
"""

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from nasseg.data import scenes
from nasseg.data.dataset import DataSet, load_data
from nasseg.measure.accuracy import ConfusionMatrix
from nasseg.measure.environment import environment
from nasseg.records import digest
from nasseg.tables.baseline import by_colour
from nasseg.train.loop import scores_of, train
from nasseg.train.recipe import Recipe
from nasseg.train.views.network_input import normalise
from tests.benchmarks.scenes_report import (
    COLOUR,
    COLUMNS,
    DATA,
    FAR,
    LARGE,
    MEASURES,
    NETWORKS,
    ORDER,
    PLACE,
    RIM,
    SEEDS,
    SMALL,
    THIN,
    THINGS,
    Network,
    protocol_of,
    report,
    rows_of,
)


def figures(predict: Callable[[torch.Tensor], torch.Tensor], data: DataSet) -> dict[str, float]:
    """Of a classifier, uint8 images [B, H, W, 3] -> logits [B, classes, H, W], on the validation split, in percent.

    A piece is what hangs together of one class of things, and its size the root of its area.
    """
    matrix, right, seen = ConfusionMatrix(data.num_classes), dict.fromkeys(MEASURES, 0), dict.fromkeys(MEASURES, 0)
    for images, labels in data.val.batches(4, "cpu"):
        with torch.inference_mode():
            logits = predict(images)
        matrix.update(logits, labels)
        for guess, label in zip(logits.argmax(1).numpy(), labels.numpy(), strict=True):
            for name, mask in masks(label).items():
                right[name] += int((guess == label)[mask].sum())
                seen[name] += int(mask.sum())
    scores = scores_of(matrix, data.classes)
    iou = {name: value or 0.0 for name, value in scores.class_iou.items()}
    return {
        "miou": scores.miou,
        "far": statistics.mean(iou[name] for name in FAR),
        "thin": statistics.mean(iou[name] for name in THIN),
        **{name: 100 * right[name] / seen[name] for name in ("edge", "small", "large")},
        "pixel_accuracy": scores.pixel_accuracy,
        **iou,
    }


def masks(label: np.ndarray) -> dict[str, np.ndarray]:
    """Which labelled pixels of [H, W] lie near an edge between classes, in small and in large pieces of things."""
    high, low = (f(label, size=2 * RIM + 1) for f in (ndimage.maximum_filter, ndimage.minimum_filter))
    sizes = np.zeros(label.shape)
    for name in THINGS:
        pieces, _ = ndimage.label(label == scenes.CLASSES.index(name))
        sizes += np.sqrt(np.bincount(pieces.ravel()))[pieces] * (pieces > 0)
    return {
        "edge": (high != low) & (label != scenes.IGNORE),
        "small": (sizes > 0) & (sizes < SMALL),
        "large": sizes > LARGE,
    }


def measured(network: Network, recipe: Recipe, data: DataSet, seed: int) -> dict[str, float]:
    begin = time.thread_time()
    torch.manual_seed(seed)
    model = network.arch.build(data.num_classes)
    result = train(model, data, recipe, seed=seed)

    def predict(images: torch.Tensor) -> torch.Tensor:
        return model(normalise(images).contiguous(memory_format=torch.channels_last))

    found = figures(predict, data)
    return {**found, "last_loss": result.curve[-1][1], "cpu_seconds": time.thread_time() - begin}


def run(out: Path, data: DataSet, minutes: float) -> None:
    """Whatever is not in the file yet, until the CPU time is spent."""
    path = out / "rewards.csv"
    if path.exists():  # a run that was killed may leave half a row
        path.write_bytes(path.read_bytes().rpartition(b"\n")[0] + b"\n")
    known = {(row["network"], row["seed"], row["protocol"]) for row in rows_of(out)}
    spent = 0.0
    for name, place in ((COLOUR, False), (PLACE, True)):
        protocol = digest([name, data.fingerprint])
        if (name, "0", protocol) not in known:
            append(out, {"network": name, "seed": 0, **figures(by_colour(data, place), data), "protocol": protocol})
    for names in ORDER:
        for seed, name in product(SEEDS, names):
            network = NETWORKS[name]
            recipe, protocol = protocol_of(network, data)
            if (name, str(seed), protocol) in known:
                continue
            if spent > 60 * minutes:
                return
            row = {"network": name, "seed": seed, **measured(network, recipe, data, seed), "protocol": protocol}
            spent += row["cpu_seconds"]
            append(out, row)
            done = f"{name}, seed {seed}: mIoU {row['miou']:.1f}, {row['cpu_seconds']:.0f} s"
            print(done, file=sys.stderr, flush=True)


def append(out: Path, row: dict[str, Any]) -> None:
    path = out / "rewards.csv"
    new = not path.exists()
    here = environment()
    row = {**row, "environment": f"{here.cpu}, Python {here.python}, torch {here.torch}"}
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.3f}" if isinstance(value, float) else value for key, value in row.items()})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for rewards.csv, rewards.png and README.md")
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    parser.add_argument("--minutes", type=float, default=50.0, help="CPU time after which no training is begun")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    data = load_data("scenes", **DATA)
    if not asked.report_only:
        run(asked.out, data, asked.minutes)
    report(asked.out, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
