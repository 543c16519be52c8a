"""A confusion matrix as a picture: for each true class, the share of its pixels predicted as each class."""

from collections.abc import Sequence
from html import escape

_CELL, _TOP, _LEFT = 40, 150, 130  # pixels
_DARK = 0.55  # text on shares above this is white


def confusion_svg(title: str, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return an SVG of a matrix of pixels: percent of each row (true class), leaving those below 0.5 blank.

    The last column, pixels without a prediction, is drawn if there are any.
    """
    unpredicted = any(row[-1] for row in counts)
    columns = [*classes, *(["no prediction"] if unpredicted else [])]
    width, height = _LEFT + _CELL * len(columns) + 20, _TOP + _CELL * len(classes) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="22" font-size="14">{escape(title)}</text>',
        '<text x="12" y="42">rows: true class; columns: predicted; percent of the row</text>',
    ]
    for number, name in enumerate(columns):
        x = _LEFT + _CELL * number + _CELL // 2
        parts.append(f'<text transform="translate({x + 4} {_TOP - 6}) rotate(-60)">{escape(name)}</text>')
    for number, (name, row) in enumerate(zip(classes, counts, strict=True)):
        y = _TOP + _CELL * number
        parts.append(f'<text x="{_LEFT - 6}" y="{y + _CELL // 2 + 4}" text-anchor="end">{escape(name)}</text>')
        total = sum(row)
        for column in range(len(columns)):
            parts += _cell(_LEFT + _CELL * column, y, row[column] / total if total else None, column == number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _cell(x: int, y: int, share: float | None, hit: bool) -> list[str]:
    """Return a cell: blue for hits, orange for misses, grey if the class does not occur."""
    if share is None:
        return [f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="#eee" stroke="white"/>']
    red, green, blue = ((31, 95, 168), (184, 72, 10))[not hit]
    colour = "".join(f"{round(255 + share * (part - 255)):02x}" for part in (red, green, blue))
    found = [f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="#{colour}" stroke="#ddd"/>']
    if 100 * share >= 0.5:
        ink = "white" if share > _DARK else "black"
        place = f'x="{x + _CELL // 2}" y="{y + _CELL // 2 + 4}"'
        found.append(f'<text {place} text-anchor="middle" fill="{ink}">{100 * share:.0f}</text>')
    return found
