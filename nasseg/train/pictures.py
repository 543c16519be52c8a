"""Pictures of a training: its curve as SVG, and predictions beside images and labels."""

from collections.abc import Sequence
from html import escape
from io import BytesIO
from math import floor, log10
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from nasseg.data.class_table import Colour
from nasseg.data.dataset import DataSet
from nasseg.data.split import Split
from nasseg.files import output_file
from nasseg.train.views.network_input import classes_of, place

Points = Sequence[tuple[int, float]]
Pixels = NDArray[np.uint8]
_WIDTH, _PANEL, _LEFT, _GAP = 640, 170, 64, 46  # of the curve's panels, in pixels
_BLUE, _ORANGE = "#1f5fa8", "#b8480a"  # distinct for colour-blind readers, and dark enough for text
_LONGEST_SIDE, _SHORTEST_WIDTH = 320, 200  # pixels of an image in the picture of predictions; small ones are enlarged
_UNKNOWN = (255, 255, 255)  # pixels without a label


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about `about` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** floor(log10(span / about))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * about >= span * 0.999)
    first = floor(low / step + 0.999)
    return [round(number * step, 12) for number in range(first, floor(high / step + 0.001) + 1)]


def curve_svg(title: str, losses: Points, miou: Points, steps: int) -> str:
    """Draw training loss and validation mIoU (percent) over steps, in two panels; each is [(step, value)]."""
    height = 40 + 2 * (_PANEL + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
        *_panel(40, "training loss", losses, steps, _BLUE),
        *_panel(40 + _PANEL + _GAP, "validation mIoU, %", miou, steps, _ORANGE),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(top: int, label: str, points: Points, steps: int, colour: str) -> list[str]:
    values = [value for _, value in points] or [0.0]
    low, high = min(0.0, *values), max(*values, 0.0) or 1.0
    right, bottom = _WIDTH - 16, top + _PANEL

    def x(step: float) -> float:
        return round(_LEFT + (right - _LEFT) * step / steps, 1)

    def y(value: float) -> float:
        return round(bottom - (_PANEL - 18) * (value - low) / (high - low), 1)

    found = [f'<text x="{_LEFT}" y="{top + 10}" fill="{colour}">{escape(label)}</text>']
    for value in ticks(low, high):
        found.append(f'<path d="M{_LEFT} {y(value)}H{right}" stroke="#ddd"/>')
        found.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{value:g}</text>')
    for step in ticks(0, steps):
        found.append(f'<path d="M{x(step)} {bottom}v4" stroke="#666"/>')
        found.append(f'<text x="{x(step)}" y="{bottom + 18}" text-anchor="middle">{step:,.0f}</text>')
    found.append(f'<path d="M{_LEFT} {bottom}H{right}" stroke="#666"/>')
    found.append(f'<text x="{right}" y="{bottom + 34}" text-anchor="end">steps</text>')
    places = [(x(step), y(value)) for step, value in points]
    line = " ".join(f"{a},{b}" for a, b in places)
    found.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    found += [f'<circle cx="{a}" cy="{b}" r="2.2" fill="{colour}"/>' for a, b in places]
    return found


@torch.inference_mode()
def predicted(model: nn.Module, split: Split, number: int, device: torch.device | str = "cpu") -> Pixels:
    """Return the predicted class of each pixel of a split's image, at its label's size, [H, W]."""
    model.eval()
    images, labels = split.batch(torch.tensor([number]), device)
    height, width = labels[0].shape
    found: Pixels = classes_of(model(place(images, split.size)), images[0].shape, (height, width)).cpu().numpy()
    return found


def predictions_picture(
    model: nn.Module, data: DataSet, split: str, count: int, device: torch.device | str = "cpu"
) -> Image.Image:
    """Draw `count` images spread over a split, one per row: the image, its labels (white: none), the prediction."""
    chosen = data.split(split)
    numbers = sorted({round(k * (len(chosen) - 1) / max(1, count - 1)) for k in range(count)})
    colours = _colours_of(data)
    rows: list[list[Pixels]] = []
    seen: set[int] = set()
    for number in numbers:
        image, labels = chosen.images[number], np.asarray(chosen.labels[number])
        found = predicted(model, chosen, number, device)
        seen |= {*np.unique(labels).tolist(), *np.unique(found).tolist()}
        rows.append([np.asarray(image), colours[labels], colours[found]])
    return _sheet(rows, [(data.classes[k], data.colours[k]) for k in range(data.num_classes) if k in seen])


def _sheet(rows: list[list[Pixels]], legend: list[tuple[str, Colour]]) -> Image.Image:
    """Arrange rows of three pictures below their headings, above the names of the classes."""
    height, width = rows[0][0].shape[:2]
    scale = min(_LONGEST_SIDE / max(height, width), max(1, round(_SHORTEST_WIDTH / width)))
    size, gap, line, font = (round(width * scale), round(height * scale)), 4, 20, ImageFont.load_default(12)
    across = 3 * size[0] + 2 * gap
    entry = 34 + round(max(font.getlength(name) for name, _ in legend))
    columns = max(1, across // entry)
    legend_top = line + len(rows) * (size[1] + gap)
    canvas = Image.new("RGB", (max(across, entry), legend_top + -(-len(legend) // columns) * line), "white")
    draw = ImageDraw.Draw(canvas)
    for column, name in enumerate(("image", "labels", "prediction")):
        draw.text((column * (size[0] + gap) + 4, line // 2), name, fill="black", font=font, anchor="lm")
    for row, pictures in enumerate(rows):
        for column, pixels in enumerate(pictures):
            method = Image.Resampling.NEAREST if column else Image.Resampling.BILINEAR
            place = (column * (size[0] + gap), line + row * (size[1] + gap))
            canvas.paste(Image.fromarray(pixels).resize(size, method), place)
    for number, (name, colour) in enumerate(legend):
        left, top = (number % columns) * entry, legend_top + (number // columns) * line
        draw.rectangle((left + 2, top + 4, left + 14, top + 16), fill=colour, outline="black")
        draw.text((left + 20, top + line // 2), name, fill="black", font=font, anchor="lm")
    return canvas


def example_pictures(data: DataSet, number: int, classes: Pixels) -> dict[str, bytes]:
    """Return a validation image, its labels and a prediction [H, W] as small WebP files by name.

    The image loses some detail. The others keep their colours, which stand for classes.
    """
    image, labels, colours = np.asarray(data.val.images[number]), np.asarray(data.val.labels[number]), _colours_of(data)
    scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    found = {}
    for name, pixels in (("image", image), ("labels", colours[labels]), ("prediction", colours[classes])):
        exact, content = name != "image", BytesIO()
        shown = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if exact else Image.Resampling.BILINEAR)
        shown.save(content, "WEBP", lossless=exact, quality=75)
        found[name] = content.getvalue()
    return found


def _colours_of(data: DataSet) -> Pixels:
    """Return the colour of each value of a label, [256, 3]."""
    colours = np.full((256, 3), _UNKNOWN, np.uint8)
    colours[: data.num_classes] = data.colours
    return colours


def write_picture(picture: str | Image.Image, path: Path) -> Path:
    """Write an SVG's text, or an image as PNG, complete or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with output_file(path) as partial:
        if isinstance(picture, str):
            partial.write_text(picture)
        else:
            picture.save(partial, "PNG")
    return path
