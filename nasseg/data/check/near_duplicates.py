"""Find images in different splits that look alike: networks would be scored on images they were trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# How many of 64 bits may differ, and by how much thumbnails, 0..255, may differ on average. This finds a frame that was
# saved again, scaled or brightened a little, but not two frames of a drive a second apart.
MAX_BITS, MAX_DIFFERENCE, MIN_CONTRAST = 6, 10.0, 4.0
_ROWS = 256  # compared at a time


@dataclass(frozen=True)
class Look:
    """The look of an image. bits: whether brightness rises from each pixel of a 9 x 8 thumbnail to the next."""

    bits: int
    thumbnail: NDArray[np.uint8]


def look_of(image: NDArray[np.uint8]) -> Look:
    """Return the look of an image [H, W, 3]."""
    grey = Image.fromarray(image).convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    rising = np.packbits(small[:, 1:] > small[:, :-1])
    return Look(int.from_bytes(rising.tobytes()), np.asarray(grey.resize((16, 16), Image.Resampling.BOX)))


def near_duplicates(looks: Mapping[str, Sequence[tuple[Path, Look]]]) -> list[tuple[str, Path, str, Path]]:
    """Return pairs of images of two splits that look alike: each image of the later split once, with its nearest.

    looks: by split. An image without contrast matches none.
    """
    found: list[tuple[str, Path, str, Path]] = []
    names = list(looks)
    for place, split in enumerate(names):
        earlier = [(other, path, look) for other in names[:place] for path, look in looks[other]]
        if not earlier or not looks[split]:
            continue
        bits = np.array([look.bits for _, _, look in earlier], np.uint64)
        thumbnails = np.stack([look.thumbnail for _, _, look in earlier])
        for start in range(0, len(looks[split]), _ROWS):
            rows = looks[split][start : start + _ROWS]
            own = np.array([look.bits for _, look in rows], np.uint64)
            apart = np.bitwise_count(own[:, None] ^ bits)
            for row, (path, look) in enumerate(rows):
                close = np.flatnonzero(apart[row] <= MAX_BITS)
                if not len(close) or look.thumbnail.std() < MIN_CONTRAST:
                    continue
                difference = np.abs(thumbnails[close].astype(np.int16) - look.thumbnail).mean((1, 2))
                if difference.min() <= MAX_DIFFERENCE:
                    other, twin, _ = earlier[close[difference.argmin()]]
                    found.append((split, path, other, twin))
    return found
