"""Read the files of labelling tools: shapes by image. A process reads each file once, unless it changes."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from nasseg.data.formats import coco, cvat, labelme, supervisely, yolo
from nasseg.data.formats.draw import Drawing
from nasseg.errors import UserError

# In formats with one file for many images, drawings are keyed by the images' names.
READERS: Mapping[str, Callable[[Path], dict[str, Drawing]]] = {
    "coco": coco.read,
    "cvat": cvat.read,
    "labelme": labelme.read,
    "supervisely": supervisely.read,
    "yolo": yolo.read,
}


def read_drawings(hold: str, path: Path) -> dict[str, Drawing]:
    """Return the drawings of a file by the names of their images; "" where a file holds one image's shapes.

    Raises:
        UserError: the file cannot be read, or is not of that format.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return _read(hold, path, (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=8)  # the shapes of a large COCO file take a gigabyte
def _read(hold: str, path: Path, _version: tuple[int, int]) -> dict[str, Drawing]:
    try:
        return READERS[hold](path)
    except UserError:
        raise
    except Exception as error:  # a file in another format may fail anywhere
        raise UserError(
            f"cannot read {path} as {hold}: {type(error).__name__}: {error}; export it again, or take it out"
        ) from None


def read_drawing(hold: str, path: Path, entry: str = "") -> Drawing:
    """Return the shapes of one image.

    Raises:
        UserError: see read_drawings.
    """
    found = read_drawings(hold, path)
    return found[entry] if entry in found else Drawing(None, ())
