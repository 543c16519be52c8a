"""Judge by value what label pictures hold: classes, edges, or no class."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from colorsys import hsv_to_rgb
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nasseg.data.class_table import MAX_CLASSES, Colour, Holds, Unknown
from nasseg.data.image_file import read_stored
from nasseg.errors import UserError

_VALUES_OF = 400  # labels to look at
# An edge value has hardly any areas: fewer than this share of its pixels equal those to the right and below.
_SOLID, _EDGES, _NEAR = 0.35, 0.2, 12  # edges have at most this share of the pixels; lossy values this close are one
_MOST_SOLID = 64  # classes of a mask with grey or coloured edges
_VOID = (255, 65535)
_SHOWN = 8  # classes reported with their shares
VOID_NAME = re.compile(r"void|unlabell?ed|ignored?|unknown|don'?t.?care|not.?labell?ed|out.of.roi", re.IGNORECASE)


@dataclass
class Values:
    """Pixels of each value, how many of them lie in areas, and the files looked at with the values of each.

    palette: the colours of numbers, where all files have the same.
    """

    hold: Holds
    palette: dict[int, int] = field(default_factory=dict)
    pixels: Counter[int] = field(default_factory=Counter)
    solid: Counter[int] = field(default_factory=Counter)
    files: dict[Path, tuple[int, ...]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def share(self, values: Iterable[int]) -> float:
        return sum(self.pixels[value] for value in values) / max(1, self.pixels.total())

    def show(self, value: int) -> str:
        """Return a value and its share of the pixels."""
        text = f"#{value:06x}" if self.hold == "colours" else str(value)
        return f"{text} ({self.share([value]):.2%})"


@dataclass(frozen=True)
class Judgement:
    """Stored values that are classes, those to ignore, and what to do with others. lines: the reasons, in words."""

    codes: tuple[int, ...]
    ignored: tuple[int, ...] = ()
    unknown: Unknown = "error"
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Opened:
    """A label file: what it holds, and the colours of its numbers if it has a palette; or why it cannot be read."""

    path: Path
    kind: str = ""
    stored: Any = None
    palette: dict[int, int] | None = None
    fault: str = ""


def find_values(labels: Sequence[Path]) -> Values:
    """Return the values that label files hold. Of many files, an even sample is opened.

    Raises:
        UserError: none can be read.
    """
    with ThreadPoolExecutor() as pool:
        every = list(pool.map(_open, labels[:: max(1, len(labels) // _VALUES_OF)]))
    opened = [each for each in every if not each.fault]
    if not opened:
        raise UserError(every[0].fault)
    palette: dict[int, int] = {}
    own = False  # files with different palettes: their numbers mean nothing
    for each in opened:
        for value, colour in (each.palette or {}).items():
            own = own or palette.setdefault(value, colour) != colour
    kinds = {each.kind for each in opened}
    hold: Holds = "ids"
    if kinds == {"alpha"}:
        hold = "alpha"
    elif "colours" in kinds or own:
        hold, palette = "colours", {}
    found = Values(hold, palette, unreadable=[each.fault for each in every if each.fault])
    for each in opened:
        stored = each.stored
        if hold == "colours" and each.palette is not None:
            stored = np.vectorize(each.palette.get, otypes=[np.int64])(stored)
        elif hold == "colours" and each.kind != "colours":
            stored = stored.astype(np.int64) * 0x010101  # grey
        _count(found, each.path, stored)
    return found


def _open(path: Path) -> _Opened:
    try:
        kind, stored = read_stored(path)
        return _Opened(path, kind, stored, _palette(path, stored) if kind == "ids" else None)
    except UserError as error:
        return _Opened(path, fault=str(error))


def _palette(path: Path, stored: NDArray[Any]) -> dict[int, int] | None:
    """Return the colours of the numbers in use, None without a palette."""
    with Image.open(path) as image:
        if image.mode != "P":
            return None
        colours = np.array(image.getpalette("RGB"), np.int64).reshape(-1, 3)
    codes = colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]
    return {int(value): int(codes[value]) for value in np.unique(stored) if value < len(codes)}


def _count(found: Values, path: Path, stored: NDArray[Any]) -> None:
    values, counts = np.unique(stored, return_counts=True)
    flat = np.zeros(stored.shape, bool)
    flat[:-1, :-1] = (stored[:-1, :-1] == stored[1:, :-1]) & (stored[:-1, :-1] == stored[:-1, 1:])
    solid, areas = np.unique(stored[flat], return_counts=True)
    found.pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    found.solid.update(dict(zip(solid.tolist(), areas.tolist(), strict=True)))
    found.files[path] = tuple(values.tolist())


def judge(values: Values) -> Judgement:
    """Return which values are classes, with each decision in words and its share of the pixels.

    Raises:
        UserError: there are more than a label map can hold.
    """
    codes = sorted(values.pixels)
    if (solid := _solid(values)) is not None:
        edges = sorted(set(codes) - solid)
        text = (
            f"{len(edges)} values lie on edges ({values.share(edges):.2%} of the pixels): each becomes the nearest "
            f"class (`unknown: nearest`), such as {', '.join(values.show(value) for value in edges[:3])}"
        )
        return Judgement(tuple(sorted(solid)), unknown="nearest", lines=(text,))
    ignored = [] if values.hold == "colours" else [value for value in codes if _is_void(value, codes)]
    kept = [value for value in codes if value not in ignored]
    if len(kept) > MAX_CLASSES:
        raise UserError(
            f"labels like {next(iter(values.files))} hold {len(kept):,} values: at most {MAX_CLASSES} can be "
            "classes; are these photographs, depths or instances? Give the folder of the class labels, or write "
            "a class table"
        )
    lines = [f"{values.show(value)} is no class (`ignore`): the others count from {kept[0]} on" for value in ignored]
    return Judgement(tuple(kept), tuple(ignored), lines=tuple(lines))


def _is_void(value: int, codes: Sequence[int]) -> bool:
    """Return whether a value marks no class: 255 beside ids that count from 0 or 1, or a negative value."""
    others = [code for code in codes if code not in _VOID and code >= 0]
    counting = len(others) > 1 and 2 * len(others) > max(others)
    return value < 0 or (value in _VOID and counting)


def _solid(values: Values) -> set[int] | None:
    """Return the values that are classes if the others are edges between them, else None."""
    codes = sorted(values.pixels)
    solid = {code for code in codes if values.solid[code] >= _SOLID * values.pixels[code]}
    distance = _colour_distance if values.hold == "colours" else _grey_distance
    if values.hold != "colours":
        if codes[-1] - codes[0] <= _NEAR:
            return None
        solid |= {codes[0], codes[-1]}
    kept: list[int] = []
    for code in sorted(solid, key=lambda code: -values.pixels[code]):
        if all(distance(code, other) > _NEAR for other in kept):
            kept.append(code)
    edges = set(codes) - set(kept)
    if len(kept) < 2 or len(kept) > _MOST_SOLID or len(edges) <= len(kept) or values.share(edges) > _EDGES:
        return None
    return set(kept)


def _grey_distance(one: int, other: int) -> int:
    return abs(one - other)


def _colour_distance(one: int, other: int) -> int:
    return max(abs((one >> shift & 255) - (other >> shift & 255)) for shift in (16, 8, 0))


def class_rows(
    values: Values, judged: Judgement, names: Mapping[int, str]
) -> tuple[list[dict[str, Any]], list[Any], list[str]]:
    """Return the rows of the class table, the values to ignore, and the decisions in words.

    names: of values, from a list beside the data. Values named void are ignored.
    """
    void = [code for code in judged.codes if VOID_NAME.fullmatch(names.get(code, ""))]
    codes = [code for code in judged.codes if code not in void]
    rows = [_row(values, number, code, names, len(codes)) for number, code in enumerate(codes)]
    lines = [*judged.lines, *(f"{values.show(code)} is {names[code]!r}, no class (`ignore`)" for code in void)]
    shown = ", ".join(f"{row['name']} = {values.show(code)}" for row, code in zip(rows[:_SHOWN], codes, strict=False))
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    lines.append(f"{len(rows)} classes: {shown}{more}")
    if values.hold == "colours" and 0 in codes and not names:
        lines.append(
            f"black is a class ({values.share([0]):.0%} of the pixels): if it should not be one, move it to `ignore`"
        )
    if not names:
        lines.append("nothing names the classes: name them in the class table")
    ignored = [*judged.ignored, *void]
    return rows, [_rgb(code) if values.hold == "colours" else code for code in ignored], lines


def _row(values: Values, number: int, code: int, names: Mapping[int, str], count: int) -> dict[str, Any]:
    name = names.get(code)
    if values.hold == "colours":
        dark = "background" if code == 0 else f"class {number}"
        return {"name": name or dark, "colour": _rgb(code)}
    if name is None and count == 2 and not names:
        name = ("background", "foreground")[number]
    colour = _rgb(values.palette[code]) if values.palette.get(code) else list(hue(number))
    return {"name": name or f"class {code}", "colour": colour, "ids": [code]}


def _rgb(code: int) -> list[int]:
    return [code >> 16, code >> 8 & 255, code & 255]


def hue(number: int) -> Colour:
    """Return a colour: hues a golden section apart, with varying strength."""
    strength, light = (0.55, 0.85, 0.7)[number % 3], (0.95, 0.7, 0.5)[number // 3 % 3]
    red, green, blue = (round(255 * part) for part in hsv_to_rgb(number * 0.618034 % 1, strength, light))
    return red, green, blue
