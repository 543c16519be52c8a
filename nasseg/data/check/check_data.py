"""Check a data set on disk: open every file, report its content and its faults. Keeps nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasseg.data.cache import checksums
from nasseg.data.check.data_found import DataFound, SplitFound
from nasseg.data.check.near_duplicates import Look, look_of, near_duplicates
from nasseg.data.class_table import IGNORE, SplitName
from nasseg.data.dataset import find_folder
from nasseg.data.folder import Folder, Matched, Sample, left_over
from nasseg.data.image_file import is_turned, read_sample, unknown_values
from nasseg.errors import UserError
from nasseg.records import Size

_EXAMPLES = 3  # files to name for each kind of fault
_MOSTLY_IGNORED = 0.5
# Edges between classes look like classes with under this share of the pixels, in over this share of the images. A
# dozen of them is too many to be real.
_TINY, _EVERYWHERE, _MANY = 0.002, 0.25, 12


@dataclass(frozen=True)
class _Opened:
    """One sample, opened. fault: why it cannot be used."""

    size: Size | None = None
    counts: NDArray[np.int64] | None = None
    fault: str = ""
    unknown: tuple[int | str, ...] = ()
    turned: bool = False
    look: Look | None = None


@dataclass
class _Findings:
    """The findings so far. broken: faults that make the data unusable; faults: other faults to fix."""

    broken: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_data(name: str | Path, *, limit: int | None = None, **options: Any) -> DataFound:
    """Open the files of a data set, at most `limit` images of each split. Name and options: as in load_data.

    Raises:
        UserError: the data do not exist, or their layout is unknown.
    """
    folder, label, seen = find_on_disk(name, options)
    splits: dict[str, SplitFound] = {}
    matched: dict[SplitName, Matched] = {}
    looks: dict[str, list[tuple[Path, Look]]] = {}
    told = _Findings()
    for split in folder.splits:
        found = folder.matched(split)
        told.broken += _some(found.wrong)
        told.notes += [f"pairs of {split}: {found.pairs(folder.root)}"] * bool(found.samples)
        chosen = spread(found.samples, limit)
        with ThreadPoolExecutor() as pool:
            opened = list(pool.map(_open, chosen))
        splits[split], matched[split] = _counted(folder, split, len(found.samples), opened), found
        looks[split] = [(s.image, each.look) for s, each in zip(chosen, opened, strict=True) if each.look]
        told.broken += _some([each.fault for each in opened if each.fault]) + _unknown(chosen, opened)
        if turned := sum(each.turned for each in opened):
            told.notes.append(f"{turned} images in {split} are read rotated, as their EXIF tag says")
        if splits[split].opened and not splits[split].labelled:
            told.broken.append(f"no pixel in {split} has a class: maybe its labels are not public")
    told.broken += _some(folder.in_two_splits({split: found.samples for split, found in matched.items()}))
    told.notes += left_over(folder.root, matched.values())
    _judge(splits, folder, seen, limit, told)
    told.faults += _alike(looks)
    usable = not told.broken
    fingerprint = folder.fingerprint(lambda files: checksums(folder.root, files), seen) if usable else None
    return DataFound(
        label,
        folder.root,
        folder.layout_name,
        folder.table.names,
        splits,
        told.broken + told.faults,
        told.notes,
        usable,
        fingerprint,
    )


def find_on_disk(name: str | Path, options: Mapping[str, Any]) -> tuple[Folder, str, Size | None]:
    """Return the result of find_folder.

    Raises:
        UserError: the data are drawn, not read; or see find_folder.
    """
    if str(name) == "scenes":
        raise UserError("nasseg draws scenes itself, so there is nothing to check: give a folder or a data set's name")
    return find_folder(name, **options)


def spread(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """Return at most `limit` samples, evenly spread over their order."""
    count = len(samples) if limit is None else min(limit, len(samples))
    return [samples[(2 * place + 1) * len(samples) // (2 * count)] for place in range(count)]


def _open(sample: Sample) -> _Opened:
    try:
        image, label, unknown = read_sample(sample.image, sample.label, sample.encoding, sample.entry)
    except UserError as error:
        return _Opened(fault=str(error))
    bad = tuple(unknown) if sample.encoding.unknown == "error" else ()
    counts = np.bincount(label.ravel(), minlength=256)
    size = (image.shape[0], image.shape[1])
    return _Opened(size, counts, "", bad, is_turned(sample.image), look_of(image))


def _counted(folder: Folder, split: SplitName, count: int, opened: Sequence[_Opened]) -> SplitFound:
    classes = len(folder.table.classes)
    result = SplitFound(count, "; ".join(map(str, folder.splits[split])), [0] * classes, [0] * classes)
    for each in opened:
        if each.counts is None or each.size is None:
            continue
        result.opened += 1
        result.sizes[each.size] += 1
        result.ignored += int(each.counts[IGNORE])
        for number in range(classes):
            result.pixels[number] += int(each.counts[number])
            result.images[number] += bool(each.counts[number])
    return result


def _some(texts: Sequence[str]) -> list[str]:
    """Return the first few."""
    more = [f"and {len(texts) - _EXAMPLES} more like the last"] if len(texts) > _EXAMPLES else []
    return [*texts[:_EXAMPLES], *more]


def _unknown(samples: Sequence[Sample], opened: Sequence[_Opened]) -> list[str]:
    """Return a message for each label value that is out of range, with the number of files that hold it."""
    first: dict[int | str, Sample] = {}
    files: Counter[int | str] = Counter()
    for sample, each in zip(samples, opened, strict=True):
        for value in each.unknown:
            first.setdefault(value, sample)
            files[value] += 1
    rows = sorted(first.items(), key=lambda item: str(item[0]))
    return _some(
        [unknown_values(sample.label, sample.encoding, [value]) + f" ({files[value]} files)" for value, sample in rows]
    )


def _judge(
    splits: Mapping[str, SplitFound], folder: Folder, seen: Size | None, limit: int | None, told: _Findings
) -> None:
    """Judge classes, ignored pixels and sizes of the splits."""
    for name, split in splits.items():
        if split.labelled and split.ignored_share > _MOSTLY_IGNORED:
            told.faults.append(
                f"{split.ignored_share:.0%} of the pixels in {name} are ignored and teach nothing: if they should "
                "count, give their values a class in the class table, such as a background"
            )
        absent = [label for label, pixels in zip(folder.table.names, split.pixels, strict=True) if not pixels]
        if absent and split.labelled and limit is None:
            names = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
            what = {"train": "cannot be learnt", "val": "do not count when networks are chosen"}.get(
                name, "do not count"
            )
            told.faults.append(
                f"{len(absent)} classes do not occur in {name} and {what}: {names}; move images that hold them into "
                "it (`splits` in the class table), or take the classes out"
            )
        if len(split.sizes) > 1 and seen is None:
            told.notes.append(
                f"images of {name} differ in size: a study sets the size that networks see, `size: [H, W]`"
            )
    if tiny := _tiny(splits.get("train"), folder.table.names):
        told.faults.append(
            f"{len(tiny)} classes have under {_TINY:.1%} of the pixels each and are in most images, as edges are: "
            f"{', '.join(tiny[:6])} and more; if they are no classes, set `unknown: nearest` and take them out of "
            "the class table"
        )
    if "test" not in splits:
        why = folder.layout.absent.get("test", "to have one, hold images out by a list or by sequences")
        told.notes.append(f"there is no test split: {why}")


def _tiny(split: SplitFound | None, names: Sequence[str]) -> list[str]:
    """Return the classes that look like edges between others, if there are many."""
    if split is None:
        return []
    found = [
        name
        for name, pixels, images in zip(names, split.pixels, split.images, strict=True)
        if 0 < pixels < _TINY * split.labelled and images > _EVERYWHERE * split.opened
    ]
    return found if len(found) >= _MANY else []


def _alike(looks: Mapping[str, Sequence[tuple[Path, Look]]]) -> list[str]:
    """Return a message about images of two splits that look alike."""
    pairs = near_duplicates(looks)
    if not pairs:
        return []
    some = "; ".join(f"{path} ({split}) looks like {twin} ({other})" for split, path, other, twin in pairs[:_EXAMPLES])
    more = f" and {len(pairs) - _EXAMPLES} more" if len(pairs) > _EXAMPLES else ""
    return [
        f"{len(pairs)} images are nearly the same in two splits, so accuracy comes out too high: {some}{more}; "
        "keep them in one split (`sequences` and `without`, or a list, in the class table)"
    ]
