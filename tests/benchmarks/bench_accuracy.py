"""Counting pixels into a confusion matrix: nasseg against torchmetrics, and against the argmax that both need.

    python -m tests.benchmarks.bench_accuracy

One image of 1024 x 2048 with 19 classes, a tenth of its pixels ignored, on one thread. Medians of runs in turns.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from nasseg.measure.accuracy import IGNORE, ConfusionMatrix

CLASSES, SIZE, TURNS = 19, (1024, 2048), 15


def main() -> None:
    torch.set_num_threads(1)
    logits, labels = torch.randn(1, CLASSES, *SIZE), torch.randint(CLASSES, (1, *SIZE), dtype=torch.uint8)
    labels[torch.rand(1, *SIZE) < 0.1] = IGNORE
    wide = labels.long()  # torchmetrics takes no uint8
    ours, theirs = ConfusionMatrix(CLASSES), MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE)
    ways: dict[str, Callable[[], object]] = {
        "nasseg": lambda: ours.update(logits, labels),
        "torchmetrics": lambda: theirs.update(logits, wide),
        "maximum alone": lambda: logits.max(1),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            times[name].append(1e3 * (time.perf_counter() - begun))
    assert torch.equal(ours.counts[:, :-1], theirs.confmat)
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, median in medians.items():
        print(f"{name:15} {median:6.0f} ms an image, {median / medians['nasseg']:.2f} of nasseg's")


if __name__ == "__main__":
    main()
