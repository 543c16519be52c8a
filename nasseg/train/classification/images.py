"""Folders of images by class, in ImageNet's layout: train/CLASS/*.jpg and val/CLASS/*.jpg.

Pictures are read when needed, several at once: a million decoded pictures would not fit anywhere.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nasseg.data.image_file import UNREADABLE
from nasseg.errors import UserError
from nasseg.records import Size, digest

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# A training view's share of the picture's area, and its width over its height, as in "Going Deeper with Convolutions"
# (Szegedy et al., 2015). An evaluated view is the middle of a picture that is 8/7 as large (256 for 224).
SHARE, ASPECT, MARGIN = (0.08, 1.0), (3 / 4, 4 / 3), 8 / 7
_AT_ONCE = 8
TRIES = 10  # boxes drawn for a view; the first that fits is taken


@dataclass(frozen=True)
class Pictures:
    """The pictures of a split and their classes."""

    files: tuple[Path, ...]
    classes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.files)

    def views(self, numbers: list[int], size: Size, draws: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return uint8 [B, *size, 3] and the classes [B]: random views, or the middle of each if nothing is drawn.

        draws: [B, tries, 4] of 0..1.

        Raises:
            UserError: a picture cannot be read.
        """

        def view(place: int) -> Tensor:
            with _picture(self.files[numbers[place]]) as picture:
                box = _middle(picture.size, size) if draws is None else _random(picture.size, draws[place].tolist())
                return torch.from_numpy(np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR, box)).copy())

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            images = [*pool.map(view, range(len(numbers)))]
        return torch.stack(images), torch.tensor([self.classes[number] for number in numbers])


@dataclass(frozen=True)
class ImageFolder:
    """Pictures to train on and to evaluate on. fingerprint: a hash of the names and sizes of all files."""

    name: str
    classes: tuple[str, ...]
    fingerprint: str
    train: Pictures
    val: Pictures

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def image_folder(root: Path) -> ImageFolder:
    """Return the pictures below a folder.

    Raises:
        UserError: there are no train/CLASS and val/CLASS with pictures, or their classes differ.
    """
    found = {split: {place.name: _pictures(place) for place in _folders(root, split)} for split in ("train", "val")}
    classes = tuple(found["train"])
    if len(classes) < 2 or classes != tuple(found["val"]):
        odd = sorted({*found["train"]} ^ {*found["val"]})
        what = f"{', '.join(odd[:3])} is in only one of them" if odd else f"got {len(classes)} class"
        raise UserError(
            f"{root}: train and val must hold a folder for each class, the same in both, at least two; {what}"
        )
    for split, by_class in found.items():
        for name, files in by_class.items():
            if not files:
                raise UserError(f"{root / split / name} holds no picture ({', '.join(SUFFIXES)})")
    rows = [
        [split, name, path.name, path.stat().st_size]
        for split, by_class in found.items()
        for name, files in by_class.items()
        for path in files
    ]
    train, val = (
        Pictures(
            tuple(path for files in by_class.values() for path in files),
            tuple(number for number, files in enumerate(by_class.values()) for _ in files),
        )
        for by_class in found.values()
    )
    return ImageFolder(root.resolve().name, classes, digest(rows), train, val)


def _folders(root: Path, split: str) -> Iterator[Path]:
    try:
        yield from sorted(path for path in (root / split).iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError as error:
        raise UserError(f"cannot look into {root / split}: {error.strerror}; put pictures in {split}/CLASS") from None


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _picture(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except UNREADABLE as error:
        raise UserError(f"cannot read the image {path}: {error}; restore it, or take it out") from None


def _random(picture: tuple[int, int], draws: list[list[float]]) -> tuple[float, float, float, float]:
    """Return a box of random area and shape within a picture of [width, height]: the first of the draws that fits."""
    width, height = picture
    for share, aspect, left, top in draws:
        area = width * height * (SHARE[0] + (SHARE[1] - SHARE[0]) * share)
        ratio = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** aspect
        wide, high = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if wide <= width and high <= height:
            x, y = left * (width - wide), top * (height - high)
            return x, y, x + wide, y + high
    return _middle(picture, (1, 1), 1.0)


def _middle(picture: tuple[int, int], size: Size, margin: float = MARGIN) -> tuple[float, float, float, float]:
    """Return the middle box of a picture of [width, height], with the shape of size."""
    width, height = picture
    scale = min(width / size[1], height / size[0]) / margin
    wide, high = size[1] * scale, size[0] * scale
    x, y = (width - wide) / 2, (height - high) / 2
    return x, y, x + wide, y + high
