"""labelme JSON: one file per image. Later shapes are drawn over earlier ones; points and lines cover nothing."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasseg.data.formats.draw import Drawing, Shape, box, ellipse
from nasseg.data.list_files import read_text


def read(path: Path) -> dict[str, Drawing]:
    """Return the drawing of the file. Titles are its labels."""
    content = json.loads(read_text(path))
    shapes = tuple(shape for row in content["shapes"] if (shape := _shape(row)))
    return {"": Drawing((int(content["imageHeight"]), int(content["imageWidth"])), shapes)}


def _shape(row: dict[str, Any]) -> Shape | None:
    points, kind = np.array(row["points"], np.float64), row.get("shape_type", "polygon")
    if kind == "polygon":
        return Shape(str(row["label"]), (points,))
    if kind == "rectangle":
        low, high = points.min(0), points.max(0)
        return Shape(str(row["label"]), (box(*low, *high),))
    if kind == "circle":  # the centre, and a point on the rim
        radius = float(np.linalg.norm(points[1] - points[0]))
        return Shape(str(row["label"]), (ellipse(float(points[0, 0]), float(points[0, 1]), radius, radius),))
    if kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(row["mask"]))) as image:
            mask = np.array(image).astype(bool)
        left, top = points.min(0).round().astype(int)
        return Shape(str(row["label"]), mask=mask, at=(int(left), int(top)))
    return None
