"""CamVid as the SegNet tutorial distributes it, and any data set that is laid out and labelled like it.

    train/NAME.png  trainannot/NAME.png    and the same for val and, optionally, test

Images are PNG or JPEG; labels are one-byte PNGs of the same stem, 0..10 the classes and 11 (or 255) ignored. Where
there is a list `train.txt`, `val.txt` or `test.txt`, its lines (image and label, under whatever folder they once
were) choose among the files by name.
"""

import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nasseg.errors import UserError
from nasseg.records import digest

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
COLOURS = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip
VOID, IGNORE = 11, 255
_IMAGES = frozenset({".png", ".jpg", ".jpeg"})
# What Pillow raises for a file that is no image, or one that is cut short.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

Pair = tuple[Path, Path]


@dataclass(frozen=True)
class SegNetFolder:
    """The folder `root`. Its files are listed and matched when first needed, and read by `read`."""

    root: Path
    classes: tuple[str, ...] = CLASSES
    colours: tuple[tuple[int, int, int], ...] = COLOURS

    @cached_property
    def pairs(self) -> dict[str, list[Pair]]:
        """Image and label of each sample, by split, in the order of their names.

        Raises:
            UserError: a folder, an image or a label is missing, or a split is empty.
        """
        splits = ["train", "val"] + ["test"] * (self.root / "test").is_dir()
        return {split: self._match(split) for split in splits}

    @property
    def splits(self) -> list[str]:
        return list(self.pairs)

    def _match(self, split: str) -> list[Pair]:
        images, labels = self._files(split), self._files(f"{split}annot")
        listed = self.root / f"{split}.txt"
        names = sorted(_listed_names(listed)) if listed.is_file() else sorted(images)
        if not names:
            raise UserError(f"split {split} of {self.root} is empty: no PNG or JPEG in {self.root / split}")
        for name in names:
            if name not in images:
                raise UserError(f"{listed} lists {name}, but {self.root / split} holds no such PNG or JPEG")
            if name not in labels:
                raise UserError(f"{images[name]} has no label: {self.root / f'{split}annot' / name}.png is needed")
        return [(images[name], labels[name]) for name in names]

    def _files(self, folder: str) -> dict[str, Path]:
        path = self.root / folder
        if not path.is_dir():
            raise UserError(
                f"no folder {path}: a data set has train, trainannot, val and valannot (and test, testannot)"
            )
        found: dict[str, Path] = {}
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in _IMAGES and not file.name.startswith("."):
                if file.stem in found:
                    raise UserError(f"{found[file.stem]} and {file.name} are one sample by name: keep one of them")
                found[file.stem] = file
        return found

    def fingerprint(self) -> str:
        """A hash of names, sizes and CRCs of the content of every file that is used."""
        files = [file for pairs in self.pairs.values() for pair in pairs for file in pair]
        with ThreadPoolExecutor() as pool:
            checks = list(pool.map(_size_and_crc, files))
        return digest(
            sorted([file.relative_to(self.root).as_posix(), *check] for file, check in zip(files, checks, strict=True))
        )

    def read(self, split: str) -> tuple[Tensor, Tensor]:
        """Images uint8 [N, H, W, 3] and labels uint8 [N, H, W] of a split.

        Raises:
            UserError: a file cannot be read, holds an unknown label or has another size than the rest (it is named).
        """
        pairs = self.pairs[split]
        height, width = _read_image(pairs[0][0]).shape[:2]
        images = torch.empty(len(pairs), height, width, 3, dtype=torch.uint8)
        labels = torch.empty(len(pairs), height, width, dtype=torch.uint8)

        def fill(number: int) -> None:
            image, label = _read_image(pairs[number][0]), _read_label(pairs[number][1], len(self.classes))
            if label.shape != image.shape[:2]:
                raise UserError(
                    f"{pairs[number][1]} is {_size(label)} but its image {pairs[number][0].name} is {_size(image)}"
                )
            if image.shape[:2] != (height, width):
                raise UserError(
                    f"images of a split must be of one size: {pairs[number][0]} is {_size(image)}, "
                    f"{pairs[0][0].name} is {width} x {height}; resize them, labels by nearest neighbour"
                )
            images[number], labels[number] = torch.from_numpy(image), torch.from_numpy(label)

        with ThreadPoolExecutor() as pool:  # decoding leaves the interpreter free
            list(pool.map(fill, range(len(pairs))))
        return images, labels


def _listed_names(path: Path) -> set[str]:
    """Stems of the labels, which end the lines: folders before them may hold spaces."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    return {Path(line.split()[-1].replace("\\", "/")).stem for line in lines if line.strip()}


def _size_and_crc(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    return len(content), zlib.crc32(content)


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except _UNREADABLE as error:
        raise UserError(f"cannot read image {path}: {error}") from None


def _read_label(path: Path, num_classes: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            mode, label = image.mode, np.array(image)
    except _UNREADABLE as error:
        raise UserError(f"cannot read label {path}: {error}") from None
    if mode not in ("L", "P"):
        raise UserError(
            f"{path} is no one-byte label map but of mode {mode}: colours must be turned into class numbers"
        )
    label[label == VOID] = IGNORE
    if bad := sorted({int(value) for value in np.unique(label)} - {*range(num_classes), IGNORE}):
        raise UserError(f"{path} holds label {bad[0]}: 0..{num_classes - 1}, {VOID} (void) and {IGNORE} are known")
    return label
