"""Start with a user's own data: look at a folder, and write a class table and a study for it.

The findings are guesses from names and values. The table states them so that they are easy to correct, and `nasseg data
check` shows them.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasseg.data.class_table import list_tables, read_table
from nasseg.data.dataset import find_folder
from nasseg.data.folder import Folder, left_over
from nasseg.data.image_file import size_of
from nasseg.data.init.beside import class_lists
from nasseg.data.init.find_pairs import find_pairs
from nasseg.data.init.label_values import class_rows, find_values, judge
from nasseg.data.init.plan import Plan
from nasseg.data.init.shapes import plan_shapes
from nasseg.data.init.splits import plan_splits
from nasseg.data.init.study import Wishes, study_text
from nasseg.data.recognise import recognise
from nasseg.errors import UserError
from nasseg.files import output_file
from nasseg.records import Size

_EXAMPLES = 3


@dataclass(frozen=True)
class Begun:
    """The files written and the findings in words; table is None for a data set that nasseg knows."""

    table: Path | None
    study: Path
    lists: tuple[Path, ...]
    found: tuple[str, ...]


def begin(
    path: str | Path,
    *,
    name: str | None = None,
    into: Path | None = None,
    wishes: Wishes | None = None,
    on_line: Callable[[str], None] = lambda _line: None,
) -> Begun:
    """Write studies/NAME.yaml below `into` (here), and datasets/NAME.yaml unless nasseg knows the data set.

    on_line: called with each finding.

    Raises:
        UserError: the folder holds nothing usable, the data make no sense, or a file exists already.
    """
    root, into = Path(path).expanduser().resolve(), into or Path.cwd()
    if not root.is_dir():
        raise UserError(f"no folder {path}: --data is the folder that holds images and labels")
    name = name or re.sub(r"[^a-z0-9_-]+", "-", root.name.lower()).strip("-") or "data"
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"a name may hold letters, digits, _ and -, because files are named after it; got {name!r}")
    table, study = into / "datasets" / f"{name}.yaml", into / "studies" / f"{name}.yaml"
    told: list[str] = []

    def tell(lines: Iterable[str]) -> None:
        for line in lines:
            told.append(line)
            on_line(line)

    known = _known(root)
    if known is not None:
        _require_free([study])
        tell([f"{root} is laid out like {known}: its class table comes with nasseg"])
        folder = find_folder(known, root=root)[0]
        _describe(folder, tell)
        data = {"name": known, "root": str(root)}
        _write(study, _study_of(name, data, folder, wishes or Wishes(), tell))
        return Begun(None, study, (), tuple(told))
    _require_free([table, study])
    plan = plan_shapes(root, name) or _plan_pictures(root, name)
    tell(plan.lines)
    files = {table.parent / file: text for file, text in plan.lists.items()}
    _require_free(list(files))
    for file, text in files.items():
        _write(file, text)
    _write(table, plan.table(root))
    try:
        folder = find_folder(table)[0]
        _describe(folder, tell)
        _write(study, _study_of(name, {"name": name}, folder, wishes or Wishes(), tell))
    except BaseException:
        for file in (table, *files):  # a half-written file would block the next try
            file.unlink(missing_ok=True)
        raise
    return Begun(table, study, tuple(files), tuple(told))


def _known(root: Path) -> str | None:
    tables = {name: read_table(file) for name, file in list_tables().items()}
    try:
        return recognise(root, {name: table for name, table in tables.items() if table.root is None}).table_name
    except UserError:
        return None


def _plan_pictures(root: Path, name: str) -> Plan:
    """Plan the class table of label maps.

    Raises:
        UserError: there are no pairs of images and labels, or they hold no classes.
    """
    pairs, lines = find_pairs(root)
    values = find_values([label for pair in pairs for _, label in pair.files])
    judged = judge(values)
    lists = ((each, each.names_of(values, judged.codes)) for each in class_lists(root))
    named = next(((each, names) for each, names in lists if names), None)
    rows, ignored, decided = class_rows(values, judged, named[1] if named else {})
    plan = Plan(pairs[0].images, pairs[0].labels, values.hold, rows, ignored, judged.unknown)
    plan.labelled_only = any(pair.unlabelled for pair in pairs)
    plan.lines = [*lines, *_some(values.unreadable)]
    if named:
        plan.lines.append(f"names of classes from {named[0].path.relative_to(root)}")
    plan.lines += decided
    plan_splits(plan, name, root, pairs, values.files)
    return plan


def _describe(folder: Folder, tell: Callable[[Iterable[str]], None]) -> None:
    """Report the counts of the splits, some pairs, left-over files, and files that do not fit."""
    matched = {split: folder.matched(split) for split in folder.splits}
    for split, found in matched.items():
        tell([f"{split}: {len(found.samples):,} images"])
        tell([f"pairs of {split}: {found.pairs(folder.root)}"] * bool(found.samples))
        tell(f"fault: {text}" for text in _some(found.wrong))
    tell(left_over(folder.root, matched.values()))


def _study_of(
    name: str, data: dict[str, Any], folder: Folder, wishes: Wishes, tell: Callable[[Iterable[str]], None]
) -> str:
    counts: dict[str, int] = {split: len(folder.matched(split).samples) for split in folder.splits}
    images = [sample.image for split in folder.splits for sample in folder.matched(split).samples]
    sizes, faults = _sizes(images)
    tell(f"fault: {text}" for text in _some(faults))
    if not sizes:
        raise UserError(f"no image of {folder.root} can be read: {faults[0] if faults else 'there is none'}")
    text, lines = study_text(name, data, sizes, counts, len(folder.table.classes), wishes)
    tell(lines)
    return text


def _sizes(images: Iterable[Path]) -> tuple[list[Size], list[str]]:
    """Return the sizes of images, and messages about those that cannot be read."""

    def size(path: Path) -> Size | str:
        try:
            return size_of(path)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(size, images))
    return [each for each in found if not isinstance(each, str)], [each for each in found if isinstance(each, str)]


def _some(texts: Sequence[str]) -> list[str]:
    more = [f"and {len(texts) - _EXAMPLES} more like the last"] if len(texts) > _EXAMPLES else []
    return [*texts[:_EXAMPLES], *more]


def _require_free(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists and is not overwritten: give another --name, or delete the file")


def _write(path: Path, text: str) -> None:
    with output_file(path) as partial:
        partial.write_text(text)
