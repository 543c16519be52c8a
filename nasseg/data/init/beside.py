"""Use lists beside the data: of class names, and of the samples of each split."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasseg.data.init.find_pairs import WORDS
from nasseg.data.init.label_values import Values
from nasseg.data.list_files import list_files, read_lines, read_text
from nasseg.data.sample_lists import Spellings, listed
from nasseg.errors import UserError
from nasseg.files import parse_yaml

_CLASS_FILES = re.compile(
    r"_?(?:classes|class_names|class_?dict|class_?list|label_?map|labels?|label_?colou?rs|label_?names)\.(?:txt|csv)"
    r"|obj\.names|.*\.names|(?:data|dataset)\.ya?ml",
    re.IGNORECASE,
)
_NUMBER = r"(?<![\w.])\d+(?![\w.])"
_FITS = 0.9  # share of a list's lines that must name samples


@dataclass(frozen=True)
class ClassList:
    """Class names of a file: in order, by number, or by colour (0xRRGGBB)."""

    path: Path
    in_order: tuple[str, ...] = ()
    by_number: Mapping[int, str] | None = None
    by_colour: Mapping[int, str] | None = None

    def names_of(self, values: Values, codes: Sequence[int]) -> dict[int, str]:
        """Return the names of stored values; empty if the list does not cover them."""
        if self.by_colour is not None:
            colours = {code: values.palette.get(code, code) if values.hold != "colours" else code for code in codes}
            found = {code: self.by_colour[colour] for code, colour in colours.items() if colour in self.by_colour}
            return found if len(found) >= len(codes) - 1 else {}
        if values.hold == "colours":
            return {}
        by_number = self.by_number
        if by_number is None:
            names = self.in_order
            if len(names) == len(codes):
                return dict(zip(codes, names, strict=True))
            if len(names) == len(codes) - 1 and codes[0] == 0:  # tools do not list the background
                names = ("background", *names)
            by_number = dict(enumerate(names))
        return {code: by_number[code] for code in codes} if set(codes) <= set(by_number) else {}

    def titles(self) -> dict[str, str]:
        """Return the names by their numbers as text, as YOLO's shapes use them."""
        return {str(number): name for number, name in (self.by_number or dict(enumerate(self.in_order))).items()}


def class_lists(root: Path) -> list[ClassList]:
    """Return the lists of classes in a folder and below, those at the top first. Skips other files."""
    paths = [path for path in list_files(root) if _CLASS_FILES.fullmatch(path.name)]
    found = []
    for path in sorted(paths, key=lambda path: (len(path.parts), path)):
        try:
            read = _from_yaml(path) if path.suffix in (".yaml", ".yml") else _from_text(path)
        except UserError:
            continue
        if read is not None:
            found.append(read)
    return found


def _from_yaml(path: Path) -> ClassList | None:
    names = parse_yaml(read_text(path), path).data.get("names")
    if isinstance(names, dict):
        try:
            return ClassList(path, by_number={int(number): str(name) for number, name in names.items()})
        except (TypeError, ValueError):  # a mapping of something else
            return None
    return ClassList(path, tuple(map(str, names))) if isinstance(names, list) else None


def _from_text(path: Path) -> ClassList | None:
    """Read one name per line, with a number, with three numbers (a colour), or with none. A header has no number."""
    lines = [line for line in read_lines(path) if line and not line.startswith("#")]
    rows = [([int(text) for text in re.findall(_NUMBER, line)], _name(line)) for line in lines]
    colours = {(n[-3] << 16 | n[-2] << 8 | n[-1]): name for n, name in rows if len(n) >= 3 and max(n[-3:]) < 256}
    if colours and len(colours) >= len(rows) - 1:
        return ClassList(path, by_colour=colours)
    numbers = {n[0]: name for n, name in rows if len(n) == 1 and name}
    if numbers and len(numbers) >= len(rows) - 1:
        return ClassList(path, by_number=numbers)
    if any(numbers for numbers, _ in rows) or len({name for _, name in rows}) < len(rows) or not rows:
        return None
    return ClassList(path, tuple(name for _, name in rows))


def _name(line: str) -> str:
    words = re.sub(_NUMBER, " ", line)
    return re.sub(r"\s+", " ", re.sub(r"[,;:|=\t\"\[\]()]+", " ", words)).strip()


@dataclass(frozen=True)
class SplitLists:
    """List files by split, and the keys of the samples that each file names."""

    paths: dict[str, Path]
    keys: dict[str, tuple[str, ...]]


def split_lists(root: Path, images: Mapping[str, Path], labels: Mapping[str, Path]) -> SplitLists | None:
    """Return the lists of one folder that name the samples of train and, if there, of val and test.

    images, labels: files by key. Of several folders, the one whose lists name the most labelled samples is used. Lists
    with mostly other lines are skipped.
    """
    spellings = Spellings(root, [images, labels])
    folders: dict[Path, dict[str, Path]] = {}
    for path in list_files(root):
        word = re.fullmatch(r"(?:.*[_\-.])?([a-z]+)(?:_?list|_?set|_?files)?", path.stem.lower())
        split = WORDS.get(word.group(1)) if word else None
        if split and path.suffix.lower() in (".txt", ".csv", ".lst"):
            known = folders.setdefault(path.parent, {})
            known[split] = min(known.get(split, path), path, key=lambda each: len(each.name))
    best: SplitLists | None = None
    for found in (folders[home] for home in sorted(folders, key=_other_task)):
        keys = {split: each for split, path in found.items() if (each := _named(path, spellings, labels))}
        if "train" in keys and (best is None or _count(keys) > _count(best.keys)):
            best = SplitLists({split: found[split] for split in keys}, keys)
    return best


def _other_task(folder: Path) -> tuple[bool, Path]:
    """Return a sort key that puts folders of lists for segmentation before those for other tasks."""
    return "segmentation" not in folder.name.lower(), folder


def _count(keys: Mapping[str, tuple[str, ...]]) -> tuple[bool, int]:
    return "val" in keys, sum(map(len, keys.values()))


def _named(path: Path, spellings: Spellings, labels: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the keys that a list names, if most of its lines name one with a label."""
    try:
        rows = list(listed(path, spellings))
    except UserError:
        return ()
    keys = tuple(keys[0] for _, _, keys in rows if len(keys) == 1 and keys[0] in labels)
    return keys if keys and len(keys) >= _FITS * len(rows) else ()
