"""Export a network to a file for use elsewhere, with a card beside it (nasseg.network.card).

ONNX and torch.export files have one fixed image size; ONNX may leave the batch open. A file is opened again and
compared with PyTorch before it gets its name. Images are normalised outside the file, as the card says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from nasseg.data import scenes
from nasseg.data.class_table import list_tables, read_table
from nasseg.data.dataset import load_data
from nasseg.errors import UserError, unknown
from nasseg.files import written_whole
from nasseg.measure.cost import measure_cost
from nasseg.measure.environment import environment
from nasseg.measure.fold import fold_batch_norms
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.onnx_file import open_onnx, require_onnx, run_onnx, save_onnx, trace
from nasseg.measure.pt2_file import open_pt2, save_pt2
from nasseg.network.address import Resolved
from nasseg.network.card import (
    UNTRAINED,
    ArchCard,
    Card,
    ClassCard,
    Format,
    InputCard,
    OutputCard,
    card_path,
    compare,
    palette,
    read_card,
    sha256,
)
from nasseg.network.measure import DEFAULT_CLASSES, DEFAULT_SIZE
from nasseg.network.weighted import Weighted, find_weighted
from nasseg.records import Measurement, Size
from nasseg.train.views.network_input import MAP_BACK, normalise
from nasseg.train.weights import load_strictly, save_weights

SUFFIXES: Mapping[Format, tuple[str, ...]] = {"onnx": (".onnx",), "pt2": (".pt2",), "state_dict": (".pt", ".pth")}
MIN_SIDE, MAX_CLASSES = 32, 255  # a label is one byte; 255 marks unlabelled pixels
TRIED = (1, 2)  # batch sizes with which a file for any size is compared
NAMED = 3  # BatchNorms to name of each kind

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Exported:
    path: Path
    card_path: Path
    card: Card


class ClassMap(nn.Module):
    """A model that returns each pixel's class: [B, 3, H, W] -> uint8 [B, H, W]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        classes: Tensor = self.model(image).argmax(1).to(torch.uint8)
        return classes


class HalfInside(nn.Module):
    """A model that computes in float16, with float32 images and logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.half()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(image.half()).float()
        return logits


@dataclass(frozen=True)
class _Form:
    """The form in which the file is written. batch: None for any. opset: of ONNX; default: torch's choice."""

    format: Format
    batch: int | None
    argmax: bool
    opset: int | None
    half: bool


@dataclass(frozen=True)
class Source:
    """The network to export, with its weights, classes and known figures."""

    weighted: Weighted
    model: nn.Module
    weights: str
    classes: tuple[ClassCard, ...]
    size: Size
    measurement: Measurement

    @property
    def resolved(self) -> Resolved:
        return self.weighted.resolved


