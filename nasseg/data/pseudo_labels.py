"""Pseudo-labels for self-training (ESeg, Section 4.4): a trained network labels images, another learns from them.

A folder of pseudo-labels holds `pseudo.json`, which names the images, the teacher and its settings, and `labels/`, one
PNG for each image: class numbers, 255 where the teacher was not sure. The images stay where they are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nasseg.data.class_table import Encoding
from nasseg.data.folder import Sample
from nasseg.data.list_files import PICTURES, list_pictures
from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.measure.accuracy import IGNORE


class PseudoLabels(BaseModel):
    """The content of `pseudo.json`. images: their folder; files: their names below it. teacher: SHA-256 of its weights.

    size: what the teacher saw in training, [height, width], and how it sees these images at scale 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    images: str
    files: tuple[str, ...]
    classes: tuple[str, ...]
    teacher: str
    scales: tuple[float, ...]
    confidence: float
    size: tuple[int, int]

    def label(self, folder: Path, file: str) -> Path:
        """Return the path of an image's label."""
        return folder / "labels" / f"{file}.png"


def list_images(images: Path) -> tuple[str, ...]:
    """Return the pictures in a folder and below, by their names below it.

    Raises:
        UserError: there are none.
    """
    names = tuple(sorted(path.relative_to(images).as_posix() for path in list_pictures(images)))
    if not names:
        raise UserError(f"no pictures in {images}: a folder with {', '.join(sorted(PICTURES))} below it is needed")
    return names


def begin_labels(folder: Path, wanted: PseudoLabels) -> list[str]:
    """Write `pseudo.json`, or check that the existing one is the same. Return the images without a label so far.

    Raises:
        UserError: the folder holds other pseudo-labels, or cannot be written to.
    """
    if (folder / "pseudo.json").exists():
        known = read_labels(folder)
        different = [name for name in type(wanted).model_fields if getattr(known, name) != getattr(wanted, name)]
        if different:
            raise UserError(
                f"{folder} holds pseudo-labels that differ in {', '.join(different)}: give another folder, or remove it"
            )
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with written_whole(folder / "pseudo.json") as partial:
                partial.write_text(wanted.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None
    return [file for file in wanted.files if not wanted.label(folder, file).exists()]


def read_labels(folder: Path) -> PseudoLabels:
    """Return the content of `pseudo.json`.

    Raises:
        UserError: there are none, or `pseudo.json` is damaged.
    """
    path = folder / "pseudo.json"
    try:
        return PseudoLabels.model_validate_json(path.read_bytes())
    except OSError:
        raise UserError(f"no pseudo-labels in {folder}: there is no {path}; `nasseg label` makes them") from None
    except ValidationError as error:
        raise UserError(f"{path} is damaged ({error.errors()[0]['msg']}): label the images again") from None


def pseudo_samples(folder: Path, classes: Sequence[str]) -> tuple[Path, list[Sample]]:
    """Return the folder of the images, and each with its label.

    Raises:
        UserError: labels are missing, or of other classes.
    """
    found = read_labels(folder)
    if found.classes != tuple(classes):
        raise UserError(
            f"the pseudo-labels in {folder} have the classes {', '.join(found.classes)}, the data have "
            f"{', '.join(classes)}: both must be the same, in the same order"
        )
    missing = sum(not found.label(folder, file).is_file() for file in found.files)
    if missing:
        raise UserError(
            f"{missing} of {len(found.files)} images in {folder} have no pseudo-label yet: run `nasseg label` "
            "again to continue"
        )
    encoding = Encoding("numbers", tuple((number, number) for number in [*range(len(classes)), IGNORE]))
    images = Path(found.images)
    return images, [Sample(file, images / file, found.label(folder, file), encoding) for file in found.files]
