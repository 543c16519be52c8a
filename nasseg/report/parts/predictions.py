"""Predictions for two validation images, beside the images and their labels, as pictures inside the page."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from nasseg.records import Example
from nasseg.report.html.markup import Html, tag, text

PARTS = ("image", "labels", "prediction")


def data(examples: Mapping[int, Sequence[Example]]) -> dict[str, Any]:
    """Return the script's data, by row. Files that networks share, such as images, are included once.

    rows: row -> [classes with their colours, [[number of the image, index of each part in `files`], ...]].
    """
    files: dict[bytes, int] = {}
    rows = {}
    for row, known in examples.items():
        shown = [[e.number, *(files.setdefault(getattr(e, part), len(files)) for part in PARTS)] for e in known]
        rows[row] = [known[0].classes if known else (), shown]
    return {"files": list(map(_address, files)), "rows": rows}


NOT_KEPT = "No predictions of this network are kept: a search keeps only those of its front."


def pictures(examples: Mapping[int, Sequence[Example]], number: int) -> Html | None:
    """Return a row of pictures for each example of a trial, and the meaning of colours.

    Returns nothing for a study without examples, and a note if only other trials have some.
    """
    if number not in examples:
        return tag("p", NOT_KEPT, class_="note") if examples else None
    known = examples[number]
    shown: list[Html] = [tag("span", part) for part in PARTS]
    for example in known:
        for part in PARTS:
            what = f"{part} of validation image {example.number}"
            shown.append(tag("img", src=_address(getattr(example, part)), alt=what, title=what))
    key = [tag("span", tag("i", style=f"background: {colour}"), name) for name, colour in known[0].classes]
    return text(tag("div", *shown, class_="predictions"), tag("p", *key, class_="classes"))


def _address(content: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(content).decode()}"
