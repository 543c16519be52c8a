"""Segment pictures with an exported file or a trained network: label maps, and overlays with a legend.

A picture of any size goes to the network and back as in evaluation (nasseg.train.views.network_input), so an exported
file has the accuracy that was recorded. Nothing in the file is run as Python.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.files import written_whole
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.measure.latency.onnx_file import open_onnx, run_onnx
from nasseg.measure.pt2_file import open_pt2
from nasseg.network.card import Card, ClassCard, InputCard, OutputCard, card_path, read_card, sha256
from nasseg.network.export import SUFFIXES, source_of
from nasseg.network.pictures import Pixels, Source, list_sources
from nasseg.network.weighted import find_weighted
from nasseg.study.store.trained import is_trained_address
from nasseg.train.views.network_input import classes_of, fit, nearest_classes, place
from nasseg.train.weights import load_strictly

OPACITY = 0.55  # opacity of the class colours over the picture

Run = Callable[[Tensor], Tensor]
Labels = NDArray[np.uint8]
Classes = Sequence[ClassCard]


@dataclass(frozen=True)
class Prediction:
    """The files written for a picture, or for a frame of a video.

    size: its height and width. shares: the share of its pixels by class, for the classes that occur. seconds: from its
    pixels to its classes, without reading and writing; in a batch, the mean per picture.
    """

    image: Path
    labels: Path
    overlay: Path
    size: tuple[int, int]
    shares: dict[str, float]
    seconds: float

    def line(self) -> str:
        """Return the line that `nasseg predict` prints."""
        largest = sorted(self.shares.items(), key=lambda item: -item[1])[:3]
        named = ", ".join(f"{name} {100 * share:.1f} %" for name, share in largest)
        return f"{self.overlay}: {named}; {1e3 * self.seconds:.3g} ms"


@dataclass(frozen=True)
class Predictor:
    """An opened exported file or a trained network. name: its name in errors."""

    name: str
    input: InputCard
    output: OutputCard
    classes: tuple[ClassCard, ...]
    run: Run

    def __call__(self, pictures: Sequence[Pixels]) -> list[Labels]:
        """Return the classes [H, W] of each picture [H, W, 3], at most a batch of them. Sizes may differ.

        Raises:
            UserError: the file's output does not match its card.
        """
        of = self.input
        images = [fit(picture, of.size) for picture in pictures]
        whole = [*images, *[images[-1]] * (of.batch - len(images))]  # the file takes whole batches
        answers = self.run(place(whole, of.size, of.mean, of.std))
        self._check(answers)
        labels = []
        for picture, image, answer in zip(pictures, images, answers, strict=False):
            shape = (picture.shape[0], picture.shape[1])
            if answer.is_floating_point():
                found = classes_of(answer[None], image.shape, shape)
            else:
                found = nearest_classes(answer, image.shape, shape)
            labels.append(found.numpy())
        return labels

    def _check(self, found: Tensor) -> None:
        (batch, _, height, width), count = self.input.shape, len(self.classes)
        logits = self.output.name == "logits"
        expected = [batch, count, height, width] if logits else [batch, height, width]
        if list(found.shape) != expected or found.is_floating_point() != logits:
            raise UserError(
                f"{self.name} gives {self.output.name} of shape {list(found.shape)}, its card says "
                f"{expected} with {count} classes: they are not from the same export"
            )
        if not logits and int(found.max()) >= count:
            raise UserError(f"{self.name} gives class {int(found.max())}; its card has 0..{count - 1}")


def open_exported(path: Path) -> Predictor:
    """Open a file written by `nasseg export`, of any format, with its card.

    Raises:
        UserError: the file or its card is missing, they do not belong together, or the file has another format.
    """
    suffixes = [suffix for of_format in SUFFIXES.values() for suffix in of_format]
    if path.suffix not in suffixes:
        raise UserError(f"{path} is not an exported file: such a name ends in one of {', '.join(suffixes)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; `nasseg export` writes it") from None
    card = read_card(path)
    if path.suffix not in SUFFIXES[card.format]:
        raise UserError(f"the card of {path} belongs to {card.file}, format {card.format}: export {path.name} again")
    if sha256(content) != card.sha256:
        raise UserError(f"{path} is not the file that its card describes (SHA-256 differs): export it again")
    return Predictor(card.file, card.input, card.output, card.classes, _runner(path, content, card))


def open_trained(address: str, storage: str | None = None) -> Predictor:
    """Open the trained network at an address (see nasseg.network.address).

    Raises:
        UserError: nothing is there, it was not trained, or its weights are gone.
    """
    weighted = find_weighted(address, storage=storage)
    if weighted.content is None:
        raise UserError(
            f"{address} has random weights, so its predictions mean nothing: train it, or export it with --init"
        )
    source = source_of(weighted)
    size, classes = source.size, source.classes
    output = OutputCard(name="logits", shape=(1, len(classes), *size), dtype="float32")
    return Predictor(address, InputCard(shape=(1, 3, *size)), output, classes, torch.no_grad()(source.model))


def _runner(path: Path, content: bytes, card: Card) -> Run:
    if card.format == "onnx":
        session = open_onnx(content)
        return lambda images: run_onnx(session, images)
    if card.format == "pt2":
        program = open_pt2(content, str(path))
        return torch.no_grad()(_telling(program, path))
    for value in (card.arch.family, *card.arch.params.values()):
        if ":" in str(value):  # a user's own family: a card must not run code
            raise UserError(f"the card of {path} names code, {value!r}, which is not run: export as onnx instead")
    model = make_arch(card.arch.family, **card.arch.params).build(len(card.classes)).eval()
    return torch.no_grad()(load_strictly(model, content, f"the weights in {path}"))


def _telling(program: Run, path: Path) -> Run:
    def run(images: Tensor) -> Tensor:
        try:
            return program(images)
        except Exception as error:  # guards on sizes are plain assertions
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{path} cannot run on {list(images.shape)}: {reason}") from None

    return run


def predict(
    address: str | Path, images: Sequence[Path], folder: Path, storage: str | None = None
) -> Iterator[Prediction]:
    """Segment pictures, folders of pictures and videos: NAME.png (classes, one byte a pixel) and NAME.overlay.png.

    address: an exported file, or something trained. The call itself checks all names and opens the network. Pictures
    are read, segmented and written to `folder` while iterating over the result; a video's frames get a folder there.

    Raises:
        UserError: the network cannot be used, a picture cannot be read, two have the same name, or one would be
            overwritten.
    """
    sources = list_sources(images, folder)
    _check_names(sources, folder)
    exported = not is_trained_address(str(address)) or card_path(Path(address)).is_file()
    return _predict(open_exported(Path(address)) if exported else open_trained(str(address), storage), sources, folder)


def _predict(predictor: Predictor, sources: Sequence[Source], folder: Path) -> Iterator[Prediction]:
    lock = DeviceLock("cpu")
    frames = ((source.path, name, pixels) for source in sources for name, pixels in source.frames())
    try:
        while batch := list(islice(frames, predictor.input.batch)):
            with lock.computing():
                begin = time.perf_counter()
                found = predictor([pixels for _, _, pixels in batch])
                seconds = (time.perf_counter() - begin) / len(batch)
            for (path, name, pixels), labels in zip(batch, found, strict=True):
                label, drawn = _write(folder / name, pixels, labels, predictor.classes)
                shares = {predictor.classes[index].name: share for index, share in _shares(labels).items()}
                yield Prediction(path, label, drawn, labels.shape, shares, seconds)
    finally:
        lock.close()


def overlay(picture: Pixels, labels: Labels, classes: Classes) -> Image.Image:
    """Draw the picture tinted in its class colours, with a legend of the classes that occur on its right."""
    colours = np.array([entry.colour for entry in classes], np.float32)
    blended = (1 - OPACITY) * picture.astype(np.float32) + OPACITY * colours[labels]
    names = _legend(labels, classes, labels.shape[0])
    canvas = Image.new("RGB", (labels.shape[1] + names.width, max(labels.shape[0], names.height)), "white")
    canvas.paste(Image.fromarray(np.round(blended).astype(np.uint8)), (0, 0))
    canvas.paste(names, (labels.shape[1], 0))
    return canvas


def _legend(labels: Labels, classes: Classes, height: int) -> Image.Image:
    """Draw the colour, name and share of each class that occurs, in as many columns as the height needs."""
    text_size = min(28, max(11, height // 26))
    font, row = ImageFont.load_default(text_size), round(1.6 * text_size)
    entries = [
        (classes[index].colour, f"{classes[index].name}  {100 * share:.1f} %")
        for index, share in sorted(_shares(labels).items())
    ]
    column = max(font.getbbox(text)[2] for _, text in entries)
    rows = max(1, (height - row) // row)
    columns = -(-len(entries) // rows)
    step = round(column) + 2 * row + row // 2
    image = Image.new("RGB", (columns * step, min(rows, len(entries)) * row + row), "white")
    draw = ImageDraw.Draw(image)
    for number, (colour, text) in enumerate(entries):
        left, top = (number // rows) * step + row // 2, (number % rows) * row + row // 2
        draw.rectangle((left, top, left + row, top + row - row // 4), fill=colour, outline="black")
        draw.text((left + row + row // 2, top + (row - row // 4) // 2), text, fill="black", font=font, anchor="lm")
    return image


def _shares(labels: Labels) -> dict[int, float]:
    """Return the share of pixels of each class that occurs."""
    counts = np.bincount(labels.ravel())
    return {index: float(count / labels.size) for index, count in enumerate(counts) if count}


def _write(place: Path, picture: Pixels, labels: Labels, classes: Classes) -> tuple[Path, Path]:
    label_path, overlay_path = _names(place)
    try:
        label_path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(label_path) as partial:
            Image.fromarray(labels).save(partial, "PNG")
        with written_whole(overlay_path) as partial:
            overlay(picture, labels, classes).save(partial, "PNG")
    except OSError as error:
        raise UserError(f"cannot write to {place.parent}: {error.strerror or error}") from None
    return label_path, overlay_path


def _names(place: Path) -> tuple[Path, Path]:
    return place.with_name(f"{place.name}.png"), place.with_name(f"{place.name}.overlay.png")


def _check_names(sources: Sequence[Source], folder: Path) -> None:
    inputs = {source.path.resolve() for source in sources}
    written: dict[Path, Path] = {}
    for source in sources:
        place = folder / source.name
        for name in [place] if source.is_video else _names(place):
            if name.resolve() in inputs:
                raise UserError(f"{name} would overwrite an image to read: give another folder with -o")
            if name in written:
                raise UserError(f"{written[name]} and {source.path} would both be {name}: give one at a time")
            written[name] = source.path
