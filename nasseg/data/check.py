"""What a data set on disk holds and what is wrong with it: every file is opened, and nothing is kept."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasseg.data.cache import checksums
from nasseg.data.class_table import IGNORE, SplitName
from nasseg.data.dataset import find_folder
from nasseg.data.folder import Folder, Sample
from nasseg.data.image_file import is_turned, read_image, read_label, unknown_values
from nasseg.errors import UserError
from nasseg.records import Size

_EXAMPLES = 3  # of a kind of fault that are told


@dataclass
class SplitFound:
    """A split: how many images, by what rule; images of each (width, height); pixels and images of each class."""

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


@dataclass
class DataFound:
    """A data set. faults: what keeps it from being used, or should; notes: what is worth knowing."""

    name: str
    root: Path
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, SplitFound]
    faults: list[str]
    notes: list[str]
    fingerprint: str | None

    def lines(self) -> list[str]:
        """All but the classes, as sentences."""
        found = [f"{self.name}: {self.root}, laid out as {self.layout}; {len(self.classes)} classes"]
        for name, split in self.splits.items():
            each = [f"{w} x {h}" + f" ({n})" * (len(split.sizes) > 1) for (h, w), n in split.sizes.most_common(3)]
            each += [f"{len(split.sizes) - 3} more sizes"] * (len(split.sizes) > 3)
            opened = f" ({split.opened} opened)" if split.opened < split.count else ""
            share = split.ignored / max(1, split.ignored + split.labelled)
            images = f"{split.count:,} images{opened}"
            found.append(f"{name}: {images}, {split.rule}; {', '.join(each)}; {share:.1%} ignored")
        found += [f"note: {text}" for text in self.notes]
        found += [f"fault: {text}" for text in self.faults]
        found.append(f"fingerprint {self.fingerprint}" if self.fingerprint else "not to be used before that is mended")
        return found

    def histogram(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows: of each class its share of the labelled pixels and the images it is in, by split."""
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
        """Plain data, sizes as [width, height, images]."""
        plain = {
            name: {**vars(split), "sizes": [[w, h, n] for (h, w), n in split.sizes.most_common()]}
            for name, split in self.splits.items()
        }
        return {**vars(self), "root": str(self.root), "classes": list(self.classes), "splits": plain}


@dataclass(frozen=True)
class _Look:
    """One sample, opened."""

    size: Size | None = None
    counts: NDArray[np.int64] | None = None
    fault: str = ""
    unknown: tuple[int, ...] = ()
    turned: bool = False


def check_data(name: str | Path, *, limit: int | None = None, **options: Any) -> DataFound:
    """Open the files of a data set, at most `limit` images of a split; name and options are those of load_data.

    Raises:
        UserError: it is not there at all, or nothing recognises it.
    """
    folder, label, seen = find_on_disk(name, options)
    table = folder.table
    splits: dict[str, SplitFound] = {}
    matched: dict[SplitName, list[Sample]] = {}
    faults: list[str] = []
    notes: list[str] = []
    for split, parts in folder.splits.items():
        found = folder.matched(split)
        faults += _some(found.wrong)
        if found.orphans:
            notes.append(f"{len(found.orphans)} labels in {split} have no image, {found.orphans[0]} is one")
        chosen = spread(found.samples, limit)
        result = SplitFound(
            len(found.samples), "; ".join(map(str, parts)), [0] * len(table.classes), [0] * len(table.classes)
        )
        with ThreadPoolExecutor() as pool:
            looks = list(pool.map(_look, chosen))
        _count(result, looks)
        faults += _some([look.fault for look in looks if look.fault])
        faults += _unknown(chosen, looks)
        if turned := sum(look.turned for look in looks):
            notes.append(f"{turned} images in {split} are to be shown turned by their EXIF note, which is not followed")
        if result.opened and not result.labelled:
            faults.append(f"no pixel in {split} is of any class: its labels may not be public")
        splits[split], matched[split] = result, found.samples
    faults += _some(folder.in_two_splits(matched))
    notes += _about(splits, table.names, folder, seen, limit)
    if not faults:
        notes += _twins(folder)
    fingerprint = None
    if not faults:
        fingerprint = folder.fingerprint(lambda files: checksums(folder.root, files), seen)
    return DataFound(label, folder.root, folder.layout_name, table.names, splits, faults, notes, fingerprint)


