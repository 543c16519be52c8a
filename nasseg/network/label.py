"""Make pseudo-labels with a trained network, for `nasseg label`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from nasseg.data.image_file import read_image
from nasseg.data.pseudo_labels import PseudoLabels, begin_labels, list_images
from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.measure.accuracy import IGNORE
from nasseg.network.answers import averaged
from nasseg.network.weighted import find_weighted
from nasseg.records import Size
from nasseg.train.session import check_device, working

SCALES, CONFIDENCE = (0.5, 1.0, 2.0), 0.5  # as printed


@dataclass(frozen=True)
class Labelled:
    """Counts of a labelled folder.

    images: all images of the folder. written: labels written in this call. sure: the mean share of their pixels that
    have a class; None if none was written.
    """

    folder: Path
    images: int
    written: int
    sure: float | None
    interrupted: bool = False


def label_folder(
    address: str | Path,
    images: Path,
    folder: Path,
    *,
    scales: Sequence[float] = SCALES,
    confidence: float = CONFIDENCE,
    device: str = "cpu",
    threads: int = 1,
    storage: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Labelled:
    """Label the pictures below `images` with the trained network at an address. `folder` is then for --pseudo.

    Existing labels are kept, so the same call resumes after an interruption. on_progress: called with the images done
    and the number of all.

    Raises:
        UserError: nothing trained is at the address, there are no pictures, an argument is refused, or a file cannot be
            read or written.
    """
    check_device(device)
    if not scales or not all(0 < scale < math.inf for scale in scales) or not 0 <= confidence < 1 or threads < 1:
        raise UserError(
            "scales above 0, a confidence from 0 to below 1 and at least one thread are needed, got "
            f"{', '.join(map(str, scales))}; {confidence} and {threads}"
        )
    if not images.is_dir():
        raise UserError(f"no folder {images}: give the folder of the pictures to label")
    if images.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"{folder} is inside {images}, so labels would count as pictures: give another folder")
    model, labels = _teacher(str(address), images, tuple(scales), confidence, storage)
    todo, sure, file = begin_labels(folder, labels), [], ""
    try:
        with working(device, threads) as guard:
            with guard():
                model.to(device)
            for file in todo:
                with guard():
                    sure.append(write_label(model, labels, folder, file, device))
                on_progress(len(labels.files) - len(todo) + len(sure), len(labels.files))
    except KeyboardInterrupt:
        return Labelled(folder, len(labels.files), len(sure), _mean(sure), interrupted=True)
    except OSError as error:
        raise UserError(
            f"cannot write {labels.label(folder, file)}: {error.strerror or error}; earlier labels are kept"
        ) from None
    return Labelled(folder, len(labels.files), len(sure), _mean(sure))


def _teacher(
    address: str, images: Path, scales: tuple[float, ...], confidence: float, storage: str | None
) -> tuple[nn.Module, PseudoLabels]:
    weighted = find_weighted(address, storage=storage)
    classes, measurement = weighted.classes, weighted.resolved.measurement
    if classes is None or measurement is None or measurement.cost is None:
        raise UserError(
            f"{address} is not trained, but a teacher must be: give a run's folder, which `nasseg train` prints"
        )
    model, _ = weighted.build(len(classes))
    return model, PseudoLabels(
        images=str(images.resolve()),
        files=list_images(images),
        classes=classes,
        teacher=weighted.sha256,
        scales=scales,
        confidence=confidence,
        size=measurement.cost.protocol.input_size,
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


@torch.inference_mode()
def pseudo_label(
    model: Callable[[Tensor], Tensor],
    picture: NDArray[np.uint8],
    scales: Sequence[float],
    confidence: float,
    size: Size,
    device: str = "cpu",
) -> Tensor:
    """Return the classes of a picture [H, W, 3], uint8 [H, W]: IGNORE where the teacher is not sure.

    Probabilities are averaged over scales and left-right flips. The teacher is sure if the highest one is above the
    confidence. size: see PseudoLabels.
    """
    shape = (picture.shape[0], picture.shape[1])
    found = averaged(model, picture, scales, flip=True, size=size, shape=shape, device=device)
    highest, classes = found.max(0)
    return classes.masked_fill(highest <= confidence, IGNORE).to(torch.uint8)


def write_label(model: nn.Module, labels: PseudoLabels, folder: Path, file: str, device: str) -> float:
    """Label one image; return the share of its pixels that the teacher is sure of.

    Raises:
        UserError: the image cannot be read.
        OSError: the label cannot be written.
    """
    picture = read_image(Path(labels.images) / file)
    found = pseudo_label(model, picture, labels.scales, labels.confidence, labels.size, device).cpu().numpy()
    with written_whole(labels.label(folder, file)) as partial, partial.open("wb") as stream:
        Image.fromarray(found).save(stream, "PNG")
    return float(np.mean(found != IGNORE))
