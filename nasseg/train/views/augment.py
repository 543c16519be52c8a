"""Random views of training images, a whole batch at once and on the device that trains."""

import torch
from torch import Tensor

from nasseg.measure.accuracy import IGNORE
from nasseg.records import Size
from nasseg.train.recipe import Recipe
from nasseg.train.views.network_input import MEAN, STD, normalise, resample
from nasseg.train.views.randaugment import RandomOperations


def _planes(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    return mean, std


class Augment:
    """A recipe's zoom, flip, crop, jitter and RandAugment.

    A view of size crop_size is cut from the image zoomed by a random factor, at a random place, or where it holds a
    place that is asked for; where it is larger than the image, the rest is grey and ignored. Every random number is
    drawn from one generator on the CPU, so that a seed gives the same views on every device. Images of different sizes
    come as lists; their views are of size `seen` if the recipe has no crop_size.
    """

    def __init__(self, recipe: Recipe, seen: Size | None = None) -> None:
        self.recipe, self.seen = recipe, seen

    def __call__(
        self,
        images: Tensor | list[Tensor],
        labels: Tensor | list[Tensor],
        generator: torch.Generator,
        held: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return views of uint8 [B, H, W, 3] and [B, H, W]: float [B, 3, h, w], normalised, and int64 [B, h, w].

        held: [B, 2], row and column in an image that its view must hold, NaN for none.
        """
        device = images[0].device
        draws = torch.rand(6, len(images), 1, generator=generator).to(device, non_blocking=True)
        if held is not None:
            held = held.to(device, non_blocking=True)
        operations = self.recipe.rand_augment and RandomOperations(self.recipe.rand_augment, len(images), generator)
        if isinstance(images, Tensor) and isinstance(labels, Tensor):
            views, targets, outside = self._views(images, labels, draws, held)
        else:
            places = [None] * len(images) if held is None else held.split(1)
            parts = [
                self._views(image[None], label[None], draw, place)
                for image, label, draw, place in zip(images, labels, draws.split(1, 1), places, strict=True)
            ]
            views, targets, outside = (torch.cat(part) for part in zip(*parts, strict=True))
        if operations:
            mean, std = _planes(device)
            pixels, targets, inside = operations(views * std + mean, targets, ~outside)
            views = (pixels - mean) / std * inside.unsqueeze(1)
        return views, targets

    def _views(
        self,
        images: Tensor,
        labels: Tensor,
        draws: Tensor,
        held: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        _, height, width = labels.shape
        low, high = self.recipe.scale_range
        crop_height, crop_width = self.recipe.crop_size or self.seen or (height, width)
        zoom = low + (high - low) * draws[0]
        row, column = (None, None) if held is None else held.split(1, 1)
        if self.recipe.flip and column is not None:
            column = torch.where(draws[3] < 0.5, width - column, column)
        rows = _positions(height, crop_height, zoom, draws[1], row)
        columns = _positions(width, crop_width, zoom, draws[2], column)
        if self.recipe.flip:
            columns = torch.where(draws[3] < 0.5, width - columns, columns)

        views = resample(normalise(images), rows, columns)
        contrast = 1 + self.recipe.jitter * (2 * draws[4] - 1)
        brightness = self.recipe.jitter * (2 * draws[5] - 1)
        if self.recipe.jitter:
            views = views * contrast[..., None, None] + brightness[..., None, None]
        return views, *_pick(labels, rows, columns)


def _positions(length: int, crop: int, zoom: Tensor, draw: Tensor, held: Tensor | None = None) -> Tensor:
    """Return the places of the crop's pixels on a side of the image: [B, crop], in its pixels, with centres at i + 0.5.

    held: [B, 1], a place that the crop must hold, anywhere in it, while it stays within the image; NaN for none.
    """
    steps = (torch.arange(crop, device=zoom.device) + 0.5) / zoom
    room = length - crop / zoom  # negative if the view is larger: the image then lies somewhere in it
    start = draw * room
    if held is not None:
        around = torch.minimum((held - draw * (crop / zoom)).clamp(min=0), room)
        start = torch.where(held.isnan() | (room < 0), start, around)
    return start.round() + steps  # whole pixels, so that a view at zoom 1 is not blurred


def _pick(labels: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the label under each position, IGNORE outside of the image, and a mask of the outside."""
    _, height, width = labels.shape
    row, column = rows.floor().long(), columns.floor().long()
    place = (row.clamp(0, height - 1) * width)[:, :, None] + column.clamp(0, width - 1)[:, None, :]
    picked = labels.flatten(1).gather(1, place.flatten(1)).view(place.shape).long()
    outside = ((row < 0) | (row >= height))[:, :, None] | ((column < 0) | (column >= width))[:, None, :]
    return picked.masked_fill_(outside, IGNORE), outside
