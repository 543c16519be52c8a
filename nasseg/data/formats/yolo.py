"""YOLO segmentation: one text file per image, one shape per line: class number, then x and y as shares of the image.

The format has no order of shapes: small ones are drawn over large ones. A class and four numbers make a box.
"""

from pathlib import Path

import numpy as np

from nasseg.data.formats.draw import Drawing, Shape, box, by_area
from nasseg.data.list_files import read_lines
from nasseg.errors import UserError


def read(path: Path) -> dict[str, Drawing]:
    """Return the drawing of the file. Titles are the numbers of the classes."""
    shapes = []
    for number, line in enumerate(read_lines(path), 1):
        if not line:
            continue
        try:
            title, values = str(int(line.split()[0])), np.array(line.split()[1:], np.float64)
        except ValueError:
            raise UserError(f"{path}:{number}: a class number and coordinates are needed, got {line[:60]!r}") from None
        if len(values) == 4:
            x, y, width, height = values
            points = box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        elif len(values) >= 6 and len(values) % 2 == 0:
            points = values.reshape(-1, 2)
        else:
            raise UserError(f"{path}:{number}: pairs of x and y are needed after the class, got {len(values)} numbers")
        shapes.append(Shape(title, (points,)))
    return {"": Drawing(None, by_area(shapes), relative=True)}
