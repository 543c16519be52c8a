"""Export a network to a file for use elsewhere, with a card beside it (nasseg.network.card).

ONNX and torch.export files have one fixed input size. A file is opened again and compared with PyTorch before it gets
its name. Images are normalised outside of it, as the card says.
"""

import io
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
from nasseg.families import Arch
from nasseg.files import written_whole
from nasseg.measure.cost import measure_cost
from nasseg.measure.environment import environment
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.onnx_file import open_onnx, require_onnx, run_onnx, save_onnx, trace
from nasseg.measure.pt2_file import open_pt2, save_pt2
from nasseg.network.address import Resolved, resolve
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
from nasseg.records import Measurement, Size
from nasseg.study.store.storage import runs_folder
from nasseg.study.store.trial_attributes import EVAL_KEY, MEASUREMENT, REUSED_FROM, WEIGHTS_ERROR, WEIGHTS_SHA256
from nasseg.study.store.weight_store import LAST, WeightStore
from nasseg.train.views.network_input import MAP_BACK, normalise
from nasseg.train.weights import save_weights

SUFFIXES: Mapping[Format, tuple[str, ...]] = {"onnx": (".onnx",), "pt2": (".pt2",), "state_dict": (".pt", ".pth")}
MIN_SIDE, MAX_CLASSES = 32, 255  # a label is one byte; 255 marks unlabelled pixels

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


@dataclass(frozen=True)
class _Source:
    """The network to export, its weights (None: random), its classes and its known figures."""

    arch: Arch
    variant: str | None
    weights: bytes | None
    classes: tuple[ClassCard, ...]
    size: Size
    measurement: Measurement

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: nn.Module = self.arch.build(len(self.classes)).eval()
        return model if self.weights is None else load_strictly(model, self.weights, "the weights")


def export_address(
    address: str,
    output: Path,
    *,
    file_format: str | None = None,
    argmax: bool = False,
    overrides: Mapping[str, Any] | None = None,
    input_size: Size | None = None,
    num_classes: int | None = None,
    batch: int = 1,
    data: str | Path | None = None,
    storage: str | None = None,
) -> Exported:
    """Write the network at an address (see nasseg.network.address) to `output`, and its card beside it.

    A trained trial comes with its weights, figures and classes; anything else has random weights, and its card says so.
    Format: default: by the suffix of `output`. Input size and classes: default: as the trial was measured, else 1024 x
    2048 and 19. data: a data set whose class names and colours the card takes. argmax: the file gives each pixel's
    class instead of logits.

    Raises:
        UserError: nothing is at the address, an option is refused, weights are gone, a package is missing, the file
            does not compute the same as PyTorch, or it cannot be written. An earlier file then stays as it was.
    """
    chosen = _format(file_format, output, argmax)
    _check_card_is_free(output)
    if batch < 1 or (input_size and min(input_size) < MIN_SIDE):
        raise UserError(f"a batch is at least 1, an image {MIN_SIDE} x {MIN_SIDE}; got {batch} of {input_size}")
    lock = DeviceLock("cpu")
    try:
        with lock.computing():
            source = _source(address, overrides, input_size, num_classes, data, storage)
            with written_whole(output) as partial:
                card = _write(partial, source, output.name, address, chosen, batch, argmax)
        with written_whole(card_path(output)) as partial:
            partial.write_text(card.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from None
    finally:
        lock.close()
    return Exported(output, card_path(output), card)


def load_strictly(model: nn.Module, content: bytes, name: str) -> nn.Module:
    """Load a state_dict's file into the model; `name` stands for the weights in errors.

    Raises:
        UserError: it is no state_dict, or another network's.
    """
    try:
        model.load_state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises unrelated types for damaged files
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name} are not of this network: {type(error).__name__}: {reason}") from None
    return model


def parity_images(batch: int, size: Size) -> Tensor:
    """Return street scenes as networks read them, [batch, 3, *size]: smooth areas, edges and noise, as in pictures."""
    pictures = [scenes.render(number, size)[0] for number in range(batch)]
    return normalise(torch.from_numpy(np.stack(pictures))).contiguous()


def _write(path: Path, source: _Source, name: str, address: str, chosen: Format, batch: int, argmax: bool) -> Card:
    """Write the file, open it again, compare, and return its card."""
    model, size, classes = source.build(), source.size, len(source.classes)
    images = parity_images(batch, size)
    with torch.no_grad():
        logits = model(images)
    content, run, runtime = _convert(path, model, source, chosen, batch, argmax)
    where = f"{batch} procedural street scene{'s' * (batch > 1)} of {size[0]} x {size[1]}"
    parity = compare(run(images), logits, runtime=runtime, where=where)
    if not parity.holds:
        raise UserError(
            f"the exported file does not compute what PyTorch does: in {runtime} logits differ by "
            f"{parity.max_difference:.3g}, more than {parity.tolerance:g} of the largest, {parity.largest_logit:.3g}; "
            "nothing was written: try another --format, or another version of what runs it"
        )
    output = (
        OutputCard(name="classes", shape=(batch, *size), dtype="uint8", map_back=MAP_BACK["classes"])
        if argmax
        else OutputCard(name="logits", shape=(batch, classes, *size), dtype="float32", map_back=MAP_BACK["logits"])
    )
    arch = source.arch
    return Card(
        file=name,
        sha256=sha256(content),
        format=chosen,
        exported_from=address,
        arch=ArchCard(family=arch.family, params=arch.params(), id=arch.id, variant=source.variant),
        input=InputCard(shape=(batch, 3, *size)),
        output=output,
        classes=source.classes,
        weights=UNTRAINED if source.weights is None else sha256(source.weights),
        figures=source.measurement,
        parity=parity,
        environment=environment(),
    )


