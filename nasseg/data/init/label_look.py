"""Tell label maps from photographs: they have large areas of one value, and few values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasseg.data.image_file import read_stored
from nasseg.errors import UserError

_LOOKED_AT = 3  # files of a set
_FEW = 64  # most values of a lossless label map
_FLAT, _COVERED, _LARGEST = 0.8, 0.8, 8  # any other one is mostly areas, most of them of its 8 most frequent values


@dataclass(frozen=True)
class _Look:
    """The look of a picture's pixels.

    values: how many different ones. flat: share of pixels like those to the right and below. covered: share of pixels
    with the _LARGEST most frequent values.
    """

    values: int
    flat: float
    covered: float
    lossy: bool

    @property
    def may_be_label(self) -> bool:
        few = self.values <= _FEW and not self.lossy
        return few or (self.flat >= _FLAT and self.covered >= _COVERED)


class LabelLook:
    """Looks at label files, each once."""

    def __init__(self) -> None:
        self._known: dict[Path, _Look | None] = {}

    def are_labels(self, labels: Sequence[Path], images: Sequence[Path], hint: int) -> bool:
        """Return whether files are the labels of others.

        hint: above 0 if the names say so, below 0 if they say the reverse. Unreadable files do not count.
        """
        ours = [look for path in _some(labels) if (look := self._look(path))]
        theirs = [look for path in _some(images) if (look := self._look(path))]
        if not ours or not all(look.may_be_label for look in ours):
            return False
        if not all(look.may_be_label for look in theirs) or not theirs:
            return True
        simple = sum(look.values for look in ours) < sum(look.values for look in theirs)
        return hint > 0 or (hint == 0 and simple)

    def _look(self, path: Path) -> _Look | None:
        if path not in self._known:
            self._known[path] = _look(path)
        return self._known[path]


def _some(paths: Sequence[Path]) -> Sequence[Path]:
    return paths[:: max(1, len(paths) // _LOOKED_AT)][:_LOOKED_AT]


def _look(path: Path) -> _Look | None:
    try:
        _, stored = read_stored(path)
    except UserError:
        return None
    _, counts = np.unique(stored, return_counts=True)
    flat = (stored[:-1, :-1] == stored[1:, :-1]) & (stored[:-1, :-1] == stored[:-1, 1:])
    largest = np.sort(counts)[-_LARGEST:].sum()
    lossy = path.suffix.lower() in (".jpg", ".jpeg", ".jfif", ".webp")
    return _Look(len(counts), float(flat.mean()) if flat.size else 1.0, float(largest / stored.size), lossy)
