"""Class tables: how a data set lies on disk and what its label values mean. One YAML file each, in datasets/.

    classes: [{name: road, colour: [128, 64, 128], ids: [7]}, ...]     # in the order of the network's outputs
    ignore: {ids: [0, 1], numbers: [11], colours: [[0, 0, 0]]}         # values that are no class; 255 always is one
    background: road                                                   # the class of what no shape covers
    unknown: error                                                     # other values; or ignore, or nearest
    layouts:
      fine:
        images: "leftImg8bit/{split}/{group}/{name}_leftImg8bit"       # without a suffix: any kind of picture
        labels:                                                        # the first that a sample has
          - {path: "gtFine/{split}/{group}/{name}_gtFine_labelIds.png", hold: ids}
        splits: {train: {folder: train}, val: {folder: val}}

`{split}` stands for the folder of a split, `{group}` for one or more folders, `{name}` for the rest. Labels are
pictures that hold the `ids` of the classes, their `numbers` (0 for the first class of the table), `alpha` (the ids, in
the alpha channel) or `colours` (a class' `rgb`, else its colour); or shapes, as `coco`, `cvat`, `labelme`,
`supervisely` and `yolo` write them. Shapes are matched to classes by `titles` (default: the class' name; yolo's class
numbers are titles). A file of `coco` or `cvat` holds the shapes of many images: its path has no `{name}`.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from nasseg.errors import UserError, unknown
from nasseg.files import Document, KeyPath, read_yaml

Colour = tuple[int, int, int]
SplitName = Literal["train", "val", "test"]
Holds = Literal["ids", "numbers", "colours", "alpha", "coco", "cvat", "labelme", "supervisely", "yolo"]
Unknown = Literal["error", "ignore", "nearest"]
SHAPES = frozenset({"coco", "cvat", "labelme", "supervisely", "yolo"})
IN_ONE_FILE = frozenset({"coco", "cvat"})  # the shapes of many images
IGNORE, MAX_CLASSES = 255, 254
_HOME = Path(__file__).with_name("datasets")
_STRICT = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ClassRow(BaseModel):
    """A class.

    name: as reports show it. colour: in drawings. ids: label values that mean it. rgb: colours in labels that mean it,
    if not `colour`. titles: names of shapes that mean it.
    """

    model_config = _STRICT

    name: str
    colour: Colour
    ids: tuple[int, ...] = ()
    rgb: tuple[Colour, ...] = ()
    titles: tuple[str, ...] = ()


class LabelFiles(BaseModel):
    """The paths of labels and what they hold.

    path: with `{split}`, `{group}` and `{name}`. hold: what the files hold. offset: stored value + offset = id.
    """

    model_config = _STRICT

    path: str
    hold: Holds
    offset: int = 0


class Part(BaseModel):
    """Samples of a split: those of a folder, of a list file, or of sequences. All conditions given must hold.

    folder: fills `{split}`. list: a file that names one sample a line, below the data's folder or beside the class
    table.
    list_if_there: the same, but all samples if the file is missing. sequences, without: how names begin, up to a `_`,
    `-` or `/`, with the wildcards `*`, `?`, `[...]`; groups are part of a name (`aachen/aachen_000000_000019`). labels:
    replace the layout's. optional: the folder may be missing.
    """

    model_config = _STRICT

    folder: str | None = None
    list_file: str | None = Field(None, alias="list")
    list_if_there: str | None = None
    sequences: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    labels: tuple[LabelFiles, ...] = ()
    optional: bool = False

    def __str__(self) -> str:
        words = [f"folder {self.folder}"] * bool(self.folder)
        words += [f"list {name}" for name in (self.list_file, self.list_if_there) if name]
        words += [f"sequences {', '.join(self.sequences)}"] * bool(self.sequences)
        words += [f"without {', '.join(self.without)}"] * bool(self.without)
        return ", ".join(words) or "all samples"


Splits = dict[SplitName, tuple[Part, ...]]


def as_lists(value: Any) -> Any:
    """Wrap single parts in lists: a split of one part need not be a list."""
    if not isinstance(value, dict):
        return value
    return {name: [part] if isinstance(part, dict | Part) else part for name, part in value.items()}


class Layout(BaseModel):
    """One form in which a data set is published.

    images: their path, with `{split}`, `{group}` and `{name}`. labels: the first that a sample has counts. splits: the
    parts of each. labelled_only: images without a label are not part of the data. absent: why a split does not exist.
    """

    model_config = _STRICT

    images: str
    labels: tuple[LabelFiles, ...] = Field(min_length=1)
    splits: Splits
    labelled_only: bool = False
    absent: dict[SplitName, str] = {}

    _lists = field_validator("splits", mode="before")(as_lists)


class ClassTable(BaseModel):
    """The classes of a data set, and how it lies on disk.

    about: what the data show. citation: their source. classes: in the order of the network's outputs. ignore: label
    values that are no class. layouts: forms in which the data are published, by name. root: the data's default folder,
    relative to the table's file. background: the class of pixels that no shape covers; null ignores them. unknown: what
    to do with values in neither `classes` nor `ignore`: an error, ignore them, or take the class with the nearest value
    (for masks with grey edges, or saved as JPEG).
    """

    model_config = _STRICT

    about: str = ""
    citation: str = ""
    root: str | None = None
    classes: tuple[ClassRow, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    ignore: dict[Holds | Literal["titles"], tuple[int | Colour | str, ...]] = {}
    background: str | None = None
    unknown: Unknown = "error"
    layouts: dict[str, Layout] = Field(min_length=1)
    _home: Path | None = PrivateAttr(None)

    @field_validator("ignore", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        raise ValueError("values that are no class are listed by what labels hold, such as {ids: [255]}")

    @property
    def home(self) -> Path | None:
        """The folder of the table's file."""
        return self._home

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.classes)

    @property
    def colours(self) -> tuple[Colour, ...]:
        return tuple(row.colour for row in self.classes)

    def encoding(self, labels: LabelFiles) -> "Encoding":
        """Return the meaning of the values that such label files store."""
        if labels.hold in SHAPES:
            titles = {str(title): IGNORE for title in self.ignore.get("titles", ())}
            for number, row in enumerate(self.classes):
                titles.update(dict.fromkeys(row.titles or (row.name,), number))
            background = IGNORE if self.background is None else self.names.index(self.background)
            return Encoding(labels.hold, (), self.unknown, tuple(titles.items()), background)
        values = [value for value in self.ignore.get(labels.hold, ()) if not isinstance(value, str)]
        codes = {code_of(value) - labels.offset: IGNORE for value in values}
        known = dict[int, int]()
        for number, row in enumerate(self.classes):
            of_class: tuple[int | Colour, ...] = (number,) if labels.hold == "numbers" else row.ids
            if labels.hold == "colours":
                of_class = row.rgb or (row.colour,)
            known.update((code_of(value) - labels.offset, number) for value in of_class)
        if labels.hold != "colours" and self.unknown != "nearest":
            codes.setdefault(255, IGNORE)
        return Encoding(labels.hold, tuple(sorted((codes | known).items())), self.unknown)


