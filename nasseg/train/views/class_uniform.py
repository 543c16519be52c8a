"""Class-uniform sampling: images, each with a place in it, drawn evenly over the classes (Zhu et al., "Improving
Semantic Segmentation via Video Propagation and Label Relaxation", 2019; RegSeg, Section 4.2).

An image is cut into tiles, and each class in a tile has its centre of mass there. A class is drawn, then one of its
centres, and the view is placed so that it holds this centre. Tiles are squares as high as the image (as wide, if it is
upright): on Cityscapes 1024 x 1024, as in the paper's released code, and equally coarse elsewhere.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from nasseg.data.split import Split
from nasseg.errors import UserError
from nasseg.measure.accuracy import IGNORE

_AT_ONCE = 8  # labels read at once; each takes 16 times its size in memory


@dataclass(frozen=True, eq=False)
class Centres:
    """images: number [N]; places: row and column [N, 2]. Both are sorted by class, and classes begin at `begins`."""

    images: Tensor
    places: Tensor
    begins: Tensor

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw images [count] and places [count, 2], evenly over the classes that occur, then over their centres."""
        which, place = torch.rand(2, count, generator=generator, dtype=torch.float64)
        chosen = (which * (len(self.begins) - 1)).long()
        begin, end = self.begins[chosen], self.begins[chosen + 1]
        rows = begin + (place * (end - begin)).long()
        return self.images[rows], self.places[rows]


def class_centres(split: Split) -> Centres:
    """Return the centres of all labels of a split, read one by one.

    Raises:
        UserError: no pixel is labelled.
    """

    def of_image(number: int) -> list[tuple[int, int, float, float]]:
        label = split.labels[number].numpy()
        return [(value, number, row, column) for value, row, column in _centres(label)]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = [centre for centres in pool.map(of_image, range(len(split))) for centre in centres]
    if not found:
        raise UserError("class_uniform needs labelled pixels, and all of them are 255 (ignored): check the labels")
    rows = np.array(sorted(found, key=lambda centre: centre[0]), np.float64)
    _, begins = np.unique(rows[:, 0], return_index=True)
    return Centres(
        torch.from_numpy(rows[:, 1].astype(np.int64)),
        torch.from_numpy(rows[:, 2:].astype(np.float32)),
        torch.from_numpy(np.append(begins, len(rows))),
    )


def _centres(label: np.ndarray) -> Iterator[tuple[int, float, float]]:
    """Yield class, row and column of each class in each tile of a label [H, W]; pixels' centres are at i + 0.5."""
    height, width = label.shape
    side = min(height, width)
    tops, lefts = (np.linspace(0, length, max(1, round(length / side)) + 1).astype(int) for length in (height, width))
    for top, bottom in pairwise(tops):
        for left, right in pairwise(lefts):
            tile = label[top:bottom, left:right]
            rows, columns = _mean(tile), _mean(tile.T)
            yield from ((value, top + row, left + columns[value]) for value, row in rows.items())


def _mean(tile: np.ndarray) -> dict[int, float]:
    """Return the mean row of each class."""
    cells = tile.astype(np.int64)
    cells += 256 * np.arange(len(tile))[:, None]
    counts = np.bincount(cells.ravel(), minlength=256 * len(tile)).reshape(len(tile), 256)
    totals = counts.sum(0)
    means = (np.arange(len(tile)) + 0.5) @ counts / np.maximum(totals, 1)
    return {int(value): float(means[value]) for value in np.flatnonzero(totals) if value != IGNORE}