def _convert(
    path: Path, model: nn.Module, source: _Source, chosen: Format, batch: int, argmax: bool
) -> tuple[bytes, Run, str]:
    """Write the file and open it again. Return its content, a function that runs it, and the runtime's name."""
    if chosen == "state_dict":
        save_weights(model, path)
        content = path.read_bytes()
        again = load_strictly(source.build(), content, "the weights written")
        return content, torch.no_grad()(again), f"torch {torch.__version__}"
    program = trace(ClassMap(model) if argmax else model, source.size, batch=batch)
    if chosen == "pt2":
        save_pt2(program, path)
        content = path.read_bytes()
        return content, torch.no_grad()(open_pt2(content, "the exported program")), f"torch {torch.__version__}"
    save_onnx(program, path, output="classes" if argmax else "logits")
    content = path.read_bytes()
    session = open_onnx(content)
    return content, lambda images: run_onnx(session, images), f"onnxruntime {version('onnxruntime')}"


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
        raise UserError("a state_dict holds weights only, nothing that could choose classes: leave out --argmax")
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


def _source(
    address: str,
    overrides: Mapping[str, Any] | None,
    input_size: Size | None,
    num_classes: int | None,
    data: str | Path | None,
    storage: str | None,
) -> _Source:
    resolved = resolve(address, overrides, storage)
    weights = _trained_weights(address, overrides, storage) if "#" in address else None
    measurement = resolved.measurement
    known = measurement.cost.protocol if measurement and measurement.cost else None
    size = input_size or (known.input_size if known else DEFAULT_SIZE)
    classes = _classes(resolved, num_classes or (known.num_classes if known else None), data)
    if measurement is None:
        cost = measure_cost(resolved.arch, size, len(classes))
        measurement = Measurement(arch_id=resolved.arch.id, cost=cost)
    return _Source(resolved.arch, resolved.variant, weights, classes, size, measurement)


def _trained_weights(address: str, overrides: Mapping[str, Any] | None, storage: str | None) -> bytes | None:
    """Return the content of a trial's weights file, checked against the trial; None for an untrained one."""
    from nasseg.study.store.read_study import open_record  # Optuna is slow to import; only a trial needs it

    name, _, number = address.rpartition("#")
    record = open_record(name, storage)
    by_number = {trial.number: trial.user_attrs for trial in record.trials()}
    attributes = by_number[int(number)]
    if MEASUREMENT not in attributes or Measurement.from_json(attributes[MEASUREMENT]).accuracy is None:
        return None
    if overrides:
        raise UserError(f"{address} is trained, and its weights fit no other fields: leave out the settings")
    attributes = by_number.get(attributes.get(REUSED_FROM, -1), attributes)
    if WEIGHTS_SHA256 not in attributes:
        reason = attributes.get(WEIGHTS_ERROR, "none were stored")
        raise UserError(f"{address} was trained, but its weights were not kept: {reason}; train it in another study")
    place = record.attributes().get("weights", runs_folder(record.name))
    path = WeightStore(place).folder(attributes[EVAL_KEY]) / LAST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read the weights of {address}, {path.resolve()}: {error.strerror}; a search keeps those of its "
            "front (`keep: all` in the study: of every network). Run this in the folder where the search ran, or copy "
            "its runs folder here"
        ) from None
    if sha256(content) != attributes[WEIGHTS_SHA256]:
        raise UserError(f"{path} is not what {address} was evaluated with: its SHA-256 is not the trial's")
    return content


def _classes(resolved: Resolved, count: int | None, data: str | Path | None) -> tuple[ClassCard, ...]:
    """Return class names from the trial or the data set, and colours from the data set or, if unknown, fixed ones."""
    accuracy = resolved.measurement.accuracy if resolved.measurement else None
    names = tuple(accuracy.class_iou) if accuracy else None
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
        raise UserError(f"{count} classes were asked for, but there are {len(names)}: {', '.join(names)}")
    if names is None:
        names = tuple(f"class {index}" for index in range(count or DEFAULT_CLASSES))
    if len(names) > MAX_CLASSES:
        raise UserError(f"at most {MAX_CLASSES} classes can be exported, got {len(names)}")
    colours = known.get(names, palette(len(names)))
    return tuple(ClassCard(name=name, colour=colour) for name, colour in zip(names, colours, strict=True))