def find_on_disk(name: str | Path, options: Mapping[str, Any]) -> tuple[Folder, str, Size | None]:
    if str(name) == "scenes":
        raise UserError("scenes are drawn and not read, there is nothing to check: give a folder or a data set's name")
    return find_folder(name, **options)


def spread(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """So many, evenly over their order."""
    count = len(samples) if limit is None else min(limit, len(samples))
    return [samples[(2 * place + 1) * len(samples) // (2 * count)] for place in range(count)]


def _look(sample: Sample) -> _Look:
    try:
        image = read_image(sample.image)
        label, unknown = read_label(sample.label, sample.encoding)
    except UserError as error:
        return _Look(fault=str(error))
    size = (image.shape[0], image.shape[1])
    fault = ""
    if label.shape != size:
        fault = f"{sample.label} is {label.shape[1]} x {label.shape[0]} but its image is {size[1]} x {size[0]}"
    counts = np.bincount(label.ravel(), minlength=256)
    bad = tuple(unknown) if sample.encoding.unknown == "error" else ()
    return _Look(size, counts, fault, bad, is_turned(sample.image))


def _count(result: SplitFound, looks: Sequence[_Look]) -> None:
    for look in looks:
        if look.counts is None or look.size is None:
            continue
        result.opened += 1
        result.sizes[look.size] += 1
        result.ignored += int(look.counts[IGNORE])
        for number in range(len(result.pixels)):
            result.pixels[number] += int(look.counts[number])
            result.images[number] += bool(look.counts[number])


def _some(texts: Sequence[str]) -> list[str]:
    """The first few."""
    more = [f"and {len(texts) - _EXAMPLES} more like the last"] if len(texts) > _EXAMPLES else []
    return [*texts[:_EXAMPLES], *more]


def _unknown(samples: Sequence[Sample], looks: Sequence[_Look]) -> list[str]:
    """One message a label value that is out of range, with the number of files that hold it."""
    first: dict[int, Sample] = {}
    files: Counter[int] = Counter()
    for sample, look in zip(samples, looks, strict=True):
        for value in look.unknown:
            first.setdefault(value, sample)
            files[value] += 1
    return _some([
        unknown_values(sample.label, sample.encoding, [value]) + f" ({files[value]} files)"
        for value, sample in sorted(first.items())
    ])  # fmt: skip


def _about(
    splits: Mapping[str, SplitFound], classes: Sequence[str], folder: Folder, seen: Size | None, limit: int | None
) -> list[str]:
    found = []
    for name, split in splits.items():
        absent = [label for label, pixels in zip(classes, split.pixels, strict=True) if not pixels]
        if absent and split.labelled and limit is None:
            names = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
            found.append(f"{len(absent)} classes do not occur in {name}: {names}")
        if len(split.sizes) > 1 and seen is None:
            found.append(f"images of {name} are of many sizes: a study says at which networks see them, `size: [H, W]`")
    if "test" not in splits:
        why = folder.layout.absent.get("test", "hold images out by a list or by sequences to have one")
        found.append(f"there is no test split: {why}")
    return found


def _twins(folder: Folder) -> list[str]:
    """Images of two splits with the same content: what is measured on one was learnt on the other."""
    where: dict[tuple[int, int], tuple[str, Path]] = {}
    twins: list[tuple[Path, Path]] = []
    for split, samples in folder.samples.items():
        for sample, check in zip(samples, checksums(folder.root, [s.image for s in samples]), strict=True):
            other = where.setdefault(check, (split, sample.image))
            if other[0] != split:
                twins.append((sample.image, other[1]))
    if not twins:
        return []
    return [f"{len(twins)} images are in two splits under different names: {twins[0][0]} is {twins[0][1]}"]
