"""The result of checking a data set: its content, its faults, and notes."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nasseg.records import Size


@dataclass
class SplitFound:
    """A split: its number of images, its rule, its images by size, its pixels and images by class."""

    count: int
    rule: str
    pixels: list[int]
    images: list[int]
    opened: int = 0
    ignored: int = 0
    sizes: Counter[Size] = field(default_factory=Counter)

    @property
    def labelled(self) -> int:
        return sum(self.pixels)

    @property
    def ignored_share(self) -> float:
        return self.ignored / max(1, self.ignored + self.labelled)


@dataclass
class DataFound:
    """A checked data set. faults: what to fix, each with a remedy; usable: whether it can be read despite them.

    fingerprint: None if it is not usable. notes: other things worth knowing.
    """

    name: str
    root: Path
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, SplitFound]
    faults: list[str]
    notes: list[str]
    usable: bool
    fingerprint: str | None

    def lines(self) -> list[str]:
        """Return everything but the classes, as sentences."""
        found = [f"{self.name}: {self.root}, laid out as {self.layout}; {len(self.classes)} classes"]
        for name, split in self.splits.items():
            each = [f"{w} x {h}" + f" ({n})" * (len(split.sizes) > 1) for (h, w), n in split.sizes.most_common(3)]
            each += [f"{len(split.sizes) - 3} more sizes"] * (len(split.sizes) > 3)
            opened = f" ({split.opened} opened)" if split.opened < split.count else ""
            images = f"{split.count:,} images{opened}"
            found.append(f"{name}: {images}, {split.rule}; {', '.join(each)}; {split.ignored_share:.1%} ignored")
        found += [f"note: {text}" for text in self.notes]
        found += [f"fault: {text}" for text in self.faults]
        if not self.usable:
            return [*found, "cannot be used before this is fixed"]
        return [*found, *["can be used, but see the faults"] * bool(self.faults), f"fingerprint {self.fingerprint}"]

    def histogram(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: for each class, by split, its share of the labelled pixels and its images."""
        head = ["class", *(f"{name}, {what}" for name in self.splits for what in ("% of pixels", "images"))]
        rows = []
        for number, label in enumerate(self.classes):
            cells = (
                (f"{100 * split.pixels[number] / max(1, split.labelled):.3g}", f"{split.images[number]:,}")
                for split in self.splits.values()
            )
            rows.append([label, *(text for pair in cells for text in pair)])
        return head, rows

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, sizes as [width, height, images]."""
        plain = {
            name: {**vars(split), "sizes": [[w, h, n] for (h, w), n in split.sizes.most_common()]}
            for name, split in self.splits.items()
        }
        return {**vars(self), "root": str(self.root), "classes": list(self.classes), "splits": plain}
