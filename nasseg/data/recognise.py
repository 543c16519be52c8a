"""Find the class table that describes a folder's layout."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nasseg.data.class_table import ClassTable, Layout, Part
from nasseg.data.templates import static_folder
from nasseg.errors import UserError


@dataclass(frozen=True)
class Recognised:
    """Data laid out as a class table describes. `at`: the folder given, or the one folder below it with the data."""

    table_name: str
    table: ClassTable
    at: Path
    layout: str


def recognise(root: Path, tables: dict[str, ClassTable], layout: str | None = None) -> Recognised:
    """Return the first layout of the first table that fits.

    Raises:
        UserError: none does (the message names the nearest), or several folders below `root` fit.
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
    text = f"{root} is not laid out like any data set that nasseg knows"
    if any(shares):
        name, label, best = candidates[shares.index(max(shares))]
        text += f": as {name} ({label}) it would need {', '.join(lacks(root, tables[name], best))}"
    raise UserError(f"{text}; `nasseg init --data {root}` writes a class table for it")


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
    """Return the missing folders and lists of the layout's splits."""
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
                found[part.list_file] = list_at(part.list_file, root, table) is not None
    return found


def list_at(name: str, root: Path, table: ClassTable) -> Path | None:
    """Return a list file below the data's folder or beside the class table; None if there is none."""
    return next((path for home in (root, table.home) if home and (path := home / name).is_file()), None)


def missing_of(root: Path, layout: Layout, part: Part) -> bool:
    """Return whether the folder of a part's images is missing."""
    return not static_folder(root, layout.images, part).is_dir()


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    except OSError as error:
        raise UserError(f"cannot look into {root}: {error.strerror}") from None
