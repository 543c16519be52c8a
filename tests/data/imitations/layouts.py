"""Masks in the folders, under the names and with the lists that people and tools give them."""

import zlib

import numpy as np
from PIL import Image

from tests.data.imitations.drawing import KEYS, Truth, label_of, pairs, photo, save, text

# --- names --------------------------------------------------------------------------------------------------------


def named(images, labels):
    return lambda root: pairs(root, lambda label, path, _: save(label, path), images, labels, count=3)


names_at_the_start = named("images/img_{key}.jpg", "masks/mask_{key}.png")
names_at_the_end = named("data/{key}_img.png", "data/{key}_mask.png")
names_in_case = named("Images/SCENE{key}.JPG", "Labels/scene{key}.png")
names_ome = named("raw/{key}.ome.tif", "raw/{key}_labels.png")
names_twice = named("images/{key}.png", "images/{key}_mask.png")


def roboflow_masks(root):
    """PNG export of semantic segmentation: pictures and masks in one folder by split, classes in a CSV file."""
    truth = Truth(names=("background", "crack", "hole"), splits={"train": 6, "val": 2, "test": 2})
    for place, key in enumerate(KEYS):
        folder = "train" if place < 6 else "valid" if place < 8 else "test"
        label = label_of(key, 3)
        name = f"{folder}/{key}_jpg.rf.{zlib.crc32(key.encode()):08x}{'abcdef01' * 2}"
        photo(root / f"{name}.jpg", label)
        save(label, root / f"{name}_mask.png")
        truth.labels[f"{name}.jpg"] = label
    for folder in ("train", "valid", "test"):
        text(root / folder / "_classes.csv", "Pixel Value, Class\n0, background\n1, crack\n2, hole\n")
    return truth


def sequences(root):
    """Frames of five drives; those of one must stay on one side."""
    keys = [f"{drive}_{frame:04d}" for drive in ("alpha", "beta", "gamma", "delta", "omega") for frame in range(3, 7)]
    truth = pairs(root, lambda label, path, _: save(label, path), count=3, keys=keys)
    truth.splits = {"train": 16, "val": 4}
    return truth


# --- labels for some ----------------------------------------------------------------------------------------------


def voc(root):
    """VOC2012 as downloaded: labels for some, instances beside them, lists of the labelled, boxes of all."""
    home = root / "VOCdevkit/VOC2012"
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0]
    truth = Truth(splits={"train": 6, "val": 4})
    for number in range(24):
        key = f"2007_{number:06d}"
        label = label_of(key, 3)
        photo(home / f"JPEGImages/{key}.jpg", label)
        text(home / f"Annotations/{key}.xml", "<annotation><object><name>cat</name></object></annotation>")
        if number % 2 and number < 20:
            label[10] = 255
            for folder, stored in (("SegmentationClass", label), ("SegmentationObject", np.minimum(label, 1))):
                picture = Image.fromarray(stored).convert("P")
                picture.putpalette([*palette, *[7] * (253 * 3)])
                save(picture, home / f"{folder}/{key}.png")
            truth.labels[f"VOCdevkit/VOC2012/JPEGImages/{key}.jpg"] = label
    keys = [path.rpartition("/")[2][:-4] for path in sorted(truth.labels)]
    for split, names in (("train", keys[:6]), ("val", keys[6:]), ("trainval", keys)):
        text(home / f"ImageSets/Segmentation/{split}.txt", "".join(f"{name}\n" for name in names))
        text(home / f"ImageSets/Main/cat_{split}.txt", "".join(f"{name}  -1\n" for name in names))
    return truth


def half_labelled(root):
    truth = pairs(root, lambda label, path, _: save(label, path))
    for number in range(5):
        photo(root / f"images/new{number}.jpg", label_of(f"new{number}"))
    return truth


def csv_lists(root):
    truth = pairs(root, lambda label, path, _: save(label, path))
    rows = {"train": KEYS[:7], "valid": KEYS[7:]}
    for split, keys in rows.items():
        lines = [f"images/{key}.jpg,masks/{key}.png" for key in keys]
        text(root / f"{split}.csv", "\r\n".join(["image,mask", *lines]))
    truth.splits = {"train": 7, "val": 3}
    return truth
