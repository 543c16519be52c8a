"""Compare optimizers, learning rates and batches of short trainings, on twelve networks of CamVid's table.

    python -m tests.benchmarks.bench_recipes --data PATH/TO/camvid [--share 1/2]      trains what is not trained yet
    python -m tests.benchmarks.bench_recipes                                          says what came out

The networks: of each family one below and one above 22 million multiply-adds. The recipe is that of the table with one
or two settings changed; all see as many images. recipes.csv has a row for each training; this may be killed at any
moment.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nasseg.data.dataset import load_data
from nasseg.families import arch_of
from nasseg.space import load_space
from nasseg.train.loop import Diverged
from nasseg.train.recipe import Recipe
from nasseg.train.session import train_network, working
from tests.benchmarks.bench_camvid import CLASSES, FOLDER, HIGH, LOW, RECIPE, SIZE, Row, append, point_of, rows_of, tell

FILE = FOLDER / "recipes.csv"
COLUMNS = ["recipe", "arch_id", "macs", "miou", "cpu_seconds"]
RESAMPLES = 1000
USUAL = "SGD 0.05"  # of the table
ADAMW = {"optimizer": "adamw", "weight_decay": 0.01}
CHANGES: dict[str, dict[str, Any]] = {
    "AdamW 0.002": {**ADAMW, "learning_rate": 0.002},
    "SGD 0.1": {"learning_rate": 0.1},
    "SGD 0.025": {"learning_rate": 0.025},
    "AdamW 0.002, class weights": {**ADAMW, "learning_rate": 0.002, "class_weights": "inverse_log"},
    "AdamW 0.004": {**ADAMW, "learning_rate": 0.004},
    "AdamW 0.001": {**ADAMW, "learning_rate": 0.001},
    "SGD 0.2": {"learning_rate": 0.2},
    "SGD 0.05, batch 4": {"batch_size": 4},
    "SGD 0.05, batch 16": {"batch_size": 16},
    "AdamW 0.002, batch 4": {**ADAMW, "learning_rate": 0.002, "batch_size": 4},
    "AdamW 0.002, batch 16": {**ADAMW, "learning_rate": 0.002, "batch_size": 16},
}


def recipe_of(changes: dict[str, Any]) -> Recipe:
    """Return the table's recipe with changes, for as many images."""
    share = RECIPE.batch_size / changes.get("batch_size", RECIPE.batch_size)
    steps = {"steps": round(RECIPE.steps * share), "warmup_steps": round(RECIPE.warmup_steps * share)}
    assert RECIPE.ema_decay is not None
    return Recipe(**{**RECIPE.model_dump(), **steps, "ema_decay": 1 - (1 - RECIPE.ema_decay) / share, **changes})


def networks() -> Iterator[Row]:
    """Yield the first network of each family in each half of the range of cost."""
    taken = set()
    for row in rows_of(FOLDER / "networks.csv"):
        cell = row["family"], float(row["macs"]) > math.sqrt(LOW * HIGH)
        if cell not in taken:
            taken.add(cell)
            yield row


def train(folder: Path, share: str) -> None:
    data, space = load_data(folder, size=SIZE), load_space(FOLDER / "camvid.yaml")
    assert data.num_classes == CLASSES
    data.read()
    number, of = map(int, share.split("/"))
    tasks = [(name, row) for name in CHANGES for row in networks()][number - 1 :: of]
    done = {(row["recipe"], row["arch_id"]) for row in rows_of(FILE)}
    with working("cpu", 1) as guard:
        for name, row in tasks:
            if (name, row["arch_id"]) in done:
                continue
            miou, seconds = None, 0.0
            try:
                arch = arch_of(space.settings(point_of(row, space)))
                trained = train_network(arch, data, recipe_of(CHANGES[name]), seed=0, guard=guard).result
                miou, seconds = trained.miou, trained.train_seconds
            except Diverged:
                pass
            known = {"recipe": name, "arch_id": row["arch_id"], "macs": row["macs"], "miou": miou}
            append(FILE, COLUMNS, [{**known, "cpu_seconds": seconds}])
            tell(
                f"{name}: {row['family']}, {float(row['macs']) / 1e6:.0f} M multiply-adds, mIoU {miou or math.nan:.1f}"
            )


def answer() -> Iterator[str]:
    """Yield the table of recipes: what each gains on the table's own, over networks, and over small and large ones."""
    trained = pd.read_csv(FILE).pivot(index="arch_id", columns="recipe", values="miou")
    usual = pd.read_csv(FOLDER / "camvid.csv").query("step == @RECIPE.steps").set_index("arch_id")
    large = usual.macs.reindex(trained.index) > math.sqrt(LOW * HIGH)
    yield "| recipe | networks | points above the table's own | small networks | large networks |"
    yield "| --- | --- | --- | --- | --- |"
    for name in [name for name in CHANGES if name in trained]:
        gain = (trained[name].fillna(0) - usual.miou.reindex(trained.index))[trained[name].notna()]
        rng = np.random.default_rng(0)
        low, high = np.percentile([rng.choice(gain, len(gain)).mean() for _ in range(RESAMPLES)], [2.5, 97.5])
        parts = f"{gain[~large].mean():+.1f} | {gain[large].mean():+.1f}"
        yield f"| {name} | {len(gain)} | {gain.mean():+.1f} ({low:+.1f} to {high:+.1f}) | {parts} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="CamVid, as the SegNet tutorial distributes it")
    parser.add_argument("--share", default="1/1", metavar="K/N", help="every Nth training, from the Kth on")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.data:
        train(asked.data, asked.share)
    print("\n".join(answer()))


if __name__ == "__main__":
    main()
