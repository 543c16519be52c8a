"""A network's example predictions, kept beside its weights: two validation images in a zip file of pictures."""

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nasseg.analyse.trials import on_front
from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.processes.collection import no_collection
from nasseg.records import Example, StudyRecord
from nasseg.study.store.storage import runs_folder
from nasseg.study.store.trial_attributes import EVAL_KEY
from nasseg.study.store.weight_store import PREDICTIONS, WeightStore, recorded_place

if TYPE_CHECKING:  # readers need no torch
    from torch import Tensor

    from nasseg.data.dataset import DataSet

_PICTURE = re.compile(r"(\d{1,9})-(image|labels|prediction)\.webp")
_LARGEST = 1 << 20  # largest file in it, in bytes; a hundred times what is written


def example_numbers(images: int) -> tuple[int, ...]:
    """Return the numbers of the validation images that are examples, the same for all networks."""
    return tuple(sorted({images // 3, 2 * images // 3}))


def write_predictions(path: Path, data: "DataSet", predicted: Mapping[int, "Tensor"]) -> None:
    """Write a network's examples. predicted: its classes [H, W] by image.

    Raises:
        OSError: the file cannot be written.
    """
    from nasseg.train.pictures import example_pictures

    seen: set[int] = set()
    with written_whole(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for number, classes in predicted.items():
            seen |= {*np.unique(classes).tolist(), *np.unique(data.val.labels[number]).tolist()}
            for name, content in example_pictures(data, number, classes.numpy()).items():
                archive.writestr(f"{number}-{name}.webp", content)
        colours = [f"#{bytes(colour).hex()}" for colour in data.colours]
        shown = [(data.classes[k], colours[k]) for k in range(data.num_classes) if k in seen]
        archive.writestr("classes.json", json.dumps(shown))


@no_collection()  # it is often the first to look at each measurement, which is then made
def with_examples(record: StudyRecord) -> StudyRecord:
    """Return the record with the examples of its front that were kept and can be read."""
    place = record.extra.get("weights")
    try:
        store = WeightStore(recorded_place(place, record.name) if place else runs_folder(record.name))
    except UserError:  # the record was changed by hand
        return record
    front = [trial for trial, on in zip(record.trials, on_front(record).tolist(), strict=True) if on]
    found = {}
    for trial in front:
        try:
            content = store.read(str(trial.extra.get(EVAL_KEY, "none")), PREDICTIONS)
            if content is not None:
                found[trial.number] = read_examples(content)
        except Exception:  # a report does without; a damaged file raises what its bytes happen to mean
            continue
    return replace(record, examples=found) if found else record


def read_examples(content: bytes) -> tuple[Example, ...]:
    """Return the examples of a file.

    Raises:
        ValueError, KeyError, BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if any(info.file_size > _LARGEST for info in archive.infolist()):
            raise ValueError("too large for examples")
        pictures: dict[int, dict[str, bytes]] = {}
        for name in archive.namelist():
            if found := _PICTURE.fullmatch(name):
                pictures.setdefault(int(found[1]), {})[found[2]] = archive.read(name)
        listed = json.loads(archive.read("classes.json"))
    classes = tuple((str(name), colour) for name, colour in listed if re.fullmatch("#[0-9a-f]{6}", colour))
    if any(content[:4] != b"RIFF" for one in pictures.values() for content in one.values()):
        raise ValueError("no WebP")
    return tuple(
        Example(number=n, image=p["image"], labels=p["labels"], prediction=p["prediction"], classes=classes)
        for n, p in sorted(pictures.items())
    )
