"""Looking at a folder that nobody described: which pictures are images, which their labels, and what these hold."""

import re
from collections import Counter
from collections.abc import Sequence
from colorsys import hsv_to_rgb
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasseg.data.class_table import IGNORE, MAX_CLASSES, Colour, Holds
from nasseg.data.image_file import PICTURES, UNREADABLE
from nasseg.errors import UserError

WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}  # fmt: skip
_SPLIT_WORD = re.compile("|".join(sorted(WORDS, key=len, reverse=True)), re.IGNORECASE)
_LOOKED_AT, _VALUES_OF = 3, 400  # files of a folder, to tell images from labels; labels, to know the values
_FEW = 64  # values or colours of a label map, at most


@dataclass(frozen=True)
class Pair:
    """Templates of images and labels below the root, the folders' words for splits, and the labels found."""

    images: str
    labels: str
    word: str
    keys: tuple[str, ...]
    files: tuple[tuple[Path, Path], ...]


# --- what lies there ----------------------------------------------------------------------------------------------


def find_pairs(root: Path) -> tuple[list[Pair], list[str]]:
    """Images with their labels, all of one pattern."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root)
        if path.suffix.lower() in PICTURES and not any(part.startswith(".") for part in below.parts):
            groups.setdefault((below.parent.as_posix(), path.suffix.lower()), []).append(path)
    labels = {key for key, files in groups.items() if _are_labels(files)}
    pairs: list[Pair] = []
    for (folder, _), images in groups.items():
        if (folder, images[0].suffix.lower()) in labels:
            continue
        matches = [_match(root, images, groups[key]) for key in sorted(labels)]
        best = max((pair for pair in matches if pair), key=_likeness, default=None)
        if best:
            pairs.append(best)
    if not pairs:
        kinds = f"{len(groups) - len(labels)} folders of images and {len(labels)} of label maps"
        raise UserError(
            f"{root} holds {kinds}, and no two have files of the same names: labels are pictures of one value or "
            "colour a class; for another form write a class table by hand (nasseg/data/class_table.py says how)"
        )
    merged = _with_groups(pairs)
    forms = Counter((pair.images, pair.labels) for pair in merged)
    form, _ = forms.most_common(1)[0]
    found = [f"images {form[0]}, labels {form[1]}"]
    if len(forms) > 1:
        others = ", ".join(images for images, _ in forms if images != form[0])
        found.append(f"left out, being of another pattern: {others}")
    return [pair for pair in merged if (pair.images, pair.labels) == form], found


def _are_labels(files: Sequence[Path]) -> bool:
    return all(_is_label(file) for file in files[:: max(1, len(files) // _LOOKED_AT)][:_LOOKED_AT])


def _is_label(path: Path) -> bool:
    if path.suffix.lower() in (".jpg", ".jpeg", ".webp"):
        return False
    try:
        with Image.open(path) as image:
            if image.mode in ("P", "1"):
                return True
            if image.mode == "L" or image.mode[0] == "I":
                return len(np.unique(np.asarray(image))) <= _FEW
            return image.convert("RGB").getcolors(_FEW) is not None
    except UNREADABLE:
        return False


def _match(root: Path, images: Sequence[Path], labels: Sequence[Path]) -> Pair | None:
    """The two groups as one pattern, if at least half of the images have a label."""
    tails = [_common_tail([path.stem for path in files]) for files in (images, labels)]
    for image_tail, label_tail in ((tails[0], tails[1]), ("", ""), ("", tails[1]), (tails[0], "")):
        of_images = {path.stem.removesuffix(image_tail): path for path in images}
        of_labels = {path.stem.removesuffix(label_tail): path for path in labels}
        keys = sorted(of_images.keys() & of_labels.keys())
        if 2 * len(keys) >= len(images):
            break
    else:
        return None
    image_folder, word = _with_split(images[0].parent.relative_to(root).as_posix())
    label_folder, label_word = _with_split(labels[0].parent.relative_to(root).as_posix())
    if label_word not in ("", word):
        return None
    label_suffix = "" if label_tail == "" and labels[0].parent != images[0].parent else labels[0].suffix
    image_suffix = images[0].suffix if labels[0].parent == images[0].parent else ""
    return Pair(
        _joined(image_folder, f"{{name}}{image_tail}{image_suffix}"),
        _joined(label_folder, f"{{name}}{label_tail}{label_suffix}"),
        word,
        tuple(keys),
        tuple((of_images[key], of_labels[key]) for key in keys),
    )


def _common_tail(stems: Sequence[str]) -> str:
    """`_leftImg8bit` of `a_leftImg8bit` and `b_leftImg8bit`: what all names end with, from a separator on."""
    first, common = min(stems), 0
    while common < len(first) and all(stem.endswith(first[-common - 1 :]) for stem in stems):
        common += 1
    found = re.search(r"[_\-.][A-Za-z].*$", first[len(first) - common :])
    return found.group() if found and len(stems) > 1 else ""


def _with_split(folder: str) -> tuple[str, str]:
    """`images/{split}` and `train` of `images/train`; the last folder with such a word counts."""
    parts = folder.split("/")
    for place in reversed(range(len(parts))):
        found = _SPLIT_WORD.match(parts[place]) or re.search(rf"[_\-]({_SPLIT_WORD.pattern})$", parts[place], re.I)
        if found:
            word = found.group().lstrip("_-")
            parts[place] = parts[place].replace(word, "{split}", 1)
            return "/".join(parts), word
    return folder, ""


def _joined(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _likeness(pair: Pair) -> tuple[int, int]:
    """Of several folders of labels, that with the most samples, then the most like its images' folder."""
    ours, theirs = pair.images.split("/"), pair.labels.split("/")
    return len(pair.keys), len(set(ours) & set(theirs)) - abs(len(ours) - len(theirs))


