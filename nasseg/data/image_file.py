"""Read one image with its label, and fit both into what networks see. Every error names the file and what to do.

A camera notes in EXIF how to turn its picture. Labelling tools show it turned, so it is read turned, unless its label
fits only the picture as stored.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from nasseg.data.class_table import SHAPES, Encoding
from nasseg.data.formats.draw import Drawing, draw
from nasseg.data.formats.read import read_drawing
from nasseg.errors import UserError
from nasseg.records import Size

# Pillow's errors for a file that is no image, or that is cut short.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_ORIENTATION, _CHANNELS = 0x0112, 277  # EXIF and TIFF tags


def size_of(path: Path) -> Size:
    """Return height and width of an image as it is shown, from its header alone.

    Raises:
        UserError: the file cannot be read.
    """
    stored, note = _header(path)
    return stored[::-1] if note >= 5 else stored


def _header(path: Path) -> tuple[Size, int]:
    """Return height and width as stored, and the EXIF note: 1 is upright, 5 to 8 lie on their side."""
    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # a damaged file raises what its bytes happen to mean
        raise _cannot_read("image", path, error) from None


def is_turned(path: Path) -> bool:
    """Return whether an EXIF note says to show the image turned or mirrored."""
    with suppress(UserError):
        return _header(path)[1] in range(2, 9)
    return False


def fitting_size(image: Path, label: Path, encoding: Encoding, entry: str = "") -> Size:
    """Return height and width of an image that its label fits, from the headers alone: as shown, else as stored.

    Raises:
        UserError: a file cannot be read, or the label fits neither.
    """
    shown, size = size_of(image), _label_size(label, encoding, entry)
    if size in (None, shown):
        return shown
    if size != _header(image)[0]:
        raise UserError(_misfit(image, label, size))
    return size


def _label_size(path: Path, encoding: Encoding, entry: str) -> Size | None:
    if encoding.hold in SHAPES:
        return read_drawing(encoding.hold, path, entry).size
    if path.suffix == ".mat":
        from scipy.io import whosmat

        try:
            height, width = next(shape for name, shape, _ in whosmat(path) if name == "S")
        except Exception as error:  # a damaged file raises what its bytes happen to mean
            raise _cannot_read("label", path, error) from None
        return height, width
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise _cannot_read("label", path, error) from None


def _misfit(image: Path, label: Path, size: Size) -> str:
    shown, stored = size_of(image), _header(image)[0]
    turned = f" ({_by(stored)} as stored, before its EXIF note turns it)" if stored != shown else ""
    return (
        f"{label} is {_by(size)} but its image {image.name} is {_by(shown)}{turned}: a label must have its image's size"
    )


def _by(size: Size) -> str:
    return f"{size[1]} x {size[0]}"


def read_image(path: Path, *, as_stored: bool = False) -> NDArray[np.uint8]:
    """Return an image as it is shown, RGB, [H, W, 3].

    Raises:
        UserError: it cannot be read, or has more than 8 bits or other than 1, 3 or 4 channels.
    """
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise UserError(
                    f"{path} has more than 8 bits a channel ({image.mode}): scale its values to 0..255 and save it "
                    "with 8 bits"
                )
            return np.array((image if as_stored else ImageOps.exif_transpose(image)).convert("RGB"))
    except UNREADABLE as error:
        raise _cannot_read("image", path, error) from None


def read_sample(
    image: Path, label: Path, encoding: Encoding, entry: str = ""
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int | str]]:
    """Return an image [H, W, 3] and its label [H, W], which fit, and the values that the class table does not know.

    Raises:
        UserError: a file cannot be read, the label fits the image neither as shown nor as stored, or it does not hold
            what the class table says.
    """
    pixels = read_image(image)
    classes, bad = read_label(label, encoding, entry, (pixels.shape[0], pixels.shape[1]))
    if classes.shape != pixels.shape[:2]:
        pixels = read_image(image, as_stored=True)
    if classes.shape != pixels.shape[:2]:
        raise UserError(_misfit(image, label, (classes.shape[0], classes.shape[1])))
    return pixels, classes, bad


def fitted(size: Size, seen: Size | None) -> Size:
    """Return height and width of an image that is resized to fit into what networks see, its ratio kept."""
    if seen is None:
        return size
    share = min(seen[0] / size[0], seen[1] / size[1])
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def fit_image(pixels: NDArray[np.uint8], seen: Size) -> NDArray[np.uint8]:
    """Return pixels [H, W, 3] resized to fit: bilinear and, where they shrink, antialiased, as Pillow does it.

    All images come to networks through it, of whatever command.
    """
    height, width = fitted((pixels.shape[0], pixels.shape[1]), seen)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def fit_label(label: NDArray[np.uint8], seen: Size) -> NDArray[np.uint8]:
    """Return classes [H, W] resized to fit: of the nearest pixel."""
    height, width = fitted((label.shape[0], label.shape[1]), seen)
    return np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))


def read_known(image: Path, label: Path, encoding: Encoding, entry: str = "") -> tuple[NDArray[np.uint8], ...]:
    """Return an image and its label as read_sample does; an unknown value is an error unless the table lets it pass."""
    pixels, classes, bad = read_sample(image, label, encoding, entry)
    if bad and encoding.unknown == "error":
        raise UserError(unknown_values(label, encoding, bad))
    return pixels, classes


def read_label(
    path: Path, encoding: Encoding, entry: str = "", size: Size | None = None
) -> tuple[NDArray[np.uint8], list[int | str]]:
    """Return classes [H, W], 255 where ignored, and the values that the class table does not know.

    entry: the image's name in a file that holds the shapes of many. size: of the image, for shapes that do not say it.

    Raises:
        UserError: the file cannot be read, or does not hold what the class table says.
    """
    if encoding.hold in SHAPES:
        drawing: Drawing = read_drawing(encoding.hold, path, entry)
        at = drawing.size or size
        assert at is not None, "shapes without a size are drawn at their image's"
        return draw(drawing, at, dict(encoding.titles), encoding.background)
    classes, bad = encoding.decode(_read_matlab(path) if path.suffix == ".mat" else _read_stored(path, encoding))
    return classes, list(bad)


def unknown_values(path: Path, encoding: Encoding, bad: list[int | str]) -> str:
    """Return the message about values that no class has."""
    more = f" and {len(bad) - 1} more unknown values" if len(bad) > 1 else ""
    return (
        f"{path} holds {encoding.show(bad[0])}{more}: classes are {encoding.classes_in_words}; add it to a class or to "
        "`ignore` in the class table, or say `unknown: ignore` of the data"
    )


def read_stored(path: Path) -> tuple[str, NDArray[Any]]:
    """Return the stored values of a label file: `ids` with numbers [H, W], or `colours` with 0xRRGGBB [H, W].

    Grey in three channels counts as numbers. If only alpha varies, alpha is the label and the first value is `alpha`.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ("LA", "RGBA", "PA"):
                rgba = np.array(image.convert("RGBA"))
                if (rgba[..., :3] == rgba[0, 0, :3]).all() and (rgba[..., 3] != rgba[0, 0, 3]).any():
                    return "alpha", rgba[..., 3]
            if image.mode in ("RGB", "CMYK", "YCbCr", "LA", "RGBA", "PA"):
                rgb = np.array(image.convert("RGB"))
                if (rgb == rgb[..., :1]).all():
                    return "ids", rgb[..., 0]
                return "colours", _as_codes(rgb)
            stored: NDArray[Any] = np.array(image)
    except UNREADABLE as error:
        raise _cannot_read("label", path, error) from None
    if stored.ndim != 2:
        raise UserError(f"{path} has {stored.shape[2]} channels: a label map has one number or colour a pixel")
    return "ids", stored.astype(np.uint8) if stored.dtype == bool else stored


