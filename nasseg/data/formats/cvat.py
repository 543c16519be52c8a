"""CVAT XML ("CVAT for images 1.1"): shapes of many images in one file; z_order decides which is on top."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from nasseg.data.formats.draw import Drawing, Shape, box, ellipse


def read(path: Path) -> dict[str, Drawing]:
    """Return drawings by the images' names. Titles are the labels."""
    found = {}
    for image in ElementTree.parse(path).getroot().iter("image"):
        rows = sorted(image, key=lambda row: int(row.get("z_order", 0)))  # sorted() keeps equal items in order
        shapes = tuple(shape for row in rows if (shape := _shape(row)))
        found[image.attrib["name"]] = Drawing((int(image.attrib["height"]), int(image.attrib["width"])), shapes)
    return found


def _shape(row: ElementTree.Element) -> Shape | None:
    at = row.attrib
    if row.tag == "polygon":
        points = [[float(value) for value in pair.split(",")] for pair in at["points"].split(";")]
        return Shape(at["label"], (np.array(points),))
    if row.tag == "box":
        return Shape(at["label"], (box(*(float(at[side]) for side in ("xtl", "ytl", "xbr", "ybr"))),))
    if row.tag == "ellipse":
        return Shape(at["label"], (ellipse(*(float(at[name]) for name in ("cx", "cy", "rx", "ry"))),))
    if row.tag == "mask":  # run lengths of 0 and 1 in turn, row by row
        runs = [int(run) for run in at["rle"].split(",")]
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        left, top, width, height = (int(float(at[name])) for name in ("left", "top", "width", "height"))
        return Shape(at["label"], mask=values.reshape(height, width), at=(left, top))
    return None


def titles(path: Path) -> list[str]:
    """Return the labels of the task, in its order."""
    labels = ElementTree.parse(path).getroot().findall("./meta//labels/label/name")
    return list(dict.fromkeys(label.text or "" for label in labels))
