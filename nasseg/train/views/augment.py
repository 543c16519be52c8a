"""Random views of training images, made on the training device; images of one size as a whole batch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nasseg.data.split import upload
from nasseg.measure.accuracy import IGNORE
from nasseg.records import Size
from nasseg.train.recipe import Recipe
from nasseg.train.views.network_input import MEAN, STD, constant, normalise, resample
from nasseg.train.views.randaugment import RandomOperations


def _planes(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (constant(values, device).view(3, 1, 1) for values in (MEAN, STD))
    return mean, std


class Augment:
    """A recipe's zoom, flip, crop, jitter and RandAugment.

    The image is zoomed by a random factor, and a view of crop_size is cut from it at a random place, or so that it
    holds a given place. If the view is larger than the zoomed image, the rest is grey and ignored. A zoom below 1 is
    antialiased like Pillow's bilinear resizing, which the papers' code uses. All random numbers come from one generator
    on the CPU, so a seed gives the same views on every device. Images of different sizes come as lists; their views
    have size `seen` if the recipe has no crop_size.
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
        """Return views of images, uint8 [B, H, W, 3], and of their labels, uint8 [B, H, W].

        Views are normalised floats [B, 3, h, w], their labels int64 [B, h, w].
        held: [B, 2], the row and column in each image that its view must hold; NaN for none.
        """
        device = images[0].device
        draws = torch.rand(6, len(images), 1, generator=generator)
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
        sizes = [(zoom * side).round().clamp(min=1) for side in (height, width)]
        exact = [torch.where(zoom < 1, size / side, zoom) for size, side in zip(sizes, (height, width), strict=True)]
        rows = _positions(height, crop_height, exact[0], draws[1], row)
        columns = _positions(width, crop_width, exact[1], draws[2], column)
        if self.recipe.flip:
            columns = torch.where(draws[3] < 0.5, width - columns, columns)
        rows, columns, draws = (upload(part, images.device) for part in (rows, columns, draws))

        smaller = {n: torch.cat(sizes, 1)[n].int().tolist() for n in (zoom < 1).flatten().nonzero().flatten().tolist()}
        views = _zoomed(images, smaller, rows, columns)
        contrast = 1 + self.recipe.jitter * (2 * draws[4] - 1)
        brightness = self.recipe.jitter * (2 * draws[5] - 1)
        if self.recipe.jitter:
            views = views * contrast[..., None, None] + brightness[..., None, None]
        return views, *_pick(labels, rows, columns)


def _zoomed(images: Tensor, smaller: dict[int, list[int]], rows: Tensor, columns: Tensor) -> Tensor:
    """Return the views [B, 3, h, w] of images [B, H, W, 3] at given positions.

    smaller: height and width of each image with a zoom below 1, by its number in the batch.
    """
    if not smaller:
        return resample(normalise(images), rows, columns)
    views = torch.empty(len(images), 3, rows.shape[1], columns.shape[1], device=images.device)
    if kept := [number for number in range(len(images)) if number not in smaller]:
        others = upload(torch.tensor(kept), images.device)
        views[others] = resample(normalise(images[others]), rows[others], columns[others])
    for number, (height, width) in smaller.items():
        small, one = shrink(images[number], (height, width)), slice(number, number + 1)
        share_y, share_x = height / images.shape[1], width / images.shape[2]
        views[one] = resample(normalise(small[None]), rows[one] * share_y, columns[one] * share_x)
    return views


def shrink(image: Tensor, size: Size) -> Tensor:
    """Shrink an image, uint8 [H, W, 3], like Pillow's antialiased bilinear resizing, within 1 of 255."""
    planes = image.permute(2, 0, 1)[None]
    if image.device.type != "cpu":  # only the CPU has a kernel for bytes
        planes = planes.float()
    small = F.interpolate(planes, size, mode="bilinear", antialias=True)
    return small.round().to(torch.uint8)[0].permute(1, 2, 0)


def _positions(length: int, crop: int, zoom: Tensor, draw: Tensor, held: Tensor | None = None) -> Tensor:
    """Return the positions of the crop's pixels along a side of the image: [B, crop], in pixels, centres at i + 0.5.

    held: [B, 1], a position that the crop must hold while it stays within the image; NaN for none.
    """
    steps = (torch.arange(crop, device=zoom.device) + 0.5) / zoom
    room = length - crop / zoom  # negative if the view is larger: then the image is somewhere inside it
    start = draw * room
    if held is not None:
        around = torch.minimum((held - draw * (crop / zoom)).clamp(min=0), room)
        start = torch.where(held.isnan() | (room < 0), start, around)
    # Start at a whole pixel (of the shrunken image, if zoom is below 1), so that sampling blurs nothing up to zoom 1.
    pixels = zoom.clamp(max=1)
    return (start * pixels).round() / pixels + steps


def _pick(labels: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the label at each position, IGNORE outside the image, and a mask that is True outside."""
    _, height, width = labels.shape
    row, column = rows.floor().long(), columns.floor().long()
    place = (row.clamp(0, height - 1) * width)[:, :, None] + column.clamp(0, width - 1)[:, None, :]
    picked = labels.flatten(1).gather(1, place.flatten(1)).view(place.shape).long()
    outside = ((row < 0) | (row >= height))[:, :, None] | ((column < 0) | (column >= width))[:, None, :]
    return picked.masked_fill_(outside, IGNORE), outside
