"""A cache of results from files on disk: checksums of their content, and splits decoded to arrays.

The cache lies in NASSEG_CACHE, or ~/.cache/nasseg, and may be deleted at any time. A checksum holds until a file's
size, times or inode number change. A split is a folder of arrays, named by a hash of everything that decides them. One
process makes it while others wait. It appears complete or not at all, and replaces the split's older arrays. Shapes are
drawn once, when it is made. Arrays are memory-mapped, so processes share them and they may be larger than the memory.
"""

import errno
import fcntl
import io
import json
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tokenize import TokenError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasseg.data.folder import Sample
from nasseg.data.image_file import fit_image, fit_label, fitted, fitting_size, read_known
from nasseg.data.split import Ragged, Split
from nasseg.errors import UserError
from nasseg.files import cache_folder, written_whole
from nasseg.processes.file_lock import take_lock
from nasseg.records import Size, digest

FORMAT = 3  # of the arrays; another number decodes everything again
_SETTLED_NS = 2_000_000_000  # a file may change twice within a tick of its clock, so a younger one is read again
_INCOMPLETE = (OSError, ValueError, EOFError, TokenError)  # what arrays that are missing or cut short raise
Check = tuple[int, int]  # size and CRC-32


def checksums(root: Path, files: Sequence[Path]) -> list[Check]:
    """Return the size and CRC-32 of each file below `root`. Reads only files that changed since the last call.

    Raises:
        UserError: a file cannot be read.
    """
    store = cache_folder() / f"checksums-{digest(str(root.resolve()))}.json"
    known: dict[str, list[int]] = {}
    with suppress(OSError, ValueError):
        known = json.loads(store.read_text())
    begun = time.time_ns()

    def check(path: Path) -> tuple[str, list[int]]:
        name = path.relative_to(root).as_posix()
        try:
            stat = path.stat()
            times = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            if known.get(name, [])[1:] == times:
                return name, known[name]
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; restore it, or take it out of the data") from None
        return name, [zlib.crc32(content), len(content), *times[1:]]

    with ThreadPoolExecutor() as pool:
        found = dict(pool.map(check, dict.fromkeys(files)))
    settled = {name: row for name, row in found.items() if max(row[2:4]) < begun - _SETTLED_NS}
    if not settled.items() <= known.items():
        with suppress(OSError), written_whole(store) as partial:  # without the cache, it only takes longer
            partial.write_text(json.dumps(known | settled))
    rows = (found[path.relative_to(root).as_posix()] for path in files)
    return [(row[1], row[0]) for row in rows]


def cached_split(home: Path, name: str, samples: Sequence[Sample], checks: Sequence[Check], seen: Size | None) -> Split:
    """Return the decoded samples as a split. Decode them into the folder `home` first if they are not there.

    name: of the split. Labels of `train` are resized with their images, those of other splits keep their size.
    checks: of each sample's image and label, in turn. seen: see Split.

    Raises:
        UserError: a file cannot be used (the message names it), or the disk has no room for the arrays.
    """
    encodings = {id(sample.encoding): sample.encoding for sample in samples}
    place = {known: number for number, known in enumerate(encodings)}
    rows = [[sample.key, place[id(sample.encoding)], sample.entry] for sample in samples]
    rules = [encoding.rules() for encoding in encodings.values()]
    key = digest([FORMAT, name, seen, rows, rules, list(checks)])
    entry = home / f"{name}-{key}"
    with suppress(*_INCOMPLETE):
        return _open(entry, seen)
    try:
        with _locked(home / f"{name}.lock"):
            with suppress(*_INCOMPLETE):  # another process has made it in the meantime
                return _open(entry, seen)
            for old in (*home.glob(f"{name}-*"), *home.glob(f".{name}-*")):
                shutil.rmtree(old, ignore_errors=True)
            partial = home / f".{entry.name}"
            try:
                partial.mkdir()
                _write(partial, samples, seen, with_images=name == "train")
                partial.rename(entry)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            return _open(entry, seen)
    except OSError as error:
        raise UserError(
            f"cannot keep decoded images in {home}: {error.strerror or error}; set NASSEG_CACHE to a folder with room"
        ) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes. The kernel frees it if its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        take_lock(file.fileno(), fcntl.LOCK_EX, f"the decoded images in {path.parent}")
        yield


