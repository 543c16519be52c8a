"""Reading one picture or label map: what is wrong with it names the file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nasseg.data.class_table import Encoding
from nasseg.errors import UserError
from nasseg.records import Size

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# What Pillow raises for a file that is no image, or one that is cut short.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_ORIENTATION = 0x0112  # EXIF


def size_of(path: Path) -> Size:
    """Height and width, by the header alone.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        if path.suffix == ".mat":
            from scipy.io import whosmat

            height, width = next(shape for name, shape, _ in whosmat(path) if name == "S")
            return height, width
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:  # a damaged file raises what its bytes happen to mean
        raise _cannot_read("file", path, error) from None


def is_turned(path: Path) -> bool:
    """Whether a camera noted in it that it is to be shown turned."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION, 1) != 1
    except UNREADABLE:
        return False


def read_image(path: Path) -> NDArray[np.uint8]:
    """[H, W, 3], RGB, as stored: a camera's note on how to turn it is not followed, for labels know nothing of it."""
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise UserError(f"{path} has more than 8 bits a channel ({image.mode}): convert the images to 8 bits")
            return np.array(image.convert("RGB"))
    except UNREADABLE as error:
        raise _cannot_read("image", path, error) from None


def read_label(path: Path, encoding: Encoding) -> tuple[NDArray[np.uint8], list[int]]:
    """Classes [H, W], 255 where ignored; and the values that the class table does not know.

    Raises:
        UserError: the file cannot be read, or does not hold what the class table says.
    """
    return encoding.decode(_read_matlab(path) if path.suffix == ".mat" else _read_stored(path, encoding))


def known_label(path: Path, encoding: Encoding) -> NDArray[np.uint8]:
    """The same, where an unknown value is an error unless the class table lets it pass."""
    label, bad = read_label(path, encoding)
    if bad and encoding.unknown == "error":
        raise UserError(unknown_values(path, encoding, bad))
    return label


def unknown_values(path: Path, encoding: Encoding, bad: list[int]) -> str:
    more = f" and {len(bad) - 1} more unknown values" if len(bad) > 1 else ""
    return (
        f"{path} holds {encoding.show(bad[0])}{more}: classes are {encoding.classes_in_words}; add it to a class or to "
        "`ignore` in the class table, or say `unknown: ignore` of the data"
    )


def _read_stored(path: Path, encoding: Encoding) -> NDArray[Any]:
    try:
        with Image.open(path) as image:
            mode = image.mode
            if encoding.hold == "colours":
                if mode not in ("RGB", "RGBA", "P"):
                    raise UserError(f"{path} holds no colours but is of mode {mode}: the class table says colours")
                rgb = np.array(image.convert("RGB"), np.int32)
                return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
            label: NDArray[Any] = np.array(image)
    except UNREADABLE as error:
        raise _cannot_read("label", path, error) from None
    if label.ndim != 2 or mode in ("F", "CMYK"):
        raise UserError(
            f"{path} is no label map of one number a pixel but of mode {mode}: if it holds colours, say "
            "`hold: colours` in the class table, with each class' `rgb`"
        )
    return label.astype(np.uint8) if mode == "1" else label


def _read_matlab(path: Path) -> NDArray[np.int64]:
    from scipy.io import loadmat  # slow to import, and COCO-Stuff 10k alone needs it

    try:
        label = loadmat(path, variable_names=["S"])["S"]
    except Exception as error:  # a damaged file raises what its bytes happen to mean
        raise _cannot_read("label", path, error) from None
    if label.ndim != 2:
        raise UserError(f"{path}: S is no label map [height, width] but of shape {list(label.shape)}")
    return np.asarray(label).astype(np.int64)


def _cannot_read(kind: str, path: Path, error: Exception) -> UserError:
    if isinstance(error, UserError):  # a ValueError, which says all
        return error
    return UserError(f"cannot read {kind} {path}: {error}; get it again, or take it out of the data")
