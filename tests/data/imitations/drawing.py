"""Pictures of blobs, their labels, and files of both."""

import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

SIZE = (96, 128)
KEYS = [f"{number:03d}" for number in range(1, 11)]


@dataclass
class Truth:
    """The right answer. names: of classes in order, where known; labels: by the image's path below the root."""

    labels: dict[str, np.ndarray] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    splits: dict[str, int] = field(default_factory=dict)


def boxes(key, count):
    """Rectangles [left, top, right, bottom] of the classes 1..count - 1, apart from each other and of even sizes."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    found = []
    for number in range(1, count):
        left = 8 + (number - 1) * (SIZE[1] - 16) // (count - 1)
        width = (SIZE[1] - 16) // (count - 1) - 8
        top = int(rng.integers(8, 30))
        found.append((left, top, left + width, top + int(rng.integers(40, 55))))
    return found


def label_of(key, count=2):
    """Class 0 with a rectangle of each other class."""
    label = np.zeros(SIZE, np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes(key, count), 1):
        label[top:bottom, left:right] = number
    return label


def photo(path, label, **options):
    """A picture in which classes differ a little in colour, with noise."""
    rng = np.random.default_rng(zlib.crc32(str(path).encode()))
    base = rng.integers(0, 255, (6, 8, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(base).resize(label.shape[::-1], Image.Resampling.BICUBIC), np.int16)
    pixels = smooth // 2 + 40 * label[..., None].astype(np.int16) + rng.integers(0, 40, (*label.shape, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, **options)


def save(picture, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(picture)
    picture.save(path, **options)


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def grey(label, edges=False):
    """0 and 255; with edges as drawn four times as large and made smaller."""
    picture = Image.fromarray(label * np.uint8(255))
    if edges:
        turned = picture.resize((512, 384), Image.Resampling.NEAREST).rotate(3, fillcolor=0)
        return turned.resize((128, 96), Image.Resampling.BOX)
    return picture


def pairs(root, write, images="images/{key}.jpg", labels="masks/{key}.png", count=2, keys=KEYS, names=()):
    """A picture and a label for each key; write(label, path, key) may return another truth."""
    truth = Truth(names=names, splits={"train": len(keys) * 4 // 5, "val": len(keys) // 5})
    for key in keys:
        label = label_of(key, count)
        path = root / images.format(key=key)
        changed = write(label, root / labels.format(key=key), key)
        label = label if changed is None else changed
        photo(path, label)
        truth.labels[images.format(key=key)] = label
    return truth
