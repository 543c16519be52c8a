"""Labels as pictures: masks of two values, and of more."""

import numpy as np
from PIL import Image

from tests.data.imitations.drawing import SIZE, grey, pairs, save, text

# --- masks of two values ------------------------------------------------------------------------------------------


def binary_255(root):
    return pairs(root, lambda label, path, _: save(grey(label), path))


def binary_01(root):
    return pairs(root, lambda label, path, _: save(label, path))


def binary_grey_edges(root):
    """The truth is the half that is brighter than 127."""

    def write(label, path, _):
        save(grey(label, edges=True), path)
        return (np.asarray(grey(label, edges=True)) > 127).astype(np.uint8)

    return pairs(root, write)


def binary_jpeg(root):
    return pairs(root, lambda label, path, _: save(grey(label), path, quality=80), labels="masks/{key}.jpg")


def binary_jpeg_rgb(root):
    return pairs(
        root, lambda label, path, _: save(grey(label).convert("RGB"), path, quality=75), labels="masks/{key}_mask.jpg"
    )


def binary_gif(root):
    """Palettes that differ: black is 0 in one file, 1 in the next."""

    def write(label, path, key):
        palette = [(0, 0, 0), (255, 255, 255)] if int(key) % 2 else [(255, 255, 255), (0, 0, 0)]
        picture = Image.fromarray(label if int(key) % 2 else 1 - label).convert("P")
        picture.putpalette([part for colour in palette for part in colour])
        save(picture, path)

    return pairs(root, write, labels="masks/{key}_mask.gif")


def binary_one_bit(root):
    return pairs(root, lambda label, path, _: save(Image.fromarray(label * np.uint8(255)).convert("1"), path))


def binary_16_bit(root):
    return pairs(root, lambda label, path, _: save(label.astype(np.uint16) * 65535, path))


def binary_with_alpha(root):
    return pairs(root, lambda label, path, _: save(grey(label).convert("LA"), path))


def binary_rgba(root):
    return pairs(root, lambda label, path, _: save(grey(label).convert("RGBA"), path))


def binary_in_alpha(root):
    def write(label, path, _):
        rgba = np.full((*SIZE, 4), 255, np.uint8)
        rgba[..., 3] = label * 255
        save(rgba, path)

    return pairs(root, write)


def binary_palette(root):
    def write(label, path, _):
        picture = Image.fromarray(label).convert("P")
        picture.putpalette([0, 0, 0, 128, 0, 0])
        save(picture, path)

    return pairs(root, write)


# --- more values --------------------------------------------------------------------------------------------------


def three_greys(root):
    return pairs(root, lambda label, path, _: save(np.array([0, 127, 255], np.uint8)[label], path), count=3)


def three_greys_jpeg(root):
    return pairs(
        root,
        lambda label, path, _: save(np.array([0, 127, 255], np.uint8)[label], path, quality=85),
        labels="masks/{key}.jpg",
        count=3,
    )


COLOURS = np.array([(0, 0, 0), (200, 30, 30), (30, 60, 220)], np.uint8)


def by_colour(truth):
    """Classes without names are in the order of their colours."""
    order = np.array([0, 2, 1], np.uint8)
    truth.labels = {name: order[label] for name, label in truth.labels.items()}
    return truth


def colours_on_black(root):
    return by_colour(pairs(root, lambda label, path, _: save(COLOURS[label], path), count=3))


def colours_jpeg(root):
    def write(label, path, _):
        save(COLOURS[label], path, quality=90, subsampling=0)

    return by_colour(pairs(root, write, labels="masks/{key}.jpg", count=3))


def class_dict(root):
    truth = pairs(root, lambda label, path, _: save(COLOURS[label], path), count=3, labels="masks/{key}_L.png")
    rows = ("name,r,g,b", "road,0,0,0", "car,200,30,30", "traffic light,30,60,220")
    text(root / "class_dict.csv", "\r\n".join(rows), "utf-8-sig")
    truth.names = ("road", "traffic light", "car")
    return by_colour(truth)


def ids_with_void(root):
    def write(label, path, _):
        label = label.copy()
        label[:3] = 255
        save(label, path)
        return label

    truth = pairs(root, write, count=3)
    text(root / "classes.txt", "sky\nroad\ntree\n", "utf-16")
    truth.names = ("sky", "road", "tree")
    return truth
