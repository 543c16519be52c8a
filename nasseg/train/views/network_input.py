"""Turn a picture into a network's input, and its output back into the picture: in one way for all commands.

A picture is resized to fit (nasseg.data.image_file.fit_image) and placed at the upper left of what the network sees;
the rest is the mean colour. PREPARE and MAP_BACK describe this for those who run a network elsewhere.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.data.image_file import fit_image
from nasseg.errors import MisfitError
from nasseg.records import Size
from nasseg.train.recipe import Recipe

Colour = tuple[float, float, float]
# RGB, of pixels 0..255: the usual ImageNet values, as good as any for street scenes.
MEAN: Colour = (123.675, 116.28, 103.53)
STD: Colour = (58.395, 57.12, 57.375)
_VALUES = 1 << 25  # logits at a time: large labels of many classes would not fit into memory

PREPARE = (
    "Take the picture as it is shown, rotated as its EXIF tag says: RGB, 8 bits per colour, H x W.",
    "share = min(height / H, width / W), with this file's height and width; h = round(share * H), w = "
    "round(share * W), both at least 1; halves round to the even number.",
    "Resize to h x w, bilinear with pixel centres at halves; when shrinking, antialiased by a triangle filter as "
    "wide as the shrinking requires. This is Pillow's resize with BILINEAR, not OpenCV's INTER_LINEAR. Round "
    "to 8 bits.",
    "Normalise, colour by colour: (pixel - mean) / std.",
    "Put it at the upper left of height x width; fill the right and the bottom with 0 (the mean colour).",
    "Planes one after another, red, green, blue: float32 [batch, 3, height, width].",
)
MAP_BACK = {
    "logits": (
        "Cut the logits to the upper left h x w, where the picture was.",
        "Resize them to H x W, bilinear with pixel centres at halves, the edges repeated, not antialiased.",
        "The class of a pixel is the one with the largest logit. Scored like this, the mIoU equals the recorded one.",
    ),
    "classes": (
        "Cut the classes to the upper left h x w, where the picture was.",
        "Pixel y, x of the picture has the class at floor((y + 0.5) * h / H), floor((x + 0.5) * w / W). The "
        "recorded mIoU is that of resized logits: it is reproduced if H x W is h x w; otherwise export without "
        "--argmax.",
    ),
}


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return values as a tensor on a device, made once: each copy to a GPU would wait for it."""
    with torch.inference_mode(False):  # trainings use it, too, whoever asks first
        return torch.tensor(values, device=device)


def normalise(images: Tensor, mean: Colour = MEAN, std: Colour = STD) -> Tensor:
    """Return uint8 [B, H, W, 3] as network input: float [B, 3, H, W], zero mean, unit deviation."""
    # By whole rows: with the three channels innermost, the CPU works in threes and takes four times as long.
    means, stds = (constant(values, images.device).repeat(images.shape[2]) for values in (mean, std))
    return images.flatten(2).float().sub_(means).div_(stds).view(images.shape).permute(0, 3, 1, 2)


def place(images: Tensor | Sequence[Tensor], seen: Size, mean: Colour = MEAN, std: Colour = STD) -> Tensor:
    """Return fitted images, uint8 [h, w, 3] each, as [B, 3, *seen], normalised: each at the upper left."""
    if isinstance(images, Tensor) and tuple(images.shape[1:3]) == seen:
        return normalise(images, mean, std)
    placed = torch.zeros(len(images), 3, *seen, device=images[0].device)
    for view, image in zip(placed, images, strict=True):
        view[:, : image.shape[0], : image.shape[1]] = normalise(image[None], mean, std)[0]
    return placed


@contextmanager
def past_resize(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Let a network take its views without resizing, if the recipe's views are those after resizing (`network`)."""
    scale = getattr(model, "input_scale", 1.0)
    if recipe.views == "camera" or scale == 1.0:
        yield
        return
    model.input_scale = 1.0  # type: ignore[assignment]
    try:
        yield
    finally:
        model.input_scale = scale  # type: ignore[assignment]


def fit(picture: NDArray[np.uint8], seen: Size) -> Tensor:
    """Return a picture of any size, [H, W, 3], resized to fit, as `place` takes it."""
    return torch.tensor(fit_image(picture, seen))  # a copy, because Pillow's array must not be written to


def map_back(answer: Tensor, fitted: Sequence[int], shape: Size) -> Iterator[tuple[int, Tensor]]:
    """Yield logits or probabilities [1, C, *seen] of a placed image at its own or its label's size, by rows.

    fitted: height and width of the image where it was placed. Yields the first row, and [1, C, rows, W] from there on.
    """
    cut = answer[:, :, : fitted[0], : fitted[1]]
    if tuple(cut.shape[2:]) == shape:
        yield 0, cut
        return
    rows, columns = (
        (torch.arange(there, device=cut.device) + 0.5)[None] * (side / there)
        for side, there in zip(cut.shape[2:], shape, strict=True)
    )
    count = max(1, _VALUES // (cut.shape[1] * shape[1]))
    for top in range(0, shape[0], count):
        yield top, resample(cut, rows[:, top : top + count], columns, outside="border")


def classes_of(logits: Tensor, fitted: Sequence[int], shape: Size) -> Tensor:
    """Return the class of each pixel, uint8 [*shape], of an image's logits [1, C, *seen]; see map_back."""
    return torch.cat([part.argmax(1)[0] for _, part in map_back(logits, fitted, shape)]).byte()


def logits_of(model: nn.Module, images: Tensor, num_classes: int, channels_last: bool) -> Tensor:
    """Return a network's logits [B, num_classes, H, W] of images [B, 3, H, W].

    Raises:
        MisfitError: their shape is wrong.
    """
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    logits: Tensor = model(images)
    if logits.shape != (len(images), num_classes, *images.shape[2:]):
        raise MisfitError(
            f"logits must be [{len(images)}, {num_classes}, {images.shape[2]}, {images.shape[3]}] for this data set, "
            f"got {list(logits.shape)}: build the model for {num_classes} classes"
        )
    return logits


def keep_classes(
    kept: dict[int, Tensor],
    first: int,
    logits: Tensor,
    images: Tensor | Sequence[Tensor],
    labels: Tensor | Sequence[Tensor],
) -> None:
    """Keep the classes, uint8 [H, W], of a batch's images whose numbers are keys. first: the batch's first number."""
    for number in kept.keys() & range(first, first + len(logits)):
        image, label = images[number - first], labels[number - first]
        one = logits[number - first : number - first + 1]
        kept[number] = classes_of(one, image.shape, (label.shape[0], label.shape[1])).cpu()


def nearest_classes(classes: Tensor, fitted: Sequence[int], shape: Size) -> Tensor:
    """Return classes [*seen] of a placed image at its own size, each from the nearest pixel."""
    rows, columns = (
        (2 * torch.arange(there, device=classes.device) + 1) * side // (2 * there)
        for side, there in zip(fitted, shape, strict=False)
    )
    return classes[rows][:, columns]


def resample(maps: Tensor, rows: Tensor, columns: Tensor, outside: str = "zeros") -> Tensor:
    """Return maps [B, C, H, W] at these positions, bilinear. Beyond them it is zero (the mean colour) or the border.

    rows [B, h] and columns [B, w] are in pixels, whose centres are at i + 0.5.
    """
    height, width = maps.shape[2:]
    shape = (*rows.shape, columns.shape[1])
    grid = torch.stack(
        [(columns * (2 / width) - 1)[:, None, :].expand(shape), (rows * (2 / height) - 1)[:, :, None].expand(shape)], -1
    )
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode=outside, align_corners=False)
