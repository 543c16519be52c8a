"""Supervisely JSON: one file per image. Later objects are drawn over earlier ones; points and lines cover nothing."""

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasseg.data.formats.draw import Drawing, Shape, box
from nasseg.data.list_files import read_text


def read(path: Path) -> dict[str, Drawing]:
    """Return the drawing of the file. Titles are the objects' classes."""
    content = json.loads(read_text(path))
    size = int(content["size"]["height"]), int(content["size"]["width"])
    return {"": Drawing(size, tuple(shape for row in content["objects"] if (shape := _shape(row))))}


def _shape(row: dict[str, Any]) -> Shape | None:
    kind, title = row["geometryType"], str(row["classTitle"])
    if kind == "bitmap":
        with Image.open(io.BytesIO(zlib.decompress(base64.b64decode(row["bitmap"]["data"])))) as image:
            clear = "A" in image.getbands() or "transparency" in image.info
            pixels = np.array(image.convert("RGBA"))
        mask = pixels[..., 3] > 0 if clear else pixels[..., :3].any(2)
        left, top = row["bitmap"]["origin"]
        return Shape(title, mask=mask, at=(int(left), int(top)))
    outer = np.array(row["points"]["exterior"], np.float64)
    if kind == "polygon":
        return Shape(title, (outer,), tuple(np.array(hole, np.float64) for hole in row["points"]["interior"]))
    if kind == "rectangle":
        return Shape(title, (box(*outer.min(0), *outer.max(0)),))
    return None
