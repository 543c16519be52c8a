"""Draw the contact sheet of a data set, images of each split beside their labels, to check the classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nasseg.data.check.check_data import find_on_disk, spread
from nasseg.data.class_table import IGNORE, Colour
from nasseg.data.folder import Sample
from nasseg.data.image_file import read_sample
from nasseg.errors import UserError
from nasseg.files import output_file

Pixels = NDArray[np.uint8]
_CELL = (220, 160)  # largest width and height of one picture
_GAP, _LINE, _MARGIN = 6, 20, 10


def contact_sheet(name: str | Path, *, count: int = 6, **options: Any) -> Image.Image:
    """Return a sheet of `count` images of each split, each beside a copy in its classes' colours.

    Ignored pixels are dark and colourless. An unreadable file is named in its place.

    Raises:
        UserError: the data do not exist, or their layout is unknown.
    """
    folder, label, _ = find_on_disk(name, options)
    table, seen = folder.table, set[int]()
    rows: list[tuple[str, list[Image.Image]]] = []
    for split, parts in folder.splits.items():
        samples = folder.matched(split).samples
        cells = [_cell(sample, table.colours) for sample in spread(samples, count)]
        for _, classes in cells:
            seen |= classes
        rows.append(
            (f"{split}: {len(samples):,} images, {'; '.join(map(str, parts))}", [picture for picture, _ in cells])
        )
    legend = [(table.names[number], table.colours[number]) for number in sorted(seen)]
    return _sheet(f"{label}: {folder.root}", rows, legend)


def write_sheet(sheet: Image.Image, path: Path) -> Path:
    """Write a sheet as PNG, complete or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with output_file(path, "; name another file") as partial:
        sheet.save(partial, "PNG")
    return path


def _cell(sample: Sample, colours: Sequence[Colour]) -> tuple[Image.Image, set[int]]:
    """Return image and overlay side by side, above the sample's key, and the classes in it."""
    font = ImageFont.load_default(11)
    try:
        pixels, label, _ = read_sample(sample.image, sample.label, sample.encoding, sample.entry)
    except UserError:
        cell = Image.new("RGB", (2 * _CELL[0], _CELL[1] + _LINE), "#eee")
        draw = ImageDraw.Draw(cell)
        draw.text((6, _CELL[1] // 2), "cannot be read", fill="#a00", font=font)
        draw.text((2, _CELL[1] + 3), _shortened(sample.key, 2 * _CELL[0], font), fill="black", font=font)
        return cell, set()
    image = Image.fromarray(pixels)
    share = min(_CELL[0] / image.width, _CELL[1] / image.height)
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    small = image.resize(size, Image.Resampling.BILINEAR)
    classes = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    cell = Image.new("RGB", (2 * size[0], size[1] + _LINE), "white")
    cell.paste(small, (0, 0))
    cell.paste(Image.fromarray(overlay(np.asarray(small), classes, colours)), (size[0], 0))
    text = _shortened(sample.key, 2 * size[0], font)
    ImageDraw.Draw(cell).text((2, size[1] + 3), text, fill="black", font=font)
    return cell, set(np.unique(label).tolist()) - {IGNORE}


def overlay(image: Pixels, classes: Pixels, colours: Sequence[Colour]) -> Pixels:
    """Return an image [H, W, 3] tinted in the colours of its classes [H, W], dark grey where ignored."""
    palette = np.zeros((256, 3), np.float32)
    palette[: len(colours)] = colours
    grey = image.mean(2, keepdims=True)
    mixed = np.where((classes == IGNORE)[..., None], 0.35 * grey, 0.35 * grey + 0.65 * palette[classes])
    return mixed.round().astype(np.uint8)


def _sheet(
    title: str, rows: Sequence[tuple[str, list[Image.Image]]], legend: Sequence[tuple[str, Colour]]
) -> Image.Image:
    font, small = ImageFont.load_default(13), ImageFont.load_default(12)
    entry = 34 + round(max((small.getlength(name) for name, _ in legend), default=0))
    width = max([3 * (2 * _CELL[0] + _GAP), entry, *(picture.width for _, each in rows for picture in each)])
    places: list[tuple[int, int, Image.Image]] = []
    heads: list[tuple[int, str]] = []
    top = _MARGIN + _LINE
    for head, pictures in rows:
        heads.append((top, head))
        left, top, tallest = 0, top + _LINE, 0
        for picture in pictures:
            if left and left + picture.width > width:
                left, top, tallest = 0, top + tallest + _GAP, 0
            places.append((left, top, picture))
            left, tallest = left + picture.width + _GAP, max(tallest, picture.height)
        top += tallest + _GAP
    columns = max(1, width // entry)
    canvas = Image.new("RGB", (width + 2 * _MARGIN, top + -(-len(legend) // columns) * _LINE + _MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), _shortened(title, width, font), fill="black", font=font)
    for y, head in heads:
        draw.text((_MARGIN, y), _shortened(head, width, font), fill="black", font=font)
    for x, y, picture in places:
        canvas.paste(picture, (x + _MARGIN, y))
    for number, (name, colour) in enumerate(legend):
        x, y = _MARGIN + (number % columns) * entry, top + (number // columns) * _LINE
        draw.rectangle((x + 2, y + 4, x + 14, y + 16), fill=colour, outline="black")
        draw.text((x + 20, y + 3), name, fill="black", font=small)
    return canvas


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a text to the width, keeping its end: paths of samples differ there."""
    if font.getlength(text) <= width - 4:
        return text
    while text and font.getlength(f"...{text}") > width - 4:
        text = text[1:]
    return f"...{text}"