def export_address(
    address: str,
    output: Path,
    *,
    file_format: str | None = None,
    argmax: bool = False,
    overrides: Mapping[str, Any] | None = None,
    input_size: Size | None = None,
    num_classes: int | None = None,
    batch: int | None = 1,
    opset: int | None = None,
    half: bool = False,
    data: str | Path | None = None,
    init: str | Path | None = None,
    init_map: Path | None = None,
    storage: str | None = None,
) -> Exported:
    """Write the network at an address (see nasseg.network.address) to `output`, and its card beside it.

    A trained network comes with its weights, figures and classes; any other has random weights, and its card says so.
    Format: as given, else from the suffix of `output`. Input size and classes: as given, else as it was measured, else
    1024 x 2048 and 19. data: a data set whose class names and colours the card uses. argmax: the file gives each
    pixel's class instead of logits. batch: images in a batch; None: any number, in ONNX. init: a file of weights that
    fills the network (see nasseg.train.weights), or the address of something trained; init_map: a file of rules for its
    names. half: the file computes in float16, on float32 images. opset: of ONNX; default: torch's choice. In ONNX and
    torch.export files, BatchNorm is folded into the convolutions before it.

    Raises:
        UserError: nothing is at the address, an option is refused, weights are gone, a package is missing, the file
            does not compute the same as PyTorch, or it cannot be written. An earlier file stays as it was.
    """
    chosen = _format(file_format, output, argmax)
    if (opset is not None and chosen != "onnx") or (half and chosen == "state_dict"):
        raise UserError(f"opset is for onnx, half precision for onnx and pt2, not for {chosen}")
    if batch is None and chosen != "onnx":
        raise UserError(f"only onnx can leave the batch open, not {chosen}")
    _check_card_is_free(output)
    if (batch is not None and batch < 1) or (input_size and min(input_size) < MIN_SIDE):
        raise UserError(
            f"a batch is at least 1, an image at least {MIN_SIDE} x {MIN_SIDE}; got {batch} of {input_size}"
        )
    lock = DeviceLock("cpu")
    try:
        with lock.computing():
            weighted = find_weighted(address, overrides, init=init, init_map=init_map, storage=storage)
            source = source_of(weighted, input_size, num_classes, data)
            with written_whole(output) as partial:
                card = _write(partial, source, output.name, address, _Form(chosen, batch, argmax, opset, half))
        with written_whole(card_path(output)) as partial:
            partial.write_text(card.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from None
    finally:
        lock.close()
    return Exported(output, card_path(output), card)


def parity_images(batch: int, size: Size) -> Tensor:
    """Return street scenes as network input, [batch, 3, *size]: smooth areas, edges and noise, as in pictures."""
    pictures = [scenes.render(number, size)[0] for number in range(batch)]
    return normalise(torch.from_numpy(np.stack(pictures))).contiguous()


def _write(path: Path, source: Source, name: str, address: str, form: _Form) -> Card:
    """Write the file, open it again, compare, and return its card."""
    model, size, classes, batch = source.model, source.size, len(source.classes), form.batch or 1
    images = parity_images(form.batch or sum(TRIED), size)
    with torch.no_grad():
        logits = model(images)
    content, run, runtime, batch_norm = _convert(path, model, source, form)
    where = f"{len(images)} procedural street scene{'s' * (len(images) > 1)} of {size[0]} x {size[1]}"
    if form.batch is None:
        where += f", in batches of {' and '.join(map(str, TRIED))}"
    found = torch.cat([run(part) for part in images.split(list(TRIED))]) if form.batch is None else run(images)
    parity = compare(found, logits, runtime=runtime, where=where, half=form.half)
    if not parity.holds:
        raise UserError(
            f"the exported file does not compute what PyTorch does: in {runtime} logits differ by "
            f"{parity.max_difference:.3g}, more than {parity.tolerance:g} of the largest, {parity.largest_logit:.3g}; "
            f"nothing was written: try another --format, or another version of {runtime}"
        )
    output = (
        OutputCard(name="classes", shape=(batch, *size), dtype="uint8", map_back=MAP_BACK["classes"])
        if form.argmax
        else OutputCard(name="logits", shape=(batch, classes, *size), dtype="float32", map_back=MAP_BACK["logits"])
    )
    arch = source.resolved.arch
    return Card(
        file=name,
        sha256=sha256(content),
        format=form.format,
        exported_from=address,
        arch=ArchCard(family=arch.family, params=arch.params(), id=arch.id, variant=source.resolved.variant),
        input=InputCard(shape=(batch, 3, *size), any_batch=form.batch is None),
        output=output,
        classes=source.classes,
        weights=source.weights,
        figures=source.measurement,
        parity=parity,
        precision="fp16" if form.half else "fp32",
        batch_norm=batch_norm,
        environment=environment(),
    )


def _convert(path: Path, model: nn.Module, source: Source, form: _Form) -> tuple[bytes, Run, str, str]:
    """Write the file and open it again.

    Return its content, a call that runs it, the name of its runtime, and what became of BatchNorm, in words.
    """
    if form.format == "state_dict":
        save_weights(model, path)
        content = path.read_bytes()
        again = load_strictly(Weighted(source.resolved).build(len(source.classes))[0], content, "the weights written")
        return content, torch.no_grad()(again), f"torch {torch.__version__}", ""
    model, folded, left = fold_batch_norms(model, source.size)
    batch_norm = f"BatchNorm: {folded} folded into the convolutions before them"
    if left:
        kinds = "; ".join(f"{len(names)} behind {kind} ({_named(names)})" for kind, names in sorted(left.items()))
        count = sum(map(len, left.values()))
        why = "no convolution alone is before it" if count == 1 else "no convolution alone is before them"
        batch_norm += f"; {count} stay{'s' * (count == 1)}, because {why}: {kinds}"
    model = HalfInside(model) if form.half else model
    program = trace(ClassMap(model) if form.argmax else model, source.size, batch=form.batch, dtype=torch.float32)
    if form.format == "pt2":
        save_pt2(program, path)
        content = path.read_bytes()
        run = torch.no_grad()(open_pt2(content, "the exported program"))
        return content, run, f"torch {torch.__version__}", batch_norm
    save_onnx(program, path, output="classes" if form.argmax else "logits", opset=form.opset)
    content = path.read_bytes()
    session = open_onnx(content)
    return content, lambda images: run_onnx(session, images), f"onnxruntime {version('onnxruntime')}", batch_norm


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _format(name: str | None, output: Path, argmax: bool) -> Format:
    if name is None:
        name = next((key for key, suffixes in SUFFIXES.items() if output.suffix in suffixes), None)
        if name is None:
            known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
            raise UserError(f"the suffix of {output.name} names no format: use one of {known}, or give --format")
    if name not in get_args(Format):
        raise unknown("format", name, get_args(Format))
    chosen: Format = name  # type: ignore[assignment]
    if output.suffix not in SUFFIXES[chosen]:
        raise UserError(f"a file of format {chosen} is called NAME{SUFFIXES[chosen][0]}, got {output.name}")
    if argmax and chosen == "state_dict":
        raise UserError("a state_dict holds only weights and cannot choose classes: leave out --argmax")
    if chosen == "onnx":
        require_onnx()
    return chosen


def _check_card_is_free(output: Path) -> None:
    """Refuse to overwrite another file's card: winner.onnx and winner.pt2 would share one."""
    try:
        there = read_card(output)
    except UserError:
        return
    if there.file != output.name and output.with_name(there.file).exists():
        raise UserError(
            f"{card_path(output)} is the card of {there.file}, and two files cannot share one: "
            f"use another name than {output.name}"
        )


def source_of(
    weighted: Weighted,
    input_size: Size | None = None,
    num_classes: int | None = None,
    data: str | Path | None = None,
) -> Source:
    """Return a network with its weights, and its size and classes: as given, else as it was measured.

    Raises:
        UserError: the weights or the classes belong to another network.
    """
    measurement = None if weighted.init else weighted.resolved.measurement
    known = measurement.cost.protocol if measurement and measurement.cost else None
    size = input_size or (known.input_size if known else DEFAULT_SIZE)
    classes = _classes(weighted.classes, num_classes or (known.num_classes if known else None), data)
    model, loaded = weighted.build(len(classes))
    if measurement is None:
        arch = weighted.resolved.arch
        measurement = Measurement(arch_id=arch.id, cost=measure_cost(arch, size, len(classes)))
    weights = (loaded.sha256 if loaded else weighted.sha256) or UNTRAINED
    return Source(weighted, model, weights, classes, size, measurement)


def _classes(names: tuple[str, ...] | None, count: int | None, data: str | Path | None) -> tuple[ClassCard, ...]:
    """Return the classes: names as trained or from the data set; its colours, or fixed ones if it is not known."""
    tables = map(read_table, list_tables().values())
    known = {scenes.CLASSES: scenes.COLOURS} | {table.names: table.colours for table in tables}
    if data is not None:
        loaded = load_data(data)
        if names is not None and loaded.classes != names:
            raise UserError(
                f"{data} has the classes {', '.join(loaded.classes)}; the network was trained on {', '.join(names)}"
            )
        names, known = loaded.classes, {loaded.classes: loaded.colours}
    if count is not None and names is not None and count != len(names):
        raise UserError(f"{count} classes are asked for, but there are {len(names)}: {', '.join(names)}")
    if names is None:
        names = tuple(f"class {index}" for index in range(count or DEFAULT_CLASSES))
    if len(names) > MAX_CLASSES:
        raise UserError(f"at most {MAX_CLASSES} classes can be exported, got {len(names)}")
    colours = known.get(names, palette(len(names)))
    return tuple(ClassCard(name=name, colour=colour) for name, colour in zip(names, colours, strict=True))