def _as_codes(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    wide = rgb.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _read_stored(path: Path, encoding: Encoding) -> NDArray[Any]:
    """Return the numbers or colour codes of a label, as the class table reads it."""
    if encoding.hold == "colours":
        try:
            with Image.open(path) as image:
                return _as_codes(np.array(image.convert("RGB")))
        except UNREADABLE as error:
            raise _cannot_read("label", path, error) from None
    hold, stored = read_stored(path)
    if hold == "colours" or stored.dtype.kind == "f" or (hold == "alpha") != (encoding.hold == "alpha"):
        found = {"colours": "colours", "alpha": "alpha alone"}.get(hold, "numbers")
        raise UserError(
            f"{path} is no label map of one number a pixel but holds {found}: if all labels do, say so in the class "
            "table (`hold: colours`, with each class' `rgb`; or `hold: alpha`)"
        )
    return stored


def _read_matlab(path: Path) -> NDArray[np.int64]:
    from scipy.io import loadmat  # slow to import, and only COCO-Stuff 10k needs it

    try:
        label = loadmat(path, variable_names=["S"])["S"]
    except Exception as error:  # a damaged file raises what its bytes happen to mean
        raise _cannot_read("label", path, error) from None
    if label.ndim != 2:
        raise UserError(f"{path}: S is no label map [height, width] but of shape {list(label.shape)}")
    return np.asarray(label).astype(np.int64)


def _cannot_read(kind: str, path: Path, error: Exception) -> UserError:
    if isinstance(error, UserError):  # UserError is a ValueError; its message is complete
        return error
    with suppress(OSError):
        if path.stat().st_size == 0:
            return UserError(f"cannot read {kind} {path}: it is empty (0 bytes); get it again, or take it out")
    if isinstance(error, Image.DecompressionBombError):
        return UserError(
            f"cannot read {kind} {path}: it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million "
            "pixels; cut it into tiles, the label too"
        )
    if (channels := _tiff_channels(path)) not in (0, 1, 3, 4):
        return UserError(
            f"cannot read {kind} {path}: a TIFF of {channels} channels; networks see three, so write those as RGB"
        )
    return UserError(f"cannot read {kind} {path}: {error}; get it again, or take it out of the data")


def _tiff_channels(path: Path) -> int:
    """Return the channels that the head of a TIFF names, 0 if it is none."""
    with suppress(Exception), path.open("rb") as file:
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        return int(directory.get(_CHANNELS, 1))
    return 0
