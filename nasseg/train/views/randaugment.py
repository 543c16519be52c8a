"""RegSeg's reduced RandAugment on whole batches: auto contrast, equalize, colour, contrast, brightness, sharpness and
rotate.

As in the paper's released training, different ones of the seven are drawn for each view and applied one after another.
At magnitude m a view turns by 30 m degrees to either side, and colour, contrast, brightness and sharpness change by a
factor of 1 + 0.9 m or 1 - 0.9 m; the first two have no strength. Each is Pillow's operation of that name, on values
that are not rounded. Pixels outside the image do not count in a view's statistics.
"""

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from nasseg.data.split import upload
from nasseg.measure.accuracy import IGNORE
from nasseg.train.recipe import RandAugment
from nasseg.train.views.network_input import constant

_DEGREES, _STRENGTH = 30.0, 0.9  # at magnitude 1
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601

# x: pixels 0..255 [b, 3, h, w]. inside: mask of the image, [b, 1, h, w]. by: the factor, [b, 1, 1, 1].
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


def auto_contrast(x: Tensor, inside: Tensor, _by: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel with a single value stays."""
    low = x.masked_fill(~inside, 255).flatten(2).amin(2)[..., None, None]
    high = x.masked_fill(~inside, 0).flatten(2).amax(2)[..., None, None]
    flat = high <= low
    scale = (255 / (high - low)).masked_fill(flat, 1)
    return ((x - low.masked_fill(flat, 0)) * scale).clamp(0, 255)


def equalize(x: Tensor, inside: Tensor, _by: Tensor) -> Tensor:
    """Spread each channel's values so that all are about equally frequent."""
    values = x.round().long().flatten(2)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(2, values, inside.flatten(2).expand_as(values).long())
    highest = counts.cumsum(2).argmax(2, keepdim=True)  # the highest value that occurs
    step = (counts.sum(2, keepdim=True) - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step[..., None] > 0, table.gather(2, values).view(x.shape).to(x.dtype), x)


def colour(x: Tensor, _inside: Tensor, by: Tensor) -> Tensor:
    return _blend(_grey(x), x, by)


def contrast(x: Tensor, inside: Tensor, by: Tensor) -> Tensor:
    """Blend each view with its mean grey, away from or towards it."""
    mean = (_grey(x) * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)
    return _blend((mean + 0.5).floor(), x, by)


def brightness(x: Tensor, _inside: Tensor, by: Tensor) -> Tensor:
    return _blend(torch.zeros_like(x), x, by)


def sharpness(x: Tensor, _inside: Tensor, by: Tensor) -> Tensor:
    """Blend each view with a smoothed version (5 surrounded by 1), away from or towards it; outermost pixels stay."""
    column = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    box = column[..., :-2] + column[..., 1:-1] + column[..., 2:]
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = (box + 4 * x[:, :, 1:-1, 1:-1]) / 13
    return _blend(smooth, x, by)


# In the order of their numbers; only rotate also moves labels.
_OF_COLOURS: tuple[Operation, ...] = (auto_contrast, equalize, colour, contrast, brightness, sharpness)
_ROTATE = len(_OF_COLOURS)


def rotate(x: Tensor, labels: Tensor, inside: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate around the middle, counter-clockwise: pixels [b, 3, h, w] bilinear, labels and inside [b, h, w] nearest.

    Pixels from outside the view count as outside afterwards and are ignored. degrees: [b].
    """
    height, width = labels.shape[1:]
    y = (torch.arange(height, device=x.device) + 0.5 - height / 2)[:, None]
    x_ = torch.arange(width, device=x.device) + 0.5 - width / 2
    cos, sin = ((degrees * (pi / 180)).cos()[:, None, None], (degrees * (pi / 180)).sin()[:, None, None])
    columns, rows = cos * x_ - sin * y + width / 2, sin * x_ + cos * y + height / 2
    grid = torch.stack([columns * (2 / width) - 1, rows * (2 / height) - 1], -1)
    turned = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    row, column = rows.floor().long(), columns.floor().long()
    within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)
    inside = inside.flatten(1).gather(1, place).view_as(labels) & within
    labels = labels.flatten(1).gather(1, place).view_as(labels)
    return turned, labels.masked_fill(~within, IGNORE), inside


class RandomOperations:
    """The operations drawn for a batch."""

    def __init__(self, settings: RandAugment, count: int, generator: torch.Generator) -> None:
        self.settings = settings
        draws = torch.rand(_ROTATE + 1, count, generator=generator)
        self.chosen = draws.argsort(0)[: settings.operations]  # all different for a view: [operations, B]
        self.signs = torch.where(torch.rand(self.chosen.shape, generator=generator) < 0.5, -1.0, 1.0)

    def __call__(self, x: Tensor, labels: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return pixels 0..255 [B, 3, h, w], labels and mask of the image, [B, h, w], after the operations."""
        x, labels, inside = x.clamp(0, 255), labels.clone(), inside.clone()
        for chosen, signs in zip(self.chosen, self.signs, strict=True):
            for number in chosen.unique().tolist():
                members = (chosen == number).nonzero()[:, 0]
                strength = upload(self.settings.magnitude * signs[members], x.device)
                members = upload(members, x.device)
                if number == _ROTATE:
                    turned = rotate(x[members], labels[members], inside[members], _DEGREES * strength)
                    x[members], labels[members], inside[members] = turned
                else:
                    by = (1 + _STRENGTH * strength).view(-1, 1, 1, 1)
                    x[members] = _OF_COLOURS[number](x[members], inside[members].unsqueeze(1), by)
        return x, labels, inside


def _grey(x: Tensor) -> Tensor:
    weights = constant(_LUMA, x.device).to(x.dtype).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def _blend(other: Tensor, x: Tensor, by: Tensor) -> Tensor:
    return (other + by * (x - other)).clamp(0, 255)
