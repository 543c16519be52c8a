"""The one reader of data sets on disk: what a class table says of a folder, found there and matched.

An image and its label are a sample; its key is what both names have in common, `aachen/aachen_000000_000019`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, cached_property
from os import walk
from pathlib import Path
from typing import Any

from nasseg.data.class_table import (
    ClassTable,
    Encoding,
    Layout,
    Part,
    SplitName,
    Splits,
)  # fmt: skip
from nasseg.data.image_file import PICTURES
from nasseg.errors import UserError
from nasseg.records import digest

_ORDER: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    key: str
    image: Path
    label: Path
    encoding: Encoding


@dataclass
class Matched:
    """A split as it lies there. wrong: one message a fault, each naming its file; orphans: labels without image."""

    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Folder:
    """The data at `root` as one layout of a class table has them. Listed and matched when first needed.

    given: splits in place of the layout's.
    """

    root: Path
    table: ClassTable
    layout_name: str
    given: Splits = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return self.table.layouts[self.layout_name]

    @cached_property
    def splits(self) -> Splits:
        """The parts of each split that is there."""
        wanted = {**self.layout.splits, **self.given}
        return {name: parts for name in _ORDER if (parts := self._present(wanted.get(name, ())))}

    def _present(self, parts: Iterable[Part]) -> tuple[Part, ...]:
        return tuple(part for part in parts if not part.optional or not missing_of(self.root, self.layout, part))

    def matched(self, split: SplitName) -> Matched:
        """All of a split, with what is wrong."""
        found = Matched()
        for part in self.splits[split]:
            self._match(part, found)
        found.samples.sort(key=lambda sample: sample.key)
        if not found.samples and not found.wrong:
            parts = "; ".join(map(str, self.splits[split]))
            found.wrong.append(f"split {split} of {self.root} is empty: no image {self.layout.images} ({parts})")
        return found

    @cached_property
    def samples(self) -> dict[SplitName, list[Sample]]:
        """By split, in the order of their keys.

        Raises:
            UserError: a folder, an image or a label is missing, a split is empty, or a sample is in two.
        """
        found: dict[SplitName, list[Sample]] = {}
        for split in self.splits:
            matched = self.matched(split)
            if matched.wrong:
                more = f" (and {len(matched.wrong) - 1} more: `nasseg data check`)" if len(matched.wrong) > 1 else ""
                raise UserError(matched.wrong[0] + more)
            found[split] = matched.samples
        if shared := self.in_two_splits(found):
            raise UserError(shared[0])
        return found

    def in_two_splits(self, found: dict[SplitName, list[Sample]]) -> list[str]:
        where: dict[Path, SplitName] = {}
        return [
            f"{sample.image} is in split {where[sample.image]} and in {split}: an image belongs to one split only"
            for split, samples in found.items() for sample in samples
            if where.setdefault(sample.image, split) != split
        ]  # fmt: skip

    def _match(self, part: Part, found: Matched) -> None:
        kinds = part.labels or self.layout.labels
        images = self._files(self.layout.images, part, found)
        quiet = len(kinds) > 1
        labels = [(self._files(kind.path, part, found, quiet=quiet), self.table.encoding(kind)) for kind in kinds]
        if not any(files for files, _ in labels) and quiet:
            found.wrong.append(f"no labels of split {part} in {self.root}: {' or '.join(kind.path for kind in kinds)}")
        keys = self._chosen(part, images, labels, found)
        for key in sorted(keys):
            at = next(((files[key], encoding) for files, encoding in labels if key in files), None)
            if at is None:
                needed = self.root / _filled(kinds[0].path, part, key)
                found.wrong.append(f"{images[key]} has no label: {needed}{_any_suffix(kinds[0].path)} is needed")
            else:
                found.samples.append(Sample(key, images[key], *at))
        if keys == set(images):
            taken = {path for files, _ in labels for key, path in files.items() if key in images}
            others = (path for files, _ in labels for path in files.values())
            found.orphans += sorted({path for path in others if path not in taken})

    def _files(self, template: str, part: Part, found: Matched, *, quiet: bool = False) -> dict[str, Path]:
        folder = static_folder(self.root, template, part)
        if not folder.is_dir():
            if not quiet:
                found.wrong.append(f"no folder {folder}: {self.layout_name} data have {template}")
            return {}
        files: dict[str, Path] = {}
        deep = template.removeprefix(_static(template)).count("/") > 0 or "{group}" in template
        for path in _listed(folder, deep):
            key = _key(template, part, path.relative_to(self.root).as_posix())
            if key is not None and files.setdefault(key, path) != path:
                found.wrong.append(f"{files[key]} and {path.name} are one sample by name: keep one of them")
        return files

    def _chosen(
        self, part: Part, images: dict[str, Path], labels: list[tuple[dict[str, Path], Encoding]], found: Matched
    ) -> set[str]:
        keys = set(images)
        named = part.list_file or part.list_if_there
        if named is not None:
            path = _list_at(named, self.root, self.table)
            if path is not None:
                keys = set(self._listed_keys(path, images, labels, found))
            elif part.list_file is not None:
                found.wrong.append(f"no list {self.root / named}, which names the samples of a split, one a line")
        if part.sequences:
            keys = {key for key in keys if _is_in(key, part.sequences)}
        return {key for key in keys if not _is_in(key, part.without)}

    def _listed_keys(
        self, path: Path, images: dict[str, Path], labels: list[tuple[dict[str, Path], Encoding]], found: Matched
    ) -> Iterable[str]:
        """Keys of the samples on the lines: the image, the label, both, or the bare name, below whatever folders."""
        spellings: dict[str, set[str]] = {}
        for files in (images, *(files for files, _ in labels)):
            for key, file in files.items():
                below = file.relative_to(self.root).as_posix()
                for text in (below, key):
                    for tail in _tails(text):
                        spellings.setdefault(tail, set()).add(key)
                        spellings.setdefault(tail.removesuffix(file.suffix), set()).add(key)
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from None
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            words = line.replace("\\", "/").split()
            texts = [_bare(text) for text in (line.strip().replace("\\", "/"), words[-1], words[0])]
            tails = (tail for text in texts for tail in _tails(text))
            spelled = (way for tail in tails for way in (tail, tail.rpartition(".")[0]) if way in spellings)
            hits = sorted(spellings.get(next(spelled, ""), set()))
            if len(hits) == 1 and hits[0] in images:
                yield hits[0]
            elif len(hits) > 1:
                found.wrong.append(f"{path}:{number}: {words[-1]} may be {' or '.join(hits[:3])}: say its folder")
            else:
                found.wrong.append(f"{path}:{number} lists {words[-1]}, but {self.root} holds no such image")

    def rules(self) -> dict[str, Any]:
        """What decides the content besides the files: nothing where labels are class numbers, in folders by split."""
        found = (sample.encoding for samples in self.samples.values() for sample in samples)
        encodings = {id(encoding): encoding for encoding in found}.values()
        extra: dict[str, Any] = {}
        if not all(encoding.plain for encoding in encodings):
            extra["labels"] = sorted([e.hold, e.codes, e.unknown] for e in encodings)
        if "{split}" not in self.layout.images or self.given:
            extra["splits"] = {name: [sample.key for sample in samples] for name, samples in self.samples.items()}
        return extra

    def fingerprint(self, checks: Callable[[list[Path]], list[tuple[int, int]]], seen: object = None) -> str:
        """A hash of names, sizes and CRCs of the content of every file that is used, and of the rules if any.

        seen: the size that networks see, where it is not the images' own.
        """
        files = [path for samples in self.samples.values() for s in samples for path in (s.image, s.label)]
        rows = sorted(
            [path.relative_to(self.root).as_posix(), *check] for path, check in zip(files, checks(files), strict=True)
        )
        rules = self.rules() | ({"size": seen} if seen else {})
        return digest([rows, rules] if rules else rows)


@dataclass(frozen=True)
class Recognised:
    """Data that are laid out as a table says: `at` the folder asked for, or the one folder below it that is."""

    table_name: str
    table: ClassTable
    at: Path
    layout: str


def recognise(root: Path, tables: dict[str, ClassTable], layout: str | None = None) -> Recognised:
    """The first layout of the first table that fits.

    Raises:
        UserError: none does (the nearest is named), or several folders below `root` are laid out like one.
    """
    if here := _fitting(root, tables, layout):
        return here
    below = [found for path in _folders(root) if (found := _fitting(path, tables, layout))]
    if len(below) > 1:
        raise UserError(
            f"{root} holds several data sets: give one of {', '.join(str(found.at) for found in below[:5])}"
        )
    if below:
        return below[0]
    candidates = list(_layouts(tables, layout))
    shares = [sum(_places(root, tables[name], each).values()) for name, _, each in candidates]
    text = f"{root} is laid out like no data set that nasseg knows"
    if any(shares):
        name, label, best = candidates[shares.index(max(shares))]
        text += f": to be {name} ({label}) it lacks {', '.join(lacks(root, tables[name], best))}"
    raise UserError(f"{text}; `nasseg init --data {root}` looks at a folder and writes a class table for it")


def _fitting(root: Path, tables: dict[str, ClassTable], layout: str | None) -> Recognised | None:
    for name, label, candidate in _layouts(tables, layout):
        if not lacks(root, tables[name], candidate):
            return Recognised(name, tables[name], root, label)
    return None


def _layouts(tables: dict[str, ClassTable], layout: str | None) -> Iterable[tuple[str, str, Layout]]:
    for name, table in tables.items():
        for label, candidate in table.layouts.items():
            if layout in (None, label):
                yield name, label, candidate


def lacks(root: Path, table: ClassTable, layout: Layout) -> list[str]:
    """The folders and lists of its splits that are not there."""
    places = _places(root, table, layout)
    return [name for name, there in places.items() if not there]


def _places(root: Path, table: ClassTable, layout: Layout) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for name in ("train", "val"):
        for part in layout.splits.get(name, ()):
            if part.optional:
                continue
            folders = [static_folder(root, layout.images, part)]
            folders.append(static_folder(root, (part.labels or layout.labels)[0].path, part))
            found |= {path.relative_to(root).as_posix(): path.is_dir() for path in folders if path != root}
            if part.list_file:
                found[part.list_file] = _list_at(part.list_file, root, table) is not None
    return found


def _list_at(name: str, root: Path, table: ClassTable) -> Path | None:
    return next((path for home in (root, table.home) if home and (path := home / name).is_file()), None)


def missing_of(root: Path, layout: Layout, part: Part) -> bool:
    return not static_folder(root, layout.images, part).is_dir()


def static_folder(root: Path, template: str, part: Part) -> Path:
    """The folder below which everything of a template lies."""
    return root / _static(template.replace("{split}", part.folder or ""))


def _listed(folder: Path, deep: bool) -> Iterable[Path]:
    for path, folders, names in walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deep else []
        yield from (Path(path, name) for name in sorted(names) if not name.startswith("."))


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    except OSError as error:
        raise UserError(f"cannot look into {root}: {error.strerror}") from None


def _static(template: str) -> str:
    return "/".join(template.partition("{")[0].split("/")[:-1])


def _any_suffix(template: str) -> str:
    return "" if "." in template.rpartition("{name}")[2] else ".png"


@cache
def _pattern(template: str, folder: str) -> re.Pattern[str]:
    text = re.escape(template.replace("{split}", folder))
    text = text.replace(r"\{group\}", "(?P<group>.+)").replace(r"\{name\}", "(?P<name>[^/]+)", 1)
    if "." not in template.rpartition("{name}")[2]:
        text += f"(?i:{'|'.join(re.escape(suffix) for suffix in sorted(PICTURES))})"
    return re.compile(text)


def _key(template: str, part: Part, path: str) -> str | None:
    match = _pattern(template, part.folder or "").fullmatch(path)
    if match is None:
        return None
    parts = match.groupdict()
    return "/".join(text for text in (parts.get("group"), parts["name"]) if text)


def _filled(template: str, part: Part, key: str) -> str:
    group, _, name = key.rpartition("/")
    return template.replace("{split}", part.folder or "").replace("{group}", group).replace("{name}", name)


def _is_in(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(key, p) or fnmatchcase(key, f"{p}[-_/]*") for p in patterns)


def _bare(text: str) -> str:
    return text.strip("/").removeprefix("./")


def _tails(path: str) -> Iterable[str]:
    """a/b/c, b/c, c."""
    parts = path.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))