def _with_groups(pairs: Sequence[Pair]) -> list[Pair]:
    """Folders that vary alike in both patterns, as sequences and cities do, become `{group}`."""
    found = []
    for pair in pairs:
        ours, theirs = pair.images.split("/"), pair.labels.split("/")
        same = [
            place for place, part in enumerate(ours[:-1])
            if part in theirs[:-1] and "{" not in part and len({p.images.split("/")[place] for p in pairs
                if len(p.images.split("/")) == len(ours)}) > 1
        ]  # fmt: skip
        if len(same) == 1:
            group = ours[same[0]]
            images = "/".join("{group}" if place == same[0] else part for place, part in enumerate(ours))
            labels = "/".join("{group}" if part == group else part for part in theirs)
            keys = tuple(f"{group}/{key}" for key in pair.keys)
            pair = Pair(images, labels, pair.word, keys, pair.files)
        found.append(pair)
    return found


# --- what its values are ------------------------------------------------------------------------------------------


def find_values(labels: Sequence[Path]) -> tuple[Holds, dict[int, int]]:
    """What label files hold, and of each value how many files have it; of many files some, evenly."""
    chosen = labels[:: max(1, len(labels) // _VALUES_OF)]

    def values(path: Path) -> tuple[bool, list[int]]:
        try:
            with Image.open(path) as image:
                if image.mode in ("RGB", "RGBA"):
                    rgb = np.asarray(image.convert("RGB"), np.int32)
                    return True, np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]).tolist()
                return False, np.unique(np.asarray(image).astype(np.int64)).tolist()
        except UNREADABLE as error:
            raise UserError(f"cannot read label {path}: {error}; get it again, or take it out of the data") from None

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(values, chosen))
    if len({colours for colours, _ in found}) > 1:
        raise UserError(f"labels like {labels[0]} hold numbers in some files, colours in others: convert them")
    counted = Counter(value for _, each in found for value in each)
    if len(counted) > MAX_CLASSES + 1:
        raise UserError(f"labels like {labels[0]} hold {len(counted)} values: at most {MAX_CLASSES} can be classes")
    return ("colours" if found[0][0] else "ids"), dict(sorted(counted.items()))


def class_rows(values: dict[int, int], hold: Holds, found: list[str]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Rows of the class table, and the values to ignore."""
    codes, ignored = list(values), []
    if hold == "colours" and 0 in codes and len(codes) > 2:
        ignored = [[0, 0, 0]]
        codes.remove(0)
        found.append("black is taken to be no class (`ignore`)")
    if hold == "ids" and IGNORE in codes and codes != [0, IGNORE]:
        codes.remove(IGNORE)
        found.append("255 is taken to be no class")
    rows: list[dict[str, Any]] = []
    for number, code in enumerate(codes):
        if hold == "ids":
            rows.append({"name": f"class {code}", "colour": list(_colour(number)), "ids": [code]})
        else:
            rows.append({"name": f"class {number}", "colour": [code >> 16, code >> 8 & 255, code & 255]})
    found.append(f"{len(rows)} classes; name them in the class table")
    return rows, ignored


def _colour(number: int) -> Colour:
    """Hues a golden section apart, of changing strength."""
    strength, light = (0.55, 0.85, 0.7)[number % 3], (0.95, 0.7, 0.5)[number // 3 % 3]
    red, green, blue = (round(255 * part) for part in hsv_to_rgb(number * 0.618034 % 1, strength, light))
    return red, green, blue
