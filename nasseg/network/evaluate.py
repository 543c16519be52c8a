"""Measure the accuracy of a network on a split of a data set, for `nasseg evaluate`. Trains nothing.

Figures are measured at the labels' size. One view of each image gives the same result as training's own evaluation;
several scales and flips (Section 5 of most papers: "multi-scale testing") are a protocol of their own.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from nasseg.data.class_table import ClassTable, Holds
from nasseg.data.dataset import DataSet, find_folder, load_data
from nasseg.data.split import Split
from nasseg.errors import UserError
from nasseg.files import written_whole
from nasseg.measure.accuracy import ConfusionMatrix
from nasseg.measure.environment import environment
from nasseg.network.answers import averaged, check_scales, single
from nasseg.network.weighted import Weighted, find_weighted
from nasseg.records import NOT_IN_REDUCED, Environment, Size
from nasseg.train.confusion import confusion_svg
from nasseg.train.loop import scores_of
from nasseg.train.session import check_device, working

RESULTS = Path("runs/evaluate")


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """Everything that decides the figures besides the network. weights: SHA-256 of their file. size: network input."""

    data: str
    data_fingerprint: str
    split: str
    weights: str
    size: Size
    scales: tuple[float, ...]
    flip: bool


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures in percent; None if the labels hold no class. class_iou: None if a class does not occur.

    counts: pixels by true class (rows) and predicted class; the last column has those without a prediction.
    """

    address: str
    arch_id: str
    protocol: EvaluationProtocol
    environment: Environment
    images: int
    miou: float | None
    miou_reduced: float | None
    pixel_accuracy: float | None
    class_iou: dict[str, float | None]
    unpredicted: int
    counts: list[list[int]]
    loaded: list[str]

    def rows(self) -> list[tuple[str, float | None]]:
        """Return the figures by name, as `nasseg evaluate` prints them."""
        found = [("mIoU", self.miou)]
        if NOT_IN_REDUCED & {*self.class_iou}:
            found.append(("mIoU^R", self.miou_reduced))
        found.append(("pixel accuracy", self.pixel_accuracy))
        return found + [(f"IoU {name}", value) for name, value in self.class_iou.items()]


