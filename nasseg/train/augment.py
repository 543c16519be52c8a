"""Random views of training images, a whole batch at once and on the device where training runs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nasseg.measure.accuracy import IGNORE
from nasseg.train.recipe import Recipe

# RGB, of pixels 0..255: the usual ImageNet figures, for street scenes as good as any.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def normalise(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] as networks read it: zero mean, unit deviation."""
    mean, std = (torch.tensor(values, device=images.device) for values in (MEAN, STD))
    return ((images - mean) / std).permute(0, 3, 1, 2)


class Augment:
    """A recipe's zoom, flip, crop and jitter.

    A view of size crop_size is cut from the image zoomed by a random factor, at a random place; where it is larger
    than the image, the rest is grey and ignored. Every random number is drawn from one generator on the CPU, so that a
    seed gives the same views on every device.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """uint8 [B, H, W, 3] and [B, H, W] -> float [B, 3, h, w], normalised, and int64 [B, h, w]."""
        device, (batch, height, width) = images.device, labels.shape
        draws = torch.rand(6, batch, 1, generator=generator).to(device, non_blocking=True)
        low, high = self.recipe.scale_range
        crop_height, crop_width = self.recipe.crop_size or (height, width)
        zoom = low + (high - low) * draws[0]
        rows = _positions(height, crop_height, zoom, draws[1])
        columns = _positions(width, crop_width, zoom, draws[2])
        if self.recipe.flip:
            columns = torch.where(draws[3] < 0.5, width - columns, columns)

        views = _resample(images, rows, columns)
        contrast = 1 + self.recipe.jitter * (2 * draws[4] - 1)
        brightness = self.recipe.jitter * (2 * draws[5] - 1)
        if self.recipe.jitter:
            views = views * contrast[..., None, None] + brightness[..., None, None]
        return views, _pick(labels, rows, columns)


def _positions(length: int, crop: int, zoom: Tensor, draw: Tensor) -> Tensor:
    """Where the crop's pixels lie on a side of the image: [B, crop], in its pixels, whose centres are at i + 0.5."""
    steps = (torch.arange(crop, device=zoom.device) + 0.5) / zoom
    room = length - crop / zoom  # negative where the view is the larger: then the image lies somewhere in it
    return (draw * room).round() + steps  # whole pixels, so that a view at zoom 1 is not blurred


def _resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear, normalised, and zero (the mean colour) outside of the image."""
    _, height, width, _ = images.shape
    shape = (*rows.shape, columns.shape[1])
    grid = torch.stack(
        [(columns * (2 / width) - 1)[:, None, :].expand(shape), (rows * (2 / height) - 1)[:, :, None].expand(shape)], -1
    )
    return F.grid_sample(normalise(images), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _pick(labels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The label under each position; IGNORE outside of the image."""
    batch, height, width = labels.shape
    row, column = rows.floor().long(), columns.floor().long()
    picked = labels[
        torch.arange(batch, device=labels.device)[:, None, None],
        row.clamp(0, height - 1)[:, :, None],
        column.clamp(0, width - 1)[:, None, :],
    ].long()
    outside = ((row < 0) | (row >= height))[:, :, None] | ((column < 0) | (column >= width))[:, None, :]
    return picked.masked_fill_(outside, IGNORE)
