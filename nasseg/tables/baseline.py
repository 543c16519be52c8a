"""The accuracy of colour and place alone on a data set: networks must beat it before their order counts.

Pixels of the training split are grouped by colour, 16 shades per channel, and by place, 16 x 8 tiles of the image. A
pixel is then predicted to have the commonest class of its colour and place.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasseg.data.dataset import DataSet
from nasseg.data.split import Split
from nasseg.measure.accuracy import IGNORE, ConfusionMatrix
from nasseg.train.loop import scores_of

SHADES, TILES = 16, (16, 8)
_BLOCK = 65_536  # cells whose commonest class is found at once


def by_colour(data: DataSet, place: bool) -> Callable[[Tensor], Tensor]:
    """Return a predictor from colour, and optionally place: images [B, H, W, 3], uint8, -> logits [B, classes, H, W].

    A colour that the training split lacks gets the commonest class of all.
    """
    counts = torch.zeros(SHADES**3 * TILES[0] * TILES[1] * data.num_classes, dtype=torch.int32)
    for image, label in _pictures(data.train):
        known = label != IGNORE
        at = _cells(image, place)[known] * data.num_classes + label[known].long()
        counts.scatter_add_(0, at, torch.ones_like(at, dtype=torch.int32))
    table = counts.view(-1, data.num_classes)
    common = table.sum(0) / (1e6 * table.sum())
    commonest = torch.cat([(block + common).argmax(1) for block in table.split(_BLOCK)])
    return lambda images: F.one_hot(commonest[_cells(images, place)], data.num_classes).movedim(-1, 1).float()


def baseline(data: DataSet, splits: tuple[str, ...] = ("val",)) -> dict[str, dict[str, Any]]:
    """Return miou and pixel_accuracy, in percent, and class_iou of predictions from colour and place, by split."""
    predict, found = by_colour(data, place=True), {}
    for name in splits:
        matrix = ConfusionMatrix(data.num_classes)
        for image, label in _pictures(data.split(name)):
            matrix.update(predict(image[None]), label[None])
        scores = scores_of(matrix, data.classes)
        found[name] = {
            "miou": scores.miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "class_iou": dict(scores.class_iou),
        }
    return found


def _pictures(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each image [H, W, 3] with its label [H, W], at the label's size."""
    for images, labels in split.batches(4, "cpu"):
        for image, label in zip(images, labels, strict=True):
            if image.shape[:2] != label.shape:
                scaled = F.interpolate(image.movedim(-1, 0)[None], tuple(label.shape), mode="nearest")
                image = scaled[0].movedim(0, -1)
            yield image, label


def _cells(images: Tensor, place: bool) -> Tensor:
    """Return the number of each pixel's cell, for images [..., H, W, 3]."""
    height, width = images.shape[-3:-1]
    r, g, b = (images // (256 // SHADES)).long().unbind(-1)
    colour = (r * SHADES + g) * SHADES + b
    down, across = TILES
    rows, columns = torch.arange(height) * down // height, torch.arange(width) * across // width
    return colour * (down * across) + (rows[:, None] * across + columns if place else 0)
