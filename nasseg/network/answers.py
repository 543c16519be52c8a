"""A network's prediction for a picture, from one view or averaged over scales and left-right flips."""

from collections.abc import Callable, Iterator, Sequence
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nasseg.errors import UserError
from nasseg.records import Size
from nasseg.train.views.network_input import fit, map_back, place

SMALLEST = 32  # smallest side that every network takes


def check_scales(scales: Sequence[float]) -> None:
    """Raise a UserError unless scales are one or more finite numbers above 0."""
    if not scales or not all(0 < scale < inf for scale in scales):
        raise UserError(f"scales above 0 are needed, got {', '.join(map(str, scales)) or 'none'}")


def averaged(
    model: Callable[[Tensor], Tensor],
    picture: NDArray[np.uint8],
    scales: Sequence[float],
    *,
    flip: bool,
    size: Size,
    shape: Size,
    device: str = "cpu",
) -> Tensor:
    """Return probabilities [C, *shape] of a picture [H, W, 3]: the mean over its views, each resized to `shape`.

    size: what the network sees at scale 1.
    """
    total = torch.zeros((), device=device)
    for scale in scales:
        seen = max(SMALLEST, round(scale * size[0])), max(SMALLEST, round(scale * size[1]))
        image = fit(picture, seen).to(device)
        found = model(place([image], seen)).softmax(1)
        if flip:
            mirrored = model(place([image.flip(1)], seen)).softmax(1)
            found = found + F.pad(mirrored[..., : image.shape[1]].flip(3), (0, seen[1] - image.shape[1]))
        total = total + torch.cat([part for _, part in map_back(found, image.shape, shape)], 2)
    mean: Tensor = total[0] / (len(scales) * (1 + flip))
    return mean


def single(
    model: Callable[[Tensor], Tensor], picture: NDArray[np.uint8], *, size: Size, shape: Size, device: str = "cpu"
) -> Iterator[tuple[int, Tensor]]:
    """Yield logits [1, C, rows, W] of a picture at `shape` and their first row, as in training's evaluation."""
    image = fit(picture, size).to(device)
    yield from map_back(model(place([image], size)), image.shape, shape)
