"""Draw the shapes that labelling tools write into a label map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from nasseg.records import Size

IGNORE = 255
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """An area of one class: a mask, or the inside of its outlines without its holes.

    title: the class as the file names it. outlines, holes: points [N, 2], x and y, from the upper left corner, in
    pixels. mask: bool [h, w], with its upper left corner `at` x, y.
    """

    title: str
    outlines: tuple[Points, ...] = ()
    holes: tuple[Points, ...] = ()
    mask: Any = None
    at: tuple[int, int] = (0, 0)

    @property
    def area(self) -> float:
        if self.mask is not None:
            return float(self.mask.sum())
        return sum(map(_area, self.outlines)) - sum(map(_area, self.holes))


@dataclass(frozen=True)
class Drawing:
    """The shapes of one image; later ones are drawn over earlier ones. size: None if the file does not give it.

    relative: whether points are shares of the image's width and height.
    """

    size: Size | None
    shapes: tuple[Shape, ...]
    relative: bool = False


def _area(points: Points) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def by_area(shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Return the shapes with the largest first, so that small ones stay visible."""
    return tuple(sorted(shapes, key=lambda shape: -shape.area))


def draw(
    drawing: Drawing, size: Size, classes: Mapping[str, int], background: int
) -> tuple[NDArray[np.uint8], list[int | str]]:
    """Return the label map [H, W] of a drawing, and the titles that match no class (ignored in the map).

    background: the class of pixels that no shape covers.
    """
    label = np.full(size, background, np.uint8)
    unknown: set[str] = set()
    scale = np.array([size[1], size[0]] if drawing.relative else [1, 1], np.float64)
    for shape in drawing.shapes:
        if shape.title not in classes:
            unknown.add(shape.title)
        label[_covered(shape, size, scale)] = classes.get(shape.title, IGNORE)
    return label, sorted(unknown)


def _covered(shape: Shape, size: Size, scale: Points) -> NDArray[np.bool_]:
    """Return a mask [H, W] of the pixels that a shape covers."""
    if shape.mask is not None:
        found = np.zeros(size, bool)
        left, top = shape.at
        mask = shape.mask[max(0, -top) : size[0] - top, max(0, -left) : size[1] - left]
        top, left = max(0, top), max(0, left)
        found[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        return found
    return _filled(shape.outlines, size, scale) & ~_filled(shape.holes, size, scale)


def _filled(rings: Sequence[Points], size: Size, scale: Points) -> NDArray[np.bool_]:
    """Return the pixels inside any ring, by COCO's own rule for edges."""
    polygons = [(points * scale).ravel().tolist() for points in rings if len(points) >= 3]
    if not polygons:
        return np.zeros(size, bool)
    return rle.decode(rle.merge(rle.frPyObjects(polygons, *size))).astype(bool)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the corners of a rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def ellipse(x: float, y: float, across: float, down: float) -> Points:
    """Return 64 points on an ellipse with these radii."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack([x + across * np.cos(turn), y + down * np.sin(turn)], 1)