def _open(entry: Path, seen: Size | None) -> Split:
    """Return a split from its arrays.

    Raises:
        OSError, ValueError, EOFError, TokenError: the arrays are missing or incomplete.
    """
    sizes = np.load(entry / "sizes.npy")
    images = _shaped(_mapped(entry / "images.npy"), sizes[:, :2], (3,))
    labels = _shaped(_mapped(entry / "labels.npy"), sizes[:, 2:], ())
    return Split(images, labels, seen)


def _mapped(path: Path) -> Tensor:
    array = np.load(path, mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the array is read-only, and nobody writes to it
        return torch.from_numpy(array)


def _shaped(flat: Tensor, sizes: NDArray[np.int32], channels: tuple[int, ...]) -> Tensor | Ragged:
    if (sizes == sizes[0]).all():
        return flat.view(len(sizes), *sizes[0].tolist(), *channels)
    return Ragged(flat, tuple((height, width) for height, width in sizes.tolist()), channels)


def _write(folder: Path, samples: Sequence[Sample], seen: Size | None, *, with_images: bool) -> None:
    with ThreadPoolExecutor() as pool:
        stored = list(pool.map(_size, samples))
    if seen is None and len(set(stored)) > 1:
        small, large = (_by(size) for size in (min(stored), max(stored)))
        raise UserError(
            f"images in {samples[0].image.parent} differ in size, {small} to {large}: set the size that networks "
            "see, `size: [HEIGHT, WIDTH]`, in the study's data"
        )
    images = [fitted(size, seen) for size in stored]
    labels = images if with_images else stored
    np.save(folder / "sizes.npy", np.concatenate([np.array(images, np.int32), np.array(labels, np.int32)], 1))
    of_images = np.concatenate([[0], np.cumsum([3 * height * width for height, width in images])])
    of_labels = np.concatenate([[0], np.cumsum([height * width for height, width in labels])])
    needed, free = int(of_images[-1] + of_labels[-1]), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")
    with (folder / "images.npy").open("wb") as image_file, (folder / "labels.npy").open("wb") as label_file:
        image_start, label_start = _header(image_file, of_images[-1]), _header(label_file, of_labels[-1])

        def decode(number: int) -> None:
            sample = samples[number]
            image, label = read_known(sample.image, sample.label, sample.encoding, sample.entry)
            if label.shape != stored[number]:
                raise UserError(f"{sample.image} or {sample.label} changed while it was read: run the command again")
            if seen is not None:
                image = fit_image(image, seen)
                label = fit_label(label, seen) if with_images else label
            _write_at(image_file.fileno(), image, image_start + int(of_images[number]))
            _write_at(label_file.fileno(), label, label_start + int(of_labels[number]))

        with ThreadPoolExecutor() as pool:  # decoding releases the GIL
            list(pool.map(decode, range(len(samples))))
        for file in (image_file, label_file):
            os.fsync(file.fileno())


def _size(sample: Sample) -> Size:
    return fitting_size(sample.image, sample.label, sample.encoding, sample.entry)


def _by(size: Size) -> str:
    return f"{size[1]} x {size[0]}"


def _header(file: io.BufferedWriter, count: int) -> int:
    """Write the header of a NumPy file of `count` bytes, and return the offset of the data."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (int(count),)})
    file.flush()
    return file.tell()


def _write_at(descriptor: int, array: NDArray[np.uint8], offset: int) -> None:
    """Write an array to the file, not to a memory map: a full disk is then an error, not a signal."""
    data = memoryview(np.ascontiguousarray(array).tobytes())
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
