"""COCO JSON: polygons and run lengths of many images in one file. Small shapes are drawn over large ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from nasseg.data.formats.draw import Drawing, Shape, by_area
from nasseg.data.list_files import read_text


def read(path: Path) -> dict[str, Drawing]:
    """Return drawings by `file_name`. Titles are the categories' names."""
    content = json.loads(read_text(path))
    names = {row["id"]: str(row["name"]) for row in content["categories"]}
    shapes: dict[Any, list[Shape]] = {row["id"]: [] for row in content["images"]}
    sizes = {row["id"]: (int(row["height"]), int(row["width"])) for row in content["images"]}
    for row in content["annotations"]:
        if row["image_id"] in shapes:
            shapes[row["image_id"]] += _shapes(row, names, sizes[row["image_id"]])
    return {str(row["file_name"]): Drawing(sizes[row["id"]], by_area(shapes[row["id"]])) for row in content["images"]}


def _shapes(row: dict[str, Any], names: dict[Any, str], size: tuple[int, int]) -> Iterator[Shape]:
    found, title = row.get("segmentation"), names.get(row["category_id"], f"category {row['category_id']}")
    if isinstance(found, dict):  # run lengths, as numbers or packed
        packed = rle.frPyObjects(found, *size) if isinstance(found["counts"], list) else found
        yield Shape(title, mask=rle.decode(packed).astype(bool))
    elif found:
        rings = tuple(np.array(ring, np.float64).reshape(-1, 2) for ring in found)
        yield Shape(title, rings)


def titles(path: Path) -> list[str]:
    """Return the names of the categories, in the order of their ids."""
    rows = json.loads(read_text(path))["categories"]
    return [str(row["name"]) for row in sorted(rows, key=lambda row: row["id"])]
