"""Beginning with data of one's own: look at a folder, write a class table and a study for it.

What is found is a guess from names and values: pairs of folders whose pictures have the same names, label values, and
words like train and val. The table says it in a form that is easily corrected, and `nasseg data check` shows it.
"""

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasseg.data.class_table import Holds, list_tables, read_table
from nasseg.data.dataset import find_folder
from nasseg.data.folder import recognise
from nasseg.data.guess_layout import WORDS, Pair, class_rows, find_pairs, find_values
from nasseg.data.image_file import size_of
from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.records import Size

_HELD_OUT = 5  # one of so many is held out where nothing says what is for validation


@dataclass(frozen=True)
class Begun:
    """What was written; table is None for a data set that nasseg knows."""

    table: Path | None
    study: Path
    lists: tuple[Path, ...]
    found: tuple[str, ...]


def begin(path: str | Path, *, name: str | None = None, into: Path | None = None) -> Begun:
    """Write studies/NAME.yaml below `into` (here), and datasets/NAME.yaml unless nasseg knows the data set.

    Raises:
        UserError: there is nothing to begin with, it makes no sense, or a file is there already.
    """
    root, into = Path(path).expanduser().resolve(), into or Path.cwd()
    if not root.is_dir():
        raise UserError(f"no folder {path}: --data is the folder that holds images and labels")
    name = name or re.sub(r"[^a-z0-9_-]+", "-", root.name.lower()).strip("-") or "data"
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"a name is of letters, digits, _ and -, for files are called so; got {name!r}")
    table, study = into / "datasets" / f"{name}.yaml", into / "studies" / f"{name}.yaml"
    known = _known(root)
    if known is not None:
        _require_free([study])
        samples = [sample for each in find_folder(known, root=root)[0].samples.values() for sample in each]
        sizes = _sizes(sample.image for sample in samples)
        _write(study, _study(name, {"name": known, "root": str(root)}, sizes))
        return Begun(None, study, (), (f"{root} is laid out like {known}: its class table comes with nasseg",))
    pairs, found = find_pairs(root)
    splits, lists = _splits(name, pairs)
    files = {table.parent / file: text for file, text in lists.items()}
    _require_free([table, study, *files])
    hold, values = find_values([label for pair in pairs for _, label in pair.files])
    classes, ignored = class_rows(values, hold, found)
    sizes = _sizes([image for pair in pairs for image, _ in pair.files])
    for file, text in files.items():
        _write(file, text)
    _write(table, _table(root, pairs[0], hold, classes, ignored, splits))
    _write(study, _study(name, {"name": name}, sizes))
    folder = find_folder(table)[0]
    found += [f"{split}: {len(samples):,} images" for split, samples in folder.samples.items()]
    return Begun(table, study, tuple(files), tuple(found))


def _known(root: Path) -> str | None:
    tables = {name: read_table(file) for name, file in list_tables().items()}
    try:
        return recognise(root, {name: table for name, table in tables.items() if table.root is None}).table_name
    except UserError:
        return None


def _sizes(images: Iterable[Path]) -> list[Size]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(size_of, images))


def _splits(name: str, pairs: Sequence[Pair]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The splits as a class table has them, and list files with their content."""
    folders: dict[str, list[str]] = {}
    for pair in pairs:
        folders.setdefault(WORDS.get(pair.word.lower(), "train"), []).append(pair.word)
    place = {split: {"folder": words[0]} if words[0] else {} for split, words in folders.items()}
    if "train" not in place:
        place = {"train": place.popitem()[1]}
    if "val" in place:
        return place, {}
    keys = sorted(key for pair in pairs for key in pair.keys if pair.word == place["train"].get("folder", ""))
    groups = sorted({key.rpartition("/")[0] for key in keys})
    if len(groups) >= 3:
        last = groups[-max(1, len(groups) // _HELD_OUT) :]
        return {"train": place["train"] | {"without": last}, "val": place["train"] | {"sequences": last}} | {
            split: part for split, part in place.items() if split == "test"
        }, {}
    if len(keys) < 2:
        raise UserError(f"one labelled image, {keys}, is too little: one to train with and one to choose by are needed")
    cut = len(keys) - max(1, len(keys) // _HELD_OUT)  # neighbours in time stay on one side
    parts = {"train": keys[:cut], "val": keys[cut:]}
    lists = {f"{name}-{split}.txt": "\n".join(part) + "\n" for split, part in parts.items()}
    return place | {split: place["train"] | {"list": f"{name}-{split}.txt"} for split in parts}, lists


def _table(
    root: Path, pair: Pair, hold: Holds, classes: list[dict[str, Any]], ignored: list[Any], splits: dict[str, Any]
) -> str:
    rows = "".join(f"  - {_flow(row)}\n" for row in classes)
    ignore = f"ignore: {_flow({hold: ignored})}\n" if ignored else ""
    return (
        "# Written by nasseg init from what it found. Give the classes their names, see that splits are as you want\n"
        "# them, and look at the result with nasseg data check.\n"
        f"root: {json.dumps(str(root))}\n"
        f"classes:  # in the order of the network's outputs\n{rows}{ignore}"
        "unknown: error  # of label values in neither of these; or ignore\n"
        "layouts:\n  own:\n"
        f"    images: {json.dumps(pair.images)}\n"
        f"    labels: [{_flow({'path': pair.labels, 'hold': hold})}]\n"
        "    splits:  # train; val to choose by; test is held out, and used once\n"
        + "".join(f"      {split}: {_flow(part)}\n" for split, part in splits.items())
    )


def _study(name: str, data: dict[str, Any], sizes: Sequence[Size]) -> str:
    many = len(set(sizes)) > 1
    height, width = (sorted(side)[len(sizes) // 2] for side in zip(*sizes, strict=True))
    if many:
        height, width = (max(32, side // 32 * 32) for side in (height, width))
        data = {**data, "size": [height, width]}
    crop = [min(height, 256), min(width, 512)]
    small = min(height, width) < 200
    return (
        "# Written by nasseg init: a first search, to be made your own.\n"
        f"question: Which small network gives the most accuracy on {name} for its multiply-adds and latency?\n"
        "expected: see `nasseg search NAME --dry-run` for the time; write down here what you expect\n"
        f"space: {'quickstart' if small else 'camvid-quick'}\n"
        f"data: {_flow(data)}\n"
        "objectives: [miou, macs, latency_ms]\n"
        f"recipe: {{steps: 400, batch_size: 8, crop_size: {crop}, scale_range: [0.75, 1.5], jitter: 0.2,\n"
        "         warmup_steps: 40, ema_decay: 0.98}\n"
        "halving: {rungs: [45, 133], factor: 3}  # in steps; of each rung the best third goes on\n"
        "latency: {device: cpu, threads: 1}\n"
        "trials: 72  # as much training as 19 networks to the end\n"
        "workers: 1\n"
    ).replace("NAME", name)


def _flow(value: dict[str, Any]) -> str:
    """One line of YAML: JSON is YAML, but keys and simple words need no quotes."""
    return "{" + ", ".join(f"{key}: {json.dumps(item)}" for key, item in value.items()) + "}"


def _require_free(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise UserError(f"{path} is there already and is not overwritten: give another --name, or delete it")


def _write(path: Path, text: str) -> None:
    try:
        with written_whole(path) as partial:
            partial.write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