def code_of(value: int | Colour) -> int:
    """Return a colour as one number, 0xRRGGBB; a number stays as it is."""
    return value if isinstance(value, int) else value[0] << 16 | value[1] << 8 | value[2]


@dataclass(frozen=True)
class Encoding:
    """The meaning of stored values. codes: value (a colour: 0xRRGGBB) -> class, or 255 if ignored.

    titles: the same for shapes. background: the class of pixels that no shape covers.
    """

    hold: Holds
    codes: tuple[tuple[int, int], ...]
    unknown: Unknown = "error"
    titles: tuple[tuple[str, int], ...] = ()
    background: int = IGNORE

    @cached_property
    def _columns(self) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        keys, targets = zip(*self.codes, strict=True)
        return np.array(keys, np.int64), np.array(targets, np.int16)

    @cached_property
    def _of_bytes(self) -> NDArray[np.int16]:
        if self.unknown == "nearest":
            return self._nearest(np.arange(256))
        codes = dict(self.codes)
        return np.array([codes.get(value, -1) for value in range(256)], np.int16)

    @property
    def plain(self) -> bool:
        """True if each stored value is its class's number."""
        own = all(target in (value, IGNORE) for value, target in self.codes)
        return own and self.unknown == "error" and not self.titles

    def rules(self) -> list[Any]:
        """Return everything, besides its content, that decides a label file's classes, as plain data."""
        return [self.hold, self.codes, self.unknown, *([self.titles, self.background] if self.titles else ())]

    def decode(self, stored: NDArray[Any]) -> tuple[NDArray[np.uint8], list[int]]:
        """Return classes, uint8 [H, W], 255 where ignored or unknown, and the unknown values.

        stored: integers [H, W].
        """
        if stored.dtype == np.uint8:
            found = self._of_bytes[stored]
        elif self.unknown == "nearest":
            values, places = np.unique(stored, return_inverse=True)
            found = self._nearest(values)[places].reshape(stored.shape)
        else:
            keys, targets = self._columns
            place = np.searchsorted(keys, stored).clip(max=len(keys) - 1)
            found = np.where(keys[place] == stored, targets[place], np.int16(-1))
        bad = found < 0
        if not bad.any():
            return found.astype(np.uint8), []
        found[bad] = IGNORE
        return found.astype(np.uint8), [int(value) for value in np.unique(stored[bad])]

    def _nearest(self, values: NDArray[Any]) -> NDArray[np.int16]:
        """Return the class of the known value nearest to each of values [N]; colours are compared by three channels."""
        keys, targets = self._columns
        column = values[:, None].astype(np.int64)
        if self.hold != "colours":
            return targets[np.abs(column - keys).argmin(1)]
        distance = np.zeros((len(values), len(keys)), np.int64)
        for shift in (16, 8, 0):
            distance += ((column >> shift & 255) - (keys >> shift & 255)) ** 2
        return targets[distance.argmin(1)]

    def show(self, code: int | str) -> str:
        """Return a value as users write it."""
        if isinstance(code, str):
            return f"shapes of {code!r}"
        return f"colour [{code >> 16}, {code >> 8 & 255}, {code & 255}]" if self.hold == "colours" else f"label {code}"

    @property
    def classes_in_words(self) -> str:
        """The values of the classes, in short."""
        if self.titles:
            return ", ".join(title for title, target in self.titles if target != IGNORE)
        values = sorted(value for value, target in self.codes if target != IGNORE)
        if self.hold == "colours":
            return f"{len(values)} colours"
        if values == list(range(values[0], values[-1] + 1)):
            return f"{values[0]}..{values[-1]}"
        return f"{len(values)} values from {values[0]} to {values[-1]}"


