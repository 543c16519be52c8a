"""Measure what antialiasing costs where views zoom below 1: a batch with it and without, in turns, by CPU time.

    python -m tests.benchmarks.bench_views

One thread; the median of the ratios of neighbouring rounds, so that other work on the machine matters little.
"""

import statistics
import time
from unittest.mock import patch

import torch

from nasseg.train.recipe import Recipe
from nasseg.train.views import augment
from nasseg.train.views.augment import Augment
from nasseg.train.views.network_input import normalise, resample

CASES = {  # size of the images, recipe
    "short-scenes": ((64, 128), Recipe(name="short-scenes")),
    "short-camvid": ((360, 480), Recipe(name="short-camvid")),
    "stdc-cityscapes": ((1024, 2048), Recipe(name="stdc-cityscapes", heads=(), batch_size=2)),
    "regseg-cityscapes": ((1024, 2048), Recipe(name="regseg-cityscapes", rand_augment=None, batch_size=2)),
}
ROUNDS = 9


def seconds(case: str, seed: int, *, plain: bool) -> float:
    """Return the CPU time of one batch's views."""
    size, recipe = CASES[case]
    images = torch.randint(0, 256, (recipe.batch_size, *size, 3), dtype=torch.uint8)
    labels = torch.zeros(recipe.batch_size, *size, dtype=torch.uint8)
    without = patch.object(
        augment, "_zoomed", lambda images, _smaller, rows, columns: resample(normalise(images), rows, columns)
    )
    with without if plain else patch.object(augment, "shrink", augment.shrink):
        start = time.process_time()
        Augment(recipe)(images, labels, torch.Generator().manual_seed(seed))
        return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    for case in CASES:
        pairs = [(seconds(case, n, plain=True), seconds(case, n, plain=False)) for n in range(ROUNDS)]
        plain = 1e3 * statistics.median(pair[0] for pair in pairs)
        ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
        print(f"{case}: {plain:.1f} ms a batch without, {ratio:.2f} times that with antialiasing")


if __name__ == "__main__":
    main()
