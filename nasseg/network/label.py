"""Pseudo-labels from a finished run, for `nasseg label`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.data.image_file import read_image
from nasseg.data.pseudo_labels import PseudoLabels, begin_labels, list_images
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.files import written_whole
from nasseg.measure.accuracy import IGNORE
from nasseg.network.export import load_strictly
from nasseg.own_code import of_record
from nasseg.records import Size
from nasseg.train.run import stored_result
from nasseg.train.session import check_device, working
from nasseg.train.views.network_input import fit, map_back, place
from nasseg.train.weights import weights_hash

SCALES, CONFIDENCE = (0.5, 1.0, 2.0), 0.5  # as printed
_SMALLEST = 32  # every network takes a side of this length


@dataclass(frozen=True)
class Labelled:
    """Counts of a labelled folder.

    images: all; written: in this call; sure: mean share of their pixels that have a label.
    """

    folder: Path
    images: int
    written: int
    sure: float | None
    interrupted: bool = False


def label_folder(
    run: Path,
    images: Path,
    folder: Path,
    *,
    scales: Sequence[float] = SCALES,
    confidence: float = CONFIDENCE,
    device: str = "cpu",
    threads: int = 1,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Labelled:
    """Label the pictures below `images` with best.pt of a run; --pseudo then takes `folder`.

    Existing labels are kept, so that the same call resumes after an interruption. on_progress: images done, of how
    many.

    Raises:
        UserError: the run is not finished, there are no pictures, an argument is refused, or something cannot be read
            or
            written.
    """
    check_device(device)
    if not scales or not all(0 < scale < math.inf for scale in scales) or not 0 <= confidence < 1 or threads < 1:
        raise UserError(
            "scales above 0, a confidence from 0 to below 1 and at least one thread are needed, got "
            f"{', '.join(map(str, scales))}; {confidence} and {threads}"
        )
    if not images.is_dir():
        raise UserError(f"no folder {images}: give the one that holds the pictures to label")
    if images.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"{folder} lies in {images}, and its labels would be taken for pictures: give another folder")
    model, labels = _teacher(run, images, tuple(scales), confidence)
    todo, sure, file = begin_labels(folder, labels), [], ""
    try:
        with working(device, threads) as guard:
            model.to(device)
            for file in todo:
                with guard():
                    sure.append(write_label(model, labels, folder, file, device))
                on_progress(len(labels.files) - len(todo) + len(sure), len(labels.files))
    except KeyboardInterrupt:
        return Labelled(folder, len(labels.files), len(sure), _mean(sure), interrupted=True)
    except OSError as error:
        raise UserError(
            f"cannot write {labels.label(folder, file)}: {error.strerror or error}; the labels before it are kept"
        ) from None
    return Labelled(folder, len(labels.files), len(sure), _mean(sure))


def _teacher(run: Path, images: Path, scales: tuple[float, ...], confidence: float) -> tuple[nn.Module, PseudoLabels]:
    result = stored_result(run)
    if result is None:
        raise UserError(f"{run} holds no finished run: `nasseg train` names the folders of its runs")
    weights = run / "best.pt"
    teacher = weights_hash(weights)
    if teacher != result.weights["best.pt"]:
        raise UserError(f"{weights} is not the run's file (SHA-256 differs): train again, in another folder")
    family, cost = str(result.arch["family"]), result.measurement.cost
    assert cost is not None
    classes = tuple(result.best.class_iou)
    with of_record(None):
        arch = make_arch(family, **{name: value for name, value in result.arch.items() if name != "family"})
    model = load_strictly(arch.build(len(classes)), weights.read_bytes(), f"the weights in {weights}").eval()
    return model, PseudoLabels(
        images=str(images.resolve()),
        files=list_images(images),
        classes=classes,
        teacher=teacher,
        scales=scales,
        confidence=confidence,
        size=cost.protocol.input_size,
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
    """Return classes [H, W] of a picture [H, W, 3]: probabilities, averaged over scales and left-right flips.

    Probabilities are averaged over scales and left-right flips; the teacher is sure where the highest is above the
    confidence. size: see PseudoLabels.
    """
    shape, total = (picture.shape[0], picture.shape[1]), torch.zeros((), device=device)
    for scale in scales:
        seen = max(_SMALLEST, round(scale * size[0])), max(_SMALLEST, round(scale * size[1]))
        image = fit(picture, seen).to(device)
        plain, mirrored = (model(place([view], seen)).softmax(1) for view in (image, image.flip(1)))
        both = plain + F.pad(mirrored[..., : image.shape[1]].flip(3), (0, seen[1] - image.shape[1]))
        total = total + torch.cat([part for _, part in map_back(both, image.shape, shape)], 2)
    highest, classes = (total[0] / (2 * len(scales))).max(0)
    return classes.masked_fill(highest <= confidence, IGNORE).to(torch.uint8)


def write_label(model: nn.Module, labels: PseudoLabels, folder: Path, file: str, device: str) -> float:
    """Label one image, and return the share of its pixels that the teacher is sure of.

    Raises:
        UserError: the image cannot be read.
        OSError: the label cannot be written.
    """
    picture = read_image(Path(labels.images) / file)
    found = pseudo_label(model, picture, labels.scales, labels.confidence, labels.size, device).cpu().numpy()
    with written_whole(labels.label(folder, file)) as partial, partial.open("wb") as stream:
        Image.fromarray(found).save(stream, "PNG")
    return float(np.mean(found != IGNORE))
