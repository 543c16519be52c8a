"""List files: text or CSV files that name the samples of a split, one per line."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from nasseg.data.list_files import read_lines
from nasseg.data.templates import tails


class Spellings:
    """The ways to name a sample: its image's or label's path, or its key, below any folder, with or without suffix."""

    def __init__(self, root: Path, files: Iterable[Mapping[str, Path]]) -> None:
        self._keys: dict[str, set[str]] = {}
        for each in files:
            for key, file in each.items():
                for text in (file.relative_to(root).as_posix(), key):
                    for tail in tails(text):
                        self._keys.setdefault(tail, set()).add(key)
                        self._keys.setdefault(tail.removesuffix(file.suffix), set()).add(key)

    def find(self, texts: Iterable[str]) -> list[str]:
        """Return the keys of the samples that the first known text may stand for."""
        ends = (tail for text in texts for tail in tails(text))
        known = (way for tail in ends for way in (tail, tail.rpartition(".")[0]) if way in self._keys)
        return sorted(self._keys.get(next(known, ""), set()))


def listed(path: Path, spellings: Spellings) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the number of each line, its text, and the keys that the text may stand for.

    The first line of a CSV file may be a header.

    Raises:
        UserError: the file cannot be read.
    """
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        words = next(csv.reader([line])) if path.suffix.lower() == ".csv" else [line, *reversed(line.split())]
        texts = [word.strip().replace("\\", "/").strip("/").removeprefix("./") for word in words]
        keys = spellings.find(texts)
        if keys or number > 1 or path.suffix.lower() != ".csv":
            yield number, texts[-1] if len(texts) < 3 else texts[1], keys
