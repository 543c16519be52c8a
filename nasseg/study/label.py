"""Pseudo-labels by a run that is done: what `nasseg label` does."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.study.export import load_strictly
from nasseg.study.train_one import stored_result
from nasseg.study.training import check_device, working
from nasseg.train.pseudo import CONFIDENCE, SCALES, PseudoLabels, begin_labels, list_images, write_label
from nasseg.train.weights import weights_hash


@dataclass(frozen=True)
class Labelled:
    """images: all of the folder; written: now; sure: mean share of their pixels that have a label."""

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
    """Label the pictures below `images` with best.pt of a run; `folder` is then what --pseudo takes.

    Labels already there are kept, so that the same call goes on where one was interrupted. on_progress: images done, of
    how many.

    Raises:
        UserError: the run is not done, there are no pictures, an argument is refused, or something cannot be read or
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
        raise UserError(f"{run} holds no run that is done: `nasseg train` names the folders of its runs")
    weights = run / "best.pt"
    teacher = weights_hash(weights)
    if teacher != result.weights["best.pt"]:
        raise UserError(f"{weights} is not what the run wrote (SHA-256 differs): train again, in another folder")
    family, cost = str(result.arch["family"]), result.measurement.cost
    assert cost is not None
    classes = tuple(result.best.class_iou)
    arch = make_arch(family, **{name: value for name, value in result.arch.items() if name != "family"})
    model = load_strictly(arch.build(len(classes)), weights.read_bytes(), f"the weights in {weights}").eval()
    return model, PseudoLabels(
        images=str(images.resolve()), files=list_images(images), classes=classes, teacher=teacher, scales=scales,
        confidence=confidence, size=cost.protocol.input_size,
    )  # fmt: skip


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