def list_tables() -> dict[str, Path]:
    """Return names and paths of the class tables in ./datasets and of the shipped ones, the user's own first."""
    found: dict[str, Path] = {}
    for folder in (Path.cwd() / "datasets", _HOME):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def shipped_table(name: str) -> ClassTable:
    """Return a class table shipped with nasseg."""
    return read_table(_HOME / f"{name}.yaml")


def read_table(path: Path) -> ClassTable:
    """Return the class table of a file.

    Raises:
        UserError: the file is no class table (the message names the line).
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return _read_table(path, (stat.st_mtime_ns, stat.st_size))


@cache  # reading a long table takes a tenth of a second
def _read_table(path: Path, _version: tuple[int, int]) -> ClassTable:
    document = read_yaml(path)
    table = document.validate(ClassTable)
    _check(document, table)
    root = None if table.root is None else str(path.parent / Path(table.root).expanduser())
    table = table.model_copy(update={"root": root})
    table._home = path.parent
    return table


def _check(document: Document, table: ClassTable) -> None:
    """Refuse entries that make no sense, although every value has the right type."""
    seen: dict[tuple[str, int | str], str] = {}
    ignore = {kind: set(values) for kind, values in table.ignore.items()}
    if table.background is not None and table.background not in table.names:
        raise document.error(("background",), str(unknown("class", table.background, table.names)))
    holds = {labels.hold for layout in table.layouts.values() for labels in _all_labels(layout)}
    for number, row in enumerate(table.classes):
        where: KeyPath = ("classes", number)
        if table.names.index(row.name) < number:
            raise document.error(where, f"class {row.name!r} occurs twice: each class needs a name of its own")
        for colour in (row.colour, *row.rgb):
            if not all(0 <= part <= 255 for part in colour):
                raise document.error(where, f"a colour is three numbers 0..255, got {list(colour)}")
        kinds: dict[str, tuple[int | Colour | str, ...]] = {
            "ids": row.ids,
            "alpha": row.ids,
            "colours": row.rgb or (row.colour,),
            "titles": row.titles or (row.name,),
        }
        for hold in sorted({"titles" if hold in SHAPES else hold for hold in holds} & set(kinds)):
            if not kinds[hold]:
                raise document.error(
                    where, f"class {row.name!r} has no {hold}, but label files hold {hold}: add them to the class"
                )
            for value in kinds[hold]:
                other = seen.setdefault((hold, value if isinstance(value, str) else code_of(value)), row.name)
                ignored = value in ignore.get(hold, ())
                if other != row.name or ignored:
                    is_too = "`ignore`" if ignored else repr(other)
                    raise document.error(
                        where, f"{value} of {row.name!r} belongs to {is_too}, too: a value can have only one meaning"
                    )
    for kind, values in table.ignore.items():
        wanted = {"colours": tuple, "titles": str}.get(kind, int)
        if not all(isinstance(value, wanted) for value in values):
            raise document.error(("ignore", kind), "ids are numbers, colours are [R, G, B], titles are words")
    for label, layout in table.layouts.items():
        _check_layout(document, ("layouts", label), layout)


def _check_layout(document: Document, where: KeyPath, layout: Layout) -> None:
    named = [labels.path for labels in _all_labels(layout) if labels.hold not in IN_ONE_FILE]
    for template in (layout.images, *(labels.path for labels in _all_labels(layout))):
        if template.startswith("/") or (template in (layout.images, *named)) != (template.count("{name}") == 1):
            raise document.error(where, f"a path holds {{name}} once and begins below the data, got {template!r}")
        if ("{group}" in template) > ("{group}" in layout.images):
            raise document.error(
                where, f"{template!r} has a {{group}}, which the images' pattern, {layout.images!r}, lacks"
            )
    for name, parts in layout.splits.items():
        for part in parts:
            if (part.folder is None) == ("{split}" in layout.images):
                rule = "needs a folder" if part.folder is None else "names a folder"
                raise document.error((*where, "splits", name), f"split {name} {rule}, and images are {layout.images!r}")


def _all_labels(layout: Layout) -> list[LabelFiles]:
    return [*layout.labels, *(labels for parts in layout.splits.values() for part in parts for labels in part.labels)]
