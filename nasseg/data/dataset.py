"""Data sets: images and labels by split, identified by their content."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nasseg.data import scenes
from nasseg.data.cache import Check, cached_split, checksums
from nasseg.data.class_table import ClassTable, Colour, SplitName, Unknown, list_tables, read_table
from nasseg.data.folder import Folder, read_splits
from nasseg.data.pseudo_labels import pseudo_samples
from nasseg.data.recognise import recognise
from nasseg.data.split import Split
from nasseg.errors import UserError, unknown
from nasseg.files import cache_folder
from nasseg.records import Size, digest

# Every split has its own scenes, and adding to one does not change the others.
_FIRST_SCENE = {"train": 0, "val": 1 << 24, "test": 2 << 24}
_OPTIONS = ("root", "layout", "size", "splits", "unknown")
PSEUDO = "pseudo"  # the split of pseudo-labelled images, and the option for its folder


@dataclass(frozen=True, eq=False)
class DataSet:
    """Splits `train`, `val` and, if there, `test` and `pseudo`, each read on first use and then kept.

    fingerprint: a hash of the content; if it differs, accuracies are not comparable. Weights are chosen on `val`, never
    on `test`. counts: images of each split; rules: where each comes from, in words; absent: why a split does not exist.
    files: what the data are read from, with the size and CRC-32 of each. trained_on: the layout's splits that `train`
    is made of, if the study sets that.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    fingerprint: str
    sources: Mapping[str, Callable[[], Split]]
    counts: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, Check] = field(default_factory=dict, repr=False)
    trained_on: tuple[str, ...] = ()
    _read: dict[str, Split] = field(default_factory=dict, repr=False)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def split(self, name: str) -> Split:
        """Return the images and labels of a split.

        Raises:
            UserError: there is no such split, or a file of it cannot be used (the message names it).
        """
        if name not in self.sources:
            if name in self.absent:
                raise UserError(f"{self.name} has no split {name}: {self.absent[name]} (`splits` in the study's data)")
            raise unknown(f"split of {self.name}", name, self.sources)
        if name not in self._read:
            self._read[name] = self.sources[name]()
        return self._read[name]

    @property
    def val_is_test(self) -> bool:
        """True if networks are evaluated on the test split. No weights may be chosen on it."""
        return self.sources.get("test") is self.sources["val"]

    def file_marks(self) -> frozenset[int]:
        """Return a number for each file that depends on its name and content, not on the data's folder."""
        return frozenset(_mark(path, check) for path, check in self.files.items())

    def require(self, fingerprint: str, marks: frozenset[int]) -> None:
        """Raise a UserError that names the file if these data do not match a fingerprint and its marks."""
        if self.fingerprint == fingerprint:
            return
        other = next((str(path) for path, check in self.files.items() if _mark(path, check) not in marks), None)
        lost = f"{len(marks) - len(self.files)} files are gone" if len(marks) > len(self.files) else "its rules differ"
        raise UserError(
            f"the data {self.name} are not those that the study was begun with: "
            f"{f'{other} has changed' if other else lost}. Restore them, or give the study another name"
        )

    def read(self) -> None:
        """Read the splits that trainings need, `train` and `val`.

        Raises:
            UserError: a file of them cannot be used (the message names it).
        """
        for name in ("train", "val"):
            self.split(name)

    @property
    def train(self) -> Split:
        return self.split("train")

    @property
    def val(self) -> Split:
        return self.split("val")

    @property
    def test(self) -> Split:
        return self.split("test")


