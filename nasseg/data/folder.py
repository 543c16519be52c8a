"""Read data sets on disk: find and match the files in a folder that a class table describes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nasseg.data.class_table import (
    IN_ONE_FILE,
    ClassTable,
    Encoding,
    LabelFiles,
    Layout,
    Part,
    SplitName,
    Splits,
    as_lists,
)
from nasseg.data.formats.read import read_drawings
from nasseg.data.list_files import list_files
from nasseg.data.recognise import list_at, missing_of
from nasseg.data.sample_lists import Spellings, listed
from nasseg.data.templates import any_suffix, filled, is_deep, is_in, key_of, static_folder, tails
from nasseg.errors import UserError, unknown
from nasseg.records import digest

_ORDER: tuple[SplitName, ...] = ("train", "val", "test")
_SHOWN = 3


@dataclass(frozen=True)
class Sample:
    """An image and its label. entry: the image's name in a file that holds the shapes of many."""

    key: str
    image: Path
    label: Path
    encoding: Encoding
    entry: str = ""


@dataclass
class Matched:
    """A split as it lies on disk. wrong: one message for each fault, naming its file.

    claimed, orphans: labels in its folders with and without an image. unlabelled: images in its folders without a
    label, if the layout allows that.
    """

    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    unlabelled: set[Path] = field(default_factory=set)

    def pairs(self, root: Path) -> str:
        """Return three pairs in words."""
        count = min(_SHOWN, len(self.samples))
        some = [self.samples[place * len(self.samples) // count] for place in range(count)]
        pairs = (f"{_below(root, s.image)} - {_below(root, s.label)}{f' ({s.entry})' * bool(s.entry)}" for s in some)
        return "; ".join(pairs)


def left_over(root: Path, found: Iterable[Matched]) -> list[str]:
    """Describe the files that belong to no split: images without a label, labels without an image."""
    found, lines = list(found), []
    unlabelled = sorted(_below(root, path) for path in set().union(*(each.unlabelled for each in found)))
    if unlabelled:
        lines.append(
            f"{len(unlabelled):,} images have no label and are left out: {_some(unlabelled)}; `nasseg label` can label "
            "them with a trained network"
        )
    claimed = set().union(*(each.claimed for each in found))
    if orphans := sorted(set().union(*(each.orphans for each in found)) - claimed):
        lines.append(f"{len(orphans):,} labels have no image: {_some(orphans)}")
    return lines


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclass(frozen=True)
class _Labels:
    """The label files of one kind: sample -> the file, and the image's name in it."""

    files: dict[str, tuple[Path, str]]
    encoding: Encoding

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {key.casefold(): key for key in self.files}

    def of(self, key: str) -> tuple[Path, str] | None:
        """Return the label of a sample; upper and lower case may differ."""
        return self.files.get(key) or self.files.get(self._folded.get(key.casefold(), ""))


@dataclass(frozen=True)
class Folder:
    """The data at `root`, read by one layout of a class table. Files are listed and matched on first use.

    given: splits that replace the layout's. joined: the names of the layout's splits that each of these is made of.
    """

    root: Path
    table: ClassTable
    layout_name: str
    given: Splits = field(default_factory=dict)
    joined: dict[SplitName, tuple[SplitName, ...]] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return self.table.layouts[self.layout_name]

    @cached_property
    def splits(self) -> Splits:
        """The parts of each split that exists."""
        wanted = {**self.layout.splits, **self.given}
        return {name: parts for name in _ORDER if (parts := self._present(wanted.get(name, ())))}

    def _present(self, parts: Iterable[Part]) -> tuple[Part, ...]:
        return tuple(part for part in parts if not part.optional or not missing_of(self.root, self.layout, part))

    def matched(self, split: SplitName) -> Matched:
        """Return all samples of a split, and its faults."""
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
        """The samples by split, in the order of their keys.

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
        """Return a message for each image that is in more than one split."""
        where: dict[Path, SplitName] = {}
        return [
            f"{sample.image} is in split {where[sample.image]} and in {split}: an image belongs to one split only"
            for split, samples in found.items()
            for sample in samples
            if where.setdefault(sample.image, split) != split
        ]

    def _match(self, part: Part, found: Matched) -> None:
        kinds = part.labels or self.layout.labels
        images = self._files(self.layout.images, part, found)
        quiet = len(kinds) > 1
        labels = [self._labels(kind, part, images, found, quiet=quiet) for kind in kinds]
        if quiet and not any(kind.files for kind in labels):
            found.wrong.append(f"no labels of split {part} in {self.root}: {' or '.join(kind.path for kind in kinds)}")
        taken = {path for kind in labels for path, _ in kind.files.values()}
        images = {key: path for key, path in images.items() if path not in taken}  # of one folder and one pattern
        keys = self._chosen(part, images, labels, found)
        for key in sorted(keys):
            at = next(((*where, kind.encoding) for kind in labels if (where := kind.of(key))), None)
            if at is not None:
                found.samples.append(Sample(key, images[key], at[0], at[2], at[1]))
            elif not self.layout.labelled_only:
                needed = self.root / filled(kinds[0].path, part, key)
                suffix = ".png" if any_suffix(kinds[0].path) and kinds[0].hold not in IN_ONE_FILE else ""
                found.wrong.append(f"{images[key]} has no label: {needed}{suffix} is needed")
        known = {key.casefold() for key in images}
        for kind in labels:
            for key, (path, entry) in kind.files.items():
                side = found.claimed if key.casefold() in known else found.orphans
                side.add(f"{_below(self.root, path)}{f' ({entry})' * bool(entry)}")
        if self.layout.labelled_only:
            found.unlabelled |= {path for key, path in images.items() if not any(kind.of(key) for kind in labels)}

    def _labels(self, kind: LabelFiles, part: Part, images: dict[str, Path], found: Matched, *, quiet: bool) -> _Labels:
        encoding = self.table.encoding(kind)
        if kind.hold not in IN_ONE_FILE:
            files = self._files(kind.path, part, found, quiet=quiet)
            return _Labels({key: (path, "") for key, path in files.items()}, encoding)
        path = self.root / filled(kind.path, part, "")
        try:
            entries = read_drawings(kind.hold, path)
        except UserError as error:
            found.wrong += [str(error)] * (not quiet)
            return _Labels({}, encoding)
        of_image: dict[str, str] = {}
        for key, image in images.items():
            for tail in tails(image.relative_to(self.root).as_posix()):
                of_image.setdefault(tail, key)
        keys = ((of_image.get(name) or of_image.get(name.rpartition("/")[2]) or name, name) for name in entries)
        return _Labels({key: (path, name) for key, name in keys}, encoding)

    def _files(self, template: str, part: Part, found: Matched, *, quiet: bool = False) -> dict[str, Path]:
        folder = static_folder(self.root, template, part)
        if not folder.is_dir():
            if not quiet:
                found.wrong.append(f"no folder {folder}: {self.layout_name} data have {template}")
            return {}
        files: dict[str, Path] = {}
        for path in list_files(folder, self.root, deep=is_deep(template)):
            key = key_of(template, part, path.relative_to(self.root).as_posix())
            if key is not None and files.setdefault(key, path) != path:
                found.wrong.append(f"{files[key]} and {path.name} name the same sample: keep one of them")
        return files

    def _chosen(self, part: Part, images: dict[str, Path], labels: list[_Labels], found: Matched) -> set[str]:
        keys = set(images)
        named = part.list_file or part.list_if_there
        if named is not None:
            path = list_at(named, self.root, self.table)
            if path is not None:
                keys = set(self._listed_keys(path, images, labels, found))
            elif part.list_file is not None:
                found.wrong.append(
                    f"no list {self.root / named}: it names the samples of a split, one a line; restore it, or "
                    "change the split"
                )
        if part.sequences:
            keys = {key for key in keys if is_in(key, part.sequences)}
        return {key for key in keys if not is_in(key, part.without)}

    def _listed_keys(self, path: Path, images: dict[str, Path], labels: list[_Labels], found: Matched) -> Iterable[str]:
        """Yield the keys of the samples that a list file names."""
        of_labels = ({key: label for key, (label, entry) in kind.files.items() if not entry} for kind in labels)
        for number, text, keys in listed(path, Spellings(self.root, [images, *of_labels])):
            if len(keys) == 1 and keys[0] in images:
                yield keys[0]
            elif len(keys) > 1:
                found.wrong.append(
                    f"{path}:{number}: {text} may be {' or '.join(keys[:3])}: add the folder to the name"
                )
            else:
                found.wrong.append(f"{path}:{number} lists {text}, but {self.root} holds no such image")

    def rules(self) -> dict[str, Any]:
        """Return what decides the content besides the files: empty for class numbers in folders by split."""
        found = (sample.encoding for samples in self.samples.values() for sample in samples)
        encodings = {id(encoding): encoding for encoding in found}.values()
        extra: dict[str, Any] = {}
        if not all(encoding.plain for encoding in encodings):
            extra["labels"] = sorted(encoding.rules() for encoding in encodings)
        if "{split}" not in self.layout.images or self.given:
            extra["splits"] = {name: [sample.key for sample in samples] for name, samples in self.samples.items()}
        return extra

    def fingerprint(self, checks: Callable[[list[Path]], list[tuple[int, int]]], seen: object = None) -> str:
        """Return a hash of the names, sizes and CRCs of all files used, and of the rules, if any.

        seen: the size that networks see, if it is not the images' own.
        """
        files = [path for samples in self.samples.values() for s in samples for path in (s.image, s.label)]
        rows = sorted(
            [path.relative_to(self.root).as_posix(), *check] for path, check in zip(files, checks(files), strict=True)
        )
        rules = self.rules() | ({"size": seen} if seen else {})
        return digest([rows, rules] if rules else rows)


@dataclass(frozen=True)
class GivenSplits:
    """Splits instead of a layout's. joined: the names of the layout's splits that a split is made of.

    A split of the layout that became part of another has no parts, and is no split any more.
    """

    parts: Splits
    joined: dict[SplitName, tuple[SplitName, ...]]


def read_splits(value: Any, where: str, layout: Layout) -> GivenSplits:
    """Return the `splits` of a study's data. A split may name one of the layout's, or several as a list.

    Raises:
        UserError: the value describes no splits, or a split would be trained on and reported on.
    """
    joined: dict[SplitName, tuple[SplitName, ...]] = {}
    own: Mapping[str, tuple[Part, ...]] = {str(name): parts for name, parts in layout.splits.items()}
    if isinstance(value, dict):
        value = dict(value)
        for name, given in value.items():
            entries = given if isinstance(given, list | tuple) else [given]
            if names := tuple(entry for entry in entries if isinstance(entry, str)):
                for entry in names:
                    if entry not in own:
                        raise unknown(f"split ({where}: {name})", entry, own)
                joined[name] = names  # type: ignore[assignment]
                parts = [own[e] if isinstance(e, str) else (e,) for e in entries]
                value[name] = [part for some in parts for part in some]
        for name in joined.get("train", ()):
            if name in joined.get("val", ()) or (name == "val" and "val" not in value):
                raise UserError(
                    f"{where}: {name} is trained on and cannot be evaluated on: name another split for val, as in "
                    "`{train: [train, val], val: test}`"
                )
        value = {**{part: () for names in joined.values() for part in names}, **value}
    return GivenSplits(_splits(value, where), joined)


def _splits(value: Any, where: str) -> Splits:
    try:
        return TypeAdapter(Splits).validate_python(as_lists(value))
    except ValidationError as error:
        first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        if first["type"] == "extra_forbidden":
            raise unknown(f"key of {where}", first["loc"][-1], _KEYS) from None
        place = ".".join(str(part) for part in first["loc"] if not isinstance(part, int) and part != "[key]")
        raise UserError(f"{where}: {place}: {first['msg']}, got {first['input']!r}; {_SPLITS}") from None


_KEYS = [field.alias or name for name, field in Part.model_fields.items()]
_SPLITS = "splits are train, val and test, each like {folder: NAME}, {list: FILE}, {sequences: [NAME]} or [train, val]"