def evaluate_address(
    address: str,
    data: str | Path,
    *,
    split: str = "val",
    overrides: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    init_map: Path | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    save: Path | None = None,
    folder: Path | None = None,
    input_size: Size | None = None,
    data_options: Mapping[str, Any] | None = None,
    device: str = "cpu",
    threads: int = 1,
    storage: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> tuple[Evaluation, Path]:
    """Evaluate the network at an address on a split. Write result.json and confusion.svg, and return their folder, too.

    init, init_map: see nasseg.network.weighted. input_size: what the network sees; default: as it was trained. save: a
    folder for label maps with the images' names, in the values of the data set's own labels. A split whose labels hold
    no class (a test server's) has no figures. on_progress: called with the images done, and their total.

    Raises:
        UserError: nothing is at the address, there are no weights, their classes differ, the data cannot be used, or a
            file cannot be written.
    """
    check_device(device)
    check_scales(scales)
    weighted = find_weighted(address, overrides, init=init, init_map=init_map, storage=storage)
    if weighted.content is None and weighted.init is None:
        raise UserError(
            f"{address} has random weights, so its accuracy means nothing: give its weights with --init FILE"
        )
    options = _options(data, split, dict(data_options or {}), save is not None)
    loaded = _data(data, options, split, input_size or _trained_size(weighted))
    if weighted.classes is not None and weighted.classes != loaded.classes:
        raise UserError(
            f"{loaded.name} has the classes {', '.join(loaded.classes)}; {address} was trained on "
            f"{', '.join(weighted.classes)}"
        )
    _require_new(address, weighted, loaded, split)
    model, taken = weighted.build(loaded.num_classes)
    chosen = loaded.split(split)
    protocol = EvaluationProtocol(
        data=loaded.name,
        data_fingerprint=loaded.fingerprint,
        split=split,
        weights=taken.sha256 if taken else weighted.sha256,
        size=chosen.size,
        scales=tuple(scales),
        flip=flip,
    )
    writer = _Writer(save, data, options, split, loaded) if save else None
    matrix = ConfusionMatrix(loaded.num_classes)
    with working(device, threads) as guard, torch.inference_mode():
        with guard():
            model.to(device)
        for number in range(len(chosen)):
            with guard():
                classes = _evaluate(model, chosen, number, protocol, matrix, device)
            if writer:
                writer.write(number, classes)
            on_progress(number + 1, len(chosen))
    result = _result(address, weighted, protocol, matrix, loaded, len(chosen), taken.lines() if taken else [])
    place = folder or RESULTS / _name(weighted, protocol)
    _write(result, place)
    return result, place


def _require_new(address: str, weighted: Weighted, data: DataSet, split: str) -> None:
    """Refuse a split, other than `train`, that the weights are known to be trained on."""
    trained, measured = weighted.resolved.trained, weighted.resolved.measurement
    if weighted.init or trained is None or measured is None or measured.accuracy is None:
        return
    if split != "train" and split in trained.trained_on and measured.accuracy.protocol.data == data.name:
        raise UserError(
            f"{address} was trained on {' + '.join(trained.trained_on)} of {data.name}, so it cannot be evaluated "
            f"on {split}: choose another split"
        )


def _evaluate(
    model: nn.Module, split: Split, number: int, protocol: EvaluationProtocol, matrix: ConfusionMatrix, device: str
) -> NDArray[np.uint8]:
    """Count one image; return the class of each pixel of its label."""
    picture, label = split.images[number].cpu().numpy(), split.labels[number].to(device)
    shape, found = (label.shape[0], label.shape[1]), []
    for top, part in _answers(model, picture, protocol, shape, device):
        matrix.update(part, label[None, top : top + part.shape[2]])
        found.append(part.argmax(1)[0])
    return torch.cat(found).to(torch.uint8).cpu().numpy()


def _answers(
    model: nn.Module, picture: NDArray[np.uint8], protocol: EvaluationProtocol, shape: Size, device: str
) -> Iterator[tuple[int, Tensor]]:
    if protocol.scales == (1.0,) and not protocol.flip:
        yield from single(model, picture, size=protocol.size, shape=shape, device=device)
        return
    views = {"flip": protocol.flip, "size": protocol.size, "shape": shape, "device": device}
    yield 0, averaged(model, picture, protocol.scales, **views)[None]  # type: ignore[arg-type]


def _trained_size(weighted: Weighted) -> Size | None:
    measurement = None if weighted.init else weighted.resolved.measurement
    return measurement.cost.protocol.input_size if measurement and measurement.cost else None


def _options(data: str | Path, split: str, options: dict[str, Any], save: bool) -> dict[str, Any]:
    """Return options that allow writing a split without labels to score by, such as a test server's."""
    if save and str(data) != "scenes" and "splits" not in options:
        folder, _, _ = find_folder(data, **options)
        if split in folder.layout.absent:
            options["splits"] = {split: {"folder": split}}
    return options


def _data(data: str | Path, options: dict[str, Any], split: str, size: Size | None) -> DataSet:
    """Return the data at the size that the network was trained at, unless they have it already."""
    loaded = load_data(data, **options)
    if size is None or "size" in options:
        return loaded
    try:
        if loaded.split(split).size == size:
            return loaded
    except UserError:  # images of many sizes: the size that networks see must be given
        pass
    return load_data(data, **options, size=list(size))


def _result(
    address: str,
    weighted: Weighted,
    protocol: EvaluationProtocol,
    matrix: ConfusionMatrix,
    data: DataSet,
    images: int,
    loaded: list[str],
) -> Evaluation:
    scores = scores_of(matrix, data.classes) if bool(matrix.counts.any()) else None
    class_iou = scores.class_iou if scores else dict.fromkeys(data.classes)
    kept = [iou for name, iou in class_iou.items() if iou is not None and name not in NOT_IN_REDUCED]
    return Evaluation(
        address=address,
        arch_id=weighted.resolved.arch.id,
        protocol=protocol,
        environment=environment(),
        images=images,
        miou=scores.miou if scores else None,
        miou_reduced=sum(kept) / len(kept) if kept else None,
        pixel_accuracy=scores.pixel_accuracy if scores else None,
        class_iou=class_iou,
        unpredicted=matrix.unpredicted,
        counts=matrix.counts.cpu().tolist(),
        loaded=loaded,
    )


def _name(weighted: Weighted, protocol: EvaluationProtocol) -> str:
    views = "" if protocol.scales == (1.0,) else "-x" + "_".join(f"{scale:g}" for scale in protocol.scales)
    flip = "-flip" if protocol.flip else ""
    size = f"{protocol.size[0]}x{protocol.size[1]}"
    return (
        f"{weighted.resolved.arch.id}-w{protocol.weights[:8]}-{protocol.data_fingerprint}-{protocol.split}-{size}"
        f"{views}{flip}"
    )


def _write(result: Evaluation, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / "result.json") as partial:
            partial.write_text(json.dumps(asdict(result), indent=1) + "\n")
        title = f"{result.address} on {result.protocol.data}, {result.protocol.split}"
        with written_whole(folder / "confusion.svg") as partial:
            partial.write_text(confusion_svg(title, tuple(result.class_iou), result.counts))
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None


class _Writer:
    """Write label maps below a folder, with the images' names below the data's folder, in the data set's own values."""

    def __init__(self, folder: Path, data: str | Path, options: dict[str, Any], split: str, loaded: DataSet) -> None:
        self.folder = folder
        if str(data) == "scenes":
            raise UserError("procedural scenes have no file names that label maps could take: leave out --save")
        found, _, _ = find_folder(data, **options)
        samples = found.samples.get(split)  # type: ignore[call-overload]
        if samples is None:
            raise UserError(f"the split {split} of {loaded.name} is not a folder of images: leave out --save")
        self.names = [sample.image.relative_to(found.root).with_suffix(".png") for sample in samples]
        self.values = label_values(found.table, found.layout.labels[0].hold)

    def write(self, number: int, classes: NDArray[np.uint8]) -> None:
        path = self.folder / self.names[number]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial, partial.open("wb") as stream:
                Image.fromarray(self.values[classes]).save(stream, "PNG")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def label_values(table: ClassTable, hold: Holds) -> NDArray[np.uint8]:
    """Return the value of each class in labels: its first id, its colour, or its number, [classes] or [classes, 3]."""
    if hold == "colours":
        return np.array([row.rgb[0] if row.rgb else row.colour for row in table.classes], np.uint8)
    if hold in ("ids", "alpha") and all(row.ids and 0 <= row.ids[0] <= 255 for row in table.classes):
        return np.array([row.ids[0] for row in table.classes], np.uint8)
    return np.arange(len(table.classes), dtype=np.uint8)
