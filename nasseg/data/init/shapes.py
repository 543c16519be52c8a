"""Find shapes written by labelling tools, and plan a class table for them."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasseg.data.class_table import IGNORE, IN_ONE_FILE, Holds, Part
from nasseg.data.formats import coco, cvat
from nasseg.data.formats.draw import Drawing, draw
from nasseg.data.formats.read import read_drawings
from nasseg.data.image_file import size_of
from nasseg.data.init.beside import class_lists
from nasseg.data.init.find_pairs import WORDS, find_pairs
from nasseg.data.init.label_values import hue
from nasseg.data.init.plan import Plan
from nasseg.data.init.splits import hold_out_of_train, plan_splits
from nasseg.data.list_files import list_files, list_pictures, read_lines, read_text
from nasseg.data.templates import key_of, tails
from nasseg.errors import UserError

_SNIFFED, _READ, _DRAWN = 3, 2_000, 60  # files of a folder; files for their titles; drawings for the background
_BACKGROUND = 0.02  # this share of uncovered pixels makes a class


def find_shapes(root: Path) -> dict[Holds, list[Path]]:
    """Return the files with shapes, by format, judging by the first few of each folder."""
    folders: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in list_files(root):
        if path.suffix.lower() in (".json", ".xml", ".txt"):
            folders[path.parent, path.suffix.lower()].append(path)
    found: dict[Holds, list[Path]] = defaultdict(list)
    for files in folders.values():
        kinds = [kind for path in files[:_SNIFFED] if (kind := _kind_of(path))]
        one_file = next((kind for kind in kinds if kind in IN_ONE_FILE), None)
        if one_file is not None:
            found[one_file] += [path for path in files if _kind_of(path) == one_file]
        elif kinds:
            found[kinds[0]] += files
    return dict(found)


def _kind_of(path: Path) -> Holds | None:
    """Return the format of a file by its content, None for another."""
    try:
        if path.suffix.lower() == ".txt":
            lines = [line for line in read_lines(path) if line]
            return "yolo" if lines and all(re.fullmatch(r"\d+(\s+-?[\d.eE+-]+){4,}", line) for line in lines) else None
        text = read_text(path)
        if path.suffix.lower() == ".xml":
            return "cvat" if re.search(r"<annotations>", text[:2_000]) and "<image " in text else None
        content = json.loads(text)
    except (UserError, ValueError):
        return None
    keys = set(content) if isinstance(content, dict) else set()
    wanted: dict[Holds, set[str]] = {
        "coco": {"images", "annotations", "categories"},
        "labelme": {"shapes", "imageHeight", "imageWidth"},
        "supervisely": {"objects", "size"},
    }
    return next((kind for kind, needed in wanted.items() if needed <= keys), None)


def plan_shapes(root: Path, name: str) -> Plan | None:
    """Return the plan for data with shapes; None if no shapes fit images.

    Raises:
        UserError: the shapes have no images, or there is only one image.
    """
    found = find_shapes(root)
    for hold in sorted(found, key=lambda hold: -len(found[hold])):
        if hold in IN_ONE_FILE:
            return _in_one_file(root, name, hold, found[hold])
        try:
            pairs, lines = find_pairs(root, found[hold])
        except UserError:
            continue
        files = [pair for each in pairs for pair in each.files]
        some = files[:: max(1, len(files) // _READ)]
        drawings = {label: (image, read) for image, label in some if (read := _drawing(hold, label))}
        plan = _plan(root, hold, list(drawings.values()), pairs[0].images, [pairs[0].labels])
        plan.lines = [*lines, *plan.lines]
        plan.labelled_only = any(pair.unlabelled for pair in pairs)
        classes = {path: {shape.title for shape in read.shapes} for path, (_, read) in drawings.items()}
        plan_splits(plan, name, root, pairs, classes)
        return plan
    return None


def _drawing(hold: Holds, path: Path) -> Drawing | None:
    try:
        return read_drawings(hold, path)[""]
    except UserError:
        return None


def _plan(
    root: Path, hold: Holds, drawings: Sequence[tuple[Path, Drawing]], images: str, labels: Sequence[str]
) -> Plan:
    """Plan the classes of images with their drawings. labels: templates, or the files for all images."""
    counts = Counter(shape.title for _, drawing in drawings for shape in drawing.shapes)
    named = _names(root, hold, [root / path for path in labels] if hold in IN_ONE_FILE else [])
    titles = [title for title in named if title in counts] + sorted(set(counts) - set(named), key=_in_order)
    shapes = ", ".join(f"{named.get(title, title)} ({counts[title]:,})" for title in titles[:8])
    lines = [f"{counts.total():,} shapes ({hold}) of {len(titles)} classes: {shapes}{' ...' * (len(titles) > 8)}"]
    if unused := [label for title, label in named.items() if title not in counts]:
        lines.append(f"no shape has the title {', '.join(unused[:8])}: left out of the classes")
    bare = _uncovered(drawings[:: max(1, len(drawings) // _DRAWN)])
    background = next((named.get(title, title) for title in titles if title.lower() == "background"), None)
    rows: list[dict[str, Any]] = []
    if background is None and bare > _BACKGROUND:
        background = "background"
        rows.append({"name": background, "colour": [0, 0, 0]})
    if bare:
        fate = f"they are the class {background}" if background else "they are ignored"
        lines.append(f"no shape covers {bare:.1%} of the pixels: {fate}")
    for title in titles:
        rows.append({"name": named.get(title, title), "colour": list(hue(len(rows))), "titles": [title]})
    return Plan(images, labels[0], hold, rows, [], background=background, lines=lines)


def _in_order(title: str) -> tuple[int, str]:
    return (int(title), "") if title.isdigit() else (1 << 30, title)


def _names(root: Path, hold: Holds, files: Sequence[Path]) -> dict[str, str]:
    """Return names by title, in the order of the classes, if there are any.

    YOLO's titles are numbers, which a list beside the data names; COCO and CVAT list theirs in each file.
    """
    if hold == "yolo":
        return next((names for each in class_lists(root) if (names := each.titles())), {})
    titles = {"coco": coco.titles, "cvat": cvat.titles}.get(hold)
    return {title: title for path in files for title in titles(path)} if titles else {}


def _uncovered(drawings: Sequence[tuple[Path, Drawing]]) -> float:
    """Return the share of the pixels that no shape covers."""
    bare = every = 0
    for image, drawing in drawings:
        try:
            size = drawing.size or size_of(image)
        except UserError:
            continue
        label, _ = draw(drawing, size, {shape.title: 0 for shape in drawing.shapes}, IGNORE)
        bare, every = bare + int((label == IGNORE).sum()), every + label.size
    return bare / max(1, every)


# --- the shapes of many images in one file ------------------------------------------------------------------------


def _in_one_file(root: Path, name: str, hold: Holds, files: Sequence[Path]) -> Plan:
    pictures = list(list_pictures(root))
    by_tail: dict[str, Path] = {}
    for path in pictures:
        for tail in tails(path.relative_to(root).as_posix()):
            by_tail.setdefault(tail, path)
    parts: dict[str, tuple[Path, dict[str, Path]]] = {}
    left: list[str] = []
    for path in sorted(files, key=lambda path: ("instance" not in path.name, str(path))):
        near = {file.name: file for file in pictures if file.parent == path.parent}
        images = {}
        for entry in read_drawings(hold, path):
            at = near.get(entry) or by_tail.get(entry) or by_tail.get(entry.rpartition("/")[2])
            if at is not None:
                images[entry] = at
        split = _split_of(path.relative_to(root))
        if images and split not in parts:
            parts[split] = path, images
        else:
            left.append(path.relative_to(root).as_posix())
    if not parts:
        raise UserError(f"{files[0]} names images, but none of them is below {root}: put them there")
    if "train" not in parts:
        parts = {"train": parts.pop(next(iter(parts))), **parts}
    template, places = _template(root, [images for _, images in parts.values()])
    drawings = [
        (images[entry], drawing)
        for path, images in parts.values()
        for entry, drawing in read_drawings(hold, path).items()
        if entry in images
    ]
    paths = {split: path.relative_to(root).as_posix() for split, (path, _) in parts.items()}
    plan = _plan(root, hold, drawings, template, list(paths.values()))
    plan.lines = [f"images {template}, shapes {', '.join(paths.values())}", *plan.lines]
    plan.lines += [f"not used: {', '.join(left)}"] * bool(left)
    used = {path for _, images in parts.values() for path in images.values()}
    plan.labelled_only = len(used) < len(pictures) or len(parts) > 1
    plan.splits = {
        split: ({"folder": place} if place is not None else {})
        | ({"labels": [{"path": path, "hold": hold}]} if len(paths) > 1 else {})
        for (split, path), place in zip(paths.items(), places, strict=True)
    }
    if "val" not in parts:
        path, images = parts["train"]
        part = Part(folder=places[0])
        keys = {
            str(key_of(template, part, image.relative_to(root).as_posix())): {
                shape.title for shape in read_drawings(hold, path)[entry].shapes
            }
            for entry, image in images.items()
        }
        hold_out_of_train(plan, name, list(keys), keys)
    return plan


def _split_of(path: Path) -> str:
    words = re.split(r"[^a-z]+", path.with_suffix("").as_posix().lower())
    return next((WORDS[word] for word in reversed(words) if word in WORDS), "train")


def _template(root: Path, parts: Sequence[Mapping[str, Path]]) -> tuple[str, list[str | None]]:
    """Return the images' template, and what stands for `{split}` in each part."""
    folders = [sorted({path.parent.relative_to(root).as_posix() for path in part.values()}) for part in parts]
    first = [each[0] for each in folders]
    if all(len(each) == 1 for each in folders) and len(set(first)) == len(first) > 1:
        split = [folder.split("/") for folder in first]
        apart = [place for place in range(len(split[0])) if len({tuple(p[place : place + 1]) for p in split}) > 1]
        if len({len(p) for p in split}) == 1 and len(apart) == 1:
            parts_of = ["{split}" if place == apart[0] else part for place, part in enumerate(split[0])]
            return "/".join([*parts_of, "{name}"]), [p[apart[0]] for p in split]
    every = sorted({folder for each in folders for folder in each})
    common = _common(every)
    deep = any(folder != common for folder in every)
    name = "{group}/{name}" if deep else "{name}"
    return name if common == "." else f"{common}/{name}", [None] * len(parts)


def _common(folders: Sequence[str]) -> str:
    parts = [folder.split("/") for folder in folders]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "/".join(shared) or "."