class _SceneOptions(BaseModel):
    """Size and numbers of procedural scenes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[int, int] = (64, 128)
    train: int = Field(800, ge=1)
    val: int = Field(200, ge=1)
    test: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)

    @field_validator("size")
    @classmethod
    def _large_enough(cls, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < 32:
            raise ValueError("at least 32 x 32 is needed")
        return size


def load_data(name: str | Path, **options: Any) -> DataSet:
    """Return a data set by name or path.

    `scenes`: procedural street scenes; options size=(64, 128), train=800, val=200, test=0 (numbers of scenes), seed=0.
    A folder laid out like a data set that nasseg knows (nasseg/data/datasets), or the name or the file of a class table
    (nasseg.data.class_table); options:
      root: the folder, if a table is named. Default: what the table says, else the folder of its name. layout: one of
      the table's. splits: instead of the layout's, which they may name, as in `train: [train, val]`. unknown: instead
      of the table's. size: [height, width] that networks see. Images are resized to fit into it, and logits back to the
      labels' size, at which accuracy is measured. Needed if images differ in size.
    Both: pseudo, a folder that `nasseg label` wrote. Its images are the split `pseudo` and part of the content. None of
    their files may equal a file of `val` or `test`.

    Raises:
        UserError: there is no such data set, an option is wrong, or a file is missing (it is named).
    """
    pseudo = options.pop(PSEUDO, None)
    data, kept_apart = (_load_scenes(options), {}) if str(name) == "scenes" else _load_folder(name, options)
    if pseudo is None:
        return data
    return _with_pseudo(data, Path(pseudo).expanduser(), _seen(options.get("size")), kept_apart)


def _load_folder(name: str | Path, options: dict[str, Any]) -> tuple[DataSet, dict[Check, str]]:
    """Return the data, and the images that must not be trained on: check of the file -> its split."""
    found, label, seen = find_folder(name, **options)
    samples = found.samples
    checks = {split: _checks(found, split) for split in samples}
    known = {path: check for split in samples for path, check in zip(_files(found, split), checks[split], strict=True)}
    place = digest(
        [str(found.root.resolve()), found.layout_name, seen, {s: list(map(str, p)) for s, p in found.given.items()}]
    )
    home = cache_folder() / f"{found.root.resolve().name}-{place}"
    sources: dict[str, Callable[[], Split]] = {
        split: partial(_read, found, split, checks[split], home, seen) for split in samples
    }
    absent = {str(split): why for split, why in found.layout.absent.items()}
    if found.joined.get("val") == ("test",):
        sources["test"] = sources["val"]
    absent |= {part: f"it is part of {split}" for split, names in found.joined.items() for part in names}
    data = DataSet(
        name=label,
        classes=found.table.names,
        colours=found.table.colours,
        fingerprint=found.fingerprint(lambda files: [known[path] for path in files], seen),
        sources=sources,
        counts={split: len(items) for split, items in samples.items()},
        rules={split: "; ".join(map(str, parts)) for split, parts in found.splits.items()},
        absent=absent,
        trained_on=found.joined.get("train", ()),
        files=known,
    )
    apart = [(split, sample.image) for split, items in samples.items() if split != "train" for sample in items]
    return data, {known[image]: f"{image}, of the split {split}" for split, image in apart}


def find_folder(name: str | Path, **options: Any) -> tuple[Folder, str, Size | None]:
    """Return the folder that `load_data` reads, its name, and the size that networks see (None: the images' own).

    Raises:
        UserError: there is no such data set, or an option is wrong.
    """
    path, tables = Path(name).expanduser(), list_tables()
    file = path if path.suffix in (".yaml", ".yml") else tables.get(str(name))
    if file is None and not path.is_dir():
        near = "".join(f"did you mean {each!r}? " for each in get_close_matches(str(name), ["scenes", *tables], n=1))
        raise UserError(
            f"no data set {str(name)!r}: {near}"
            f"give `scenes`, {', '.join(tables)}, a class table (FILE.yaml), or a folder"
        )
    for option in options:
        if option not in _OPTIONS:
            raise unknown("option of a data set on disk", option, _OPTIONS)
    layout, seen = options.get("layout"), _seen(options.get("size"))
    if file is not None:
        table, label = read_table(file), file.stem
        root = Path(options.get("root") or table.root or (name if path.suffix == "" else file.stem)).expanduser()
        if not root.is_dir():
            raise UserError(
                f"no data set {str(root)!r}: there is no such folder; say where {label} is with --data PATH, or "
                "`root: PATH` in the study's data"
            )
        candidates = {label: table}
    else:
        if "root" in options:
            raise UserError(f"root says where a class table's data lie, and {name} is none of {', '.join(tables)}")
        root, label = path, path.resolve().name
        candidates = _candidates(root, tables)
    if layout is not None and not any(layout in table.layouts for table in candidates.values()):
        raise unknown(f"layout of {label}", layout, {key for table in candidates.values() for key in table.layouts})
    found = recognise(root, candidates, layout)
    table = found.table
    if "unknown" in options:
        if options["unknown"] not in get_args(Unknown):
            raise UserError(
                f"unknown: label values not in the table are {', '.join(get_args(Unknown))}; got {options['unknown']!r}"
            )
        table = table.model_copy(update={"unknown": options["unknown"]})
    given = read_splits(options["splits"], "splits", table.layouts[found.layout]) if "splits" in options else None
    folder = Folder(found.at, table, found.layout, given.parts if given else {}, given.joined if given else {})
    for needed in ("train", "val"):
        if needed not in folder.splits:
            raise UserError(
                f"{label} has no split {needed}: name a part of the data in the study, such as "
                "`splits: {val: {sequences: [NAME]}}`; weights are chosen on val"
            )
    return folder, label, seen


def _candidates(root: Path, tables: Mapping[str, Path]) -> dict[str, ClassTable]:
    """Return the class tables that may fit a folder: those that name it, else those of the public data sets."""
    read = {name: read_table(path) for name, path in tables.items()}
    own = {name: t for name, t in read.items() if t.root is not None and Path(t.root).resolve() == root.resolve()}
    return own or {name: table for name, table in read.items() if table.root is None}


def _seen(size: Any) -> Size | None:
    if size is None:
        return None
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(isinstance(s, int) and s >= 32 for s in size):
        raise UserError(f"size, which networks see, is [HEIGHT, WIDTH], at least 32 x 32; got {size!r}")
    return size[0], size[1]


def _mark(path: Path, check: Check) -> int:
    return zlib.crc32(f"{path.name} {check}".encode())


def _files(folder: Folder, split: SplitName) -> list[Path]:
    return [path for sample in folder.samples[split] for path in (sample.image, sample.label)]


def _checks(folder: Folder, split: SplitName) -> list[Check]:
    return checksums(folder.root, _files(folder, split))


def _read(folder: Folder, split: SplitName, checks: list[Check], home: Path, seen: Size | None) -> Split:
    """Return a split decoded.

    Raises:
        UserError: a file changed since the fingerprint was taken, or cannot be used.
    """
    _require_unchanged(_files(folder, split), checks, _checks(folder, split))
    found = cached_split(home, split, folder.samples[split], checks, seen)
    _require_unchanged(_files(folder, split), checks, _checks(folder, split))
    return found


def _require_unchanged(files: list[Path], checks: list[Check], now: list[Check]) -> None:
    for path, before, after in zip(files, checks, now, strict=True):
        if before != after:
            raise UserError(f"{path} changed while the data were in use: restore it, or run the command again")


def _with_pseudo(data: DataSet, folder: Path, seen: Size | None, kept_apart: Mapping[Check, str]) -> DataSet:
    """Return the data with pseudo-labelled images, whose content is part of the fingerprint.

    Raises:
        UserError: there are none, they have other classes, or some of them are in `val` or `test`.
    """
    images, samples = pseudo_samples(folder, data.classes)

    def checks() -> list[Check]:
        pictures = checksums(images, [sample.image for sample in samples])
        labels = checksums(folder, [sample.label for sample in samples])
        return [check for pair in zip(pictures, labels, strict=True) for check in pair]

    first = checks()
    shared = [(s.image, kept_apart[check]) for s, check in zip(samples, first[::2], strict=True) if check in kept_apart]
    if shared:
        raise UserError(
            f"{len(shared)} of the {len(samples)} pseudo-labelled images are for choosing or testing networks: "
            f"{shared[0][0]} is {shared[0][1]}; take them out of {images}, and label the rest into another folder"
        )
    place = digest([str(images.resolve()), str(folder.resolve()), seen])
    home, files = cache_folder() / f"{images.resolve().name}-{place}", [f for s in samples for f in (s.image, s.label)]

    def read() -> Split:
        _require_unchanged(files, first, checks())
        # As in training, a label has its image's size.
        return cached_split(home, "train", samples, first, seen)

    return replace(
        data,
        fingerprint=digest([data.fingerprint, [sample.key for sample in samples], first]),
        sources={**data.sources, PSEUDO: read},
        counts={**data.counts, PSEUDO: len(samples)},
        rules={**data.rules, PSEUDO: f"pseudo-labels in {folder}"},
        files={**data.files, **dict(zip(files, first, strict=True))},
        _read={},
    )


def _load_scenes(values: dict[str, Any]) -> DataSet:
    for name in values:
        if name not in _SceneOptions.model_fields:
            raise unknown("option of scenes", name, _SceneOptions.model_fields)
    try:
        options = _SceneOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"scenes: {first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None
    counts = {split: number for split in _FIRST_SCENE if (number := getattr(options, split))}
    # The options and the code decide the content; the code is hashed as a few scenes.
    samples = [zlib.crc32(part.tobytes()) for number in range(4) for part in scenes.render(number, seed=options.seed)]
    return DataSet(
        name="scenes",
        classes=scenes.CLASSES,
        colours=scenes.COLOURS,
        fingerprint=digest([options.model_dump(mode="json"), samples]),
        sources={split: partial(_draw, options, split, count) for split, count in counts.items()},
        counts=counts,
        rules=dict.fromkeys(counts, "procedural scenes"),
        absent={"test": "set its number of scenes, such as `test: 200`"},
    )


def _draw(options: _SceneOptions, split: str, count: int) -> Split:
    images = torch.empty(count, *options.size, 3, dtype=torch.uint8)
    labels = torch.empty(count, *options.size, dtype=torch.uint8)
    for number in range(count):
        image, label = scenes.render(_FIRST_SCENE[split] + number, options.size, options.seed)
        images[number], labels[number] = torch.from_numpy(image), torch.from_numpy(label)
    return Split(images, labels)
