"""Read one image with its label, and resize both to what networks see. Every error names the file and what to do.

A camera writes into EXIF how to rotate its picture. Labelling tools show it rotated, so it is read rotated, unless its
label fits only the picture as stored.
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

# Pillow's errors for a file that is no image, or is incomplete.
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
    """Return height and width as stored, and the EXIF orientation: 1 is upright, 5 to 8 lie on their side."""
    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # a damaged file raises what its bytes happen to mean
        raise _cannot_read("image", path, error) from None


def is_turned(path: Path) -> bool:
    """Return whether the EXIF orientation says to show the image rotated or mirrored."""
    with suppress(UserError):
        return _header(path)[1] in range(2, 9)
    return False


def fitting_size(image: Path, label: Path, encoding: Encoding, entry: str = "") -> Size:
    """Return the height and width of an image that fit its label, from the headers alone: as shown, else as stored.

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
    turned = f" ({_by(stored)} as stored, before its EXIF tag rotates it)" if stored != shown else ""
    return (
        f"{label} is {_by(size)} but its image {image.name} is {_by(shown)}{turned}: a label must have its image's size"
    )


def _by(size: Size) -> str:
    return f"{size[1]} x {size[0]}"


def read_image(path: Path, *, as_stored: bool = False) -> NDArray[np.uint8]:
    """Return an image as it is shown, RGB, [H, W, 3].

    Raises:
        UserError: it cannot be read, has more than 8 bits, or does not have 1, 3 or 4 channels.
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
    """Return an image [H, W, 3], its label [H, W] of the same size, and the values that the class table does not know.

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
    """Return height and width of an image resized to fit into what networks see, keeping its ratio."""
    if seen is None:
        return size
    share = min(seen[0] / size[0], seen[1] / size[1])
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def fit_image(pixels: NDArray[np.uint8], seen: Size) -> NDArray[np.uint8]:
    """Return pixels [H, W, 3] resized to fit: bilinear, and antialiased when they shrink, as Pillow does it.

    Every command resizes the images of its networks here.
    """
    height, width = fitted((pixels.shape[0], pixels.shape[1]), seen)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def fit_label(label: NDArray[np.uint8], seen: Size) -> NDArray[np.uint8]:
    """Return classes [H, W] resized to fit, from the nearest pixel."""
    height, width = fitted((label.shape[0], label.shape[1]), seen)
    return np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))


def read_known(image: Path, label: Path, encoding: Encoding, entry: str = "") -> tuple[NDArray[np.uint8], ...]:
    """Return an image and its label as read_sample does. An unknown value is an error unless the table allows it."""
    pixels, classes, bad = read_sample(image, label, encoding, entry)
    if bad and encoding.unknown == "error":
        raise UserError(unknown_values(label, encoding, bad))
    return pixels, classes


def read_label(
    path: Path, encoding: Encoding, entry: str = "", size: Size | None = None
) -> tuple[NDArray[np.uint8], list[int | str]]:
    """Return classes [H, W], 255 where ignored, and the values that the class table does not know.

    entry: the image's name in a file that holds the shapes of many. size: of the image, for shapes whose file does not
    give it.

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
    """Return the message about values that belong to no class."""
    more = f" and {len(bad) - 1} more unknown values" if len(bad) > 1 else ""
    return (
        f"{path} holds {encoding.show(bad[0])}{more}: classes are {encoding.classes_in_words}; add it to a class or to "
        "`ignore` in the class table, or set `unknown: ignore` for the data"
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
            f"{path} holds {found}, not one number a pixel: if all labels do, say so in the class table (`hold: "
            "colours`, with each class' `rgb`; or `hold: alpha`)"
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
            return UserError(
                f"cannot read {kind} {path}: it is empty (0 bytes); restore it, or take it out of the data"
            )
    if isinstance(error, Image.DecompressionBombError):
        return UserError(
            f"cannot read {kind} {path}: it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million "
            "pixels; cut it into tiles, and its label too"
        )
    if (channels := _tiff_channels(path)) not in (0, 1, 3, 4):
        return UserError(
            f"cannot read {kind} {path}: a TIFF of {channels} channels; networks see three, so save those as RGB"
        )
    return UserError(f"cannot read {kind} {path}: {error}; restore it, or take it out of the data")


def _tiff_channels(path: Path) -> int:
    """Return the number of channels in the header of a TIFF, 0 if the file is none."""
    with suppress(Exception), path.open("rb") as file:
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        return int(directory.get(_CHANNELS, 1))
    return 0
