"""List the files of a data set, and read its text files. Every command sees the same files."""

import os
from collections.abc import Iterator
from pathlib import Path

from nasseg.errors import UserError

PICTURES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm"}
)
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_HIDDEN = (".", "__MACOSX", "@eaDir")  # made by operating systems, not data


def list_files(start: Path, root: Path | None = None, *, deep: bool = True) -> Iterator[Path]:
    """Yield the files in `start` and, if deep, below it, folder by folder in order of names.

    Hidden files are left out. A link to a folder is followed if the folder is outside `root` (default: start) and does
    not contain it. Each such folder is entered once, so circular links end.

    Raises:
        UserError: the start cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    homes = {start.resolve(), (root or start).resolve()}
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        try:
            stat = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder is start:
                raise UserError(f"cannot look into {folder}: {error.strerror}") from None
            continue
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders = []
        for entry in entries:
            if entry.name.startswith(_HIDDEN):
                continue
            if not _is_folder(entry):
                yield folder / entry.name
            elif deep and not (entry.is_symlink() and _is_of(Path(entry.path).resolve(), homes)):
                folders.append(folder / entry.name)
        waiting += reversed(folders)


def list_pictures(start: Path) -> Iterator[Path]:
    """Yield the pictures in a folder and below it."""
    return (path for path in list_files(start) if path.suffix.lower() in PICTURES)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_of(folder: Path, homes: set[Path]) -> bool:
    """Return whether a folder is inside one of the homes, or holds one."""
    return any(folder.is_relative_to(home) or home.is_relative_to(folder) for home in homes)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or UTF-16 with its byte order mark. Lines end with one newline.

    Raises:
        UserError: the file cannot be read, or is of another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    try:
        text = content.decode(_MARKS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"cannot read {path}: line {line} is no UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from None
    if "\0" in text:
        raise UserError(
            f"cannot read {path}: it holds zero bytes, like UTF-16 without a byte order mark; save it as UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, stripped of spaces. Empty lines stay, so that line numbers are right.

    Raises:
        UserError: see read_text.
    """
    return [line.strip() for line in read_text(path).split("\n")]
