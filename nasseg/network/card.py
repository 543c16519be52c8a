"""The card of an exported network: everything that users of the file need to know, as JSON beside it."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from nasseg.errors import UserError
from nasseg.files import TooLargeError, read_text
from nasseg.measure.accuracy import IGNORE
from nasseg.measure.latency.onnx_file import INPUT
from nasseg.records import Environment, Measurement, Size
from nasseg.train.views.network_input import MEAN, PREPARE, STD

Format = Literal["onnx", "pt2", "state_dict"]
UNTRAINED = "untrained (random)"

# Largest difference of logits, as a share of the largest logit. Runtimes sum float32 in different orders and fold
# BatchNorm into convolutions: 2e-7 to 2e-5 over the published networks. A wrong operator (a resize with other corners,
# another padding) is off by more than 1e-2.
TOLERANCE = 1e-3
TOLERANCE_HALF = 1e-2  # for files that compute in float16: 2e-4 (RegSeg) and 5e-4 (DABNet) with random weights

# Okabe and Ito's colours, which colour-blind readers can tell apart. More classes get lighter and darker ones.
_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (110, 110, 110),
)

Colour = tuple[int, int, int]
Byte = Annotated[int, Field(ge=0, le=255)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArchCard(_Part):
    """The architecture: `make_arch(family, **params)`. `variant`: the published network with the same id."""

    family: str
    params: dict[str, Any]
    id: str
    variant: str | None


class InputCard(_Part):
    """shape: [batch, 3, height, width]. any_batch: the file takes any number of images.

    prepare: the steps from a picture of any size to this input.
    """

    name: str = INPUT
    values: str = "(pixel - mean) / std, colour by colour, of pixels 0..255"
    shape: tuple[int, int, int, int]
    any_batch: bool = False
    dtype: Literal["float32"] = "float32"
    layout: Literal["NCHW"] = "NCHW"
    colour_order: Literal["RGB"] = "RGB"
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    prepare: tuple[str, ...] = PREPARE

    @property
    def batch(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> Size:
        return self.shape[2], self.shape[3]


class OutputCard(_Part):
    """logits: float32 [batch, classes, height, width]; classes: uint8 [batch, height, width], each pixel's class.

    map_back: the steps from either to the classes of the picture's own pixels.
    """

    name: Literal["logits", "classes"]
    shape: tuple[int, ...]
    dtype: Literal["float32", "uint8"]
    map_back: tuple[str, ...] = ()


class ClassCard(_Part):
    name: str
    colour: tuple[Byte, Byte, Byte]


class Parity(_Part):
    """The agreement of the file with PyTorch on one input.

    max_difference: of logits; if the file gives classes, how far a class's logit is below the largest. equal_argmax:
    share of pixels with the same class, 0..1.
    """

    runtime: str
    input: str
    max_difference: float
    largest_logit: float
    tolerance: float = TOLERANCE
    equal_argmax: float

    @property
    def holds(self) -> bool:
        return self.max_difference <= self.tolerance * self.largest_logit  # false for NaN


class Card(_Part):
    """The description of the file beside it.

    weights: SHA-256 of the trained state_dict's file, or "untrained (random)".
    """

    file: str
    sha256: str
    format: Format
    exported_from: str
    arch: ArchCard
    input: InputCard
    output: OutputCard
    classes: tuple[ClassCard, ...] = Field(min_length=1)
    ignore: int = IGNORE
    weights: str
    figures: Measurement
    parity: Parity
    precision: Literal["fp32", "fp16"] = "fp32"
    batch_norm: str = ""
    environment: Environment

    def lines(self) -> list[str]:
        """Return the lines that `nasseg export` prints."""
        (height, width), parity, accuracy = self.input.size, self.parity, self.figures.accuracy
        batch = "N" if self.input.any_batch else self.input.batch
        trained = f", mIoU {accuracy.miou:.2f} %" if accuracy and self.weights != UNTRAINED else ""
        return [
            f"{self.file}: {self.arch.variant or self.arch.family} ({self.arch.id}), {self.format}, images "
            f"{batch} x 3 x {height} x {width} -> {self.output.name} of {len(self.classes)} classes",
            f"weights: {self.weights}{trained}{'; good for timing only' * (self.weights == UNTRAINED)}",
            f"{card_path(Path(self.file))} says how to prepare a picture and how to map the {self.output.name} back",
            f"parity with PyTorch in {parity.runtime} on {parity.input}: logits differ by at most "
            f"{parity.max_difference:.2g} (the largest is {parity.largest_logit:.3g}, the tolerance "
            f"{parity.tolerance:g} of it); "
            f"{100 * parity.equal_argmax:.4g} % of the pixels have the same class",
            *([self.batch_norm] if self.batch_norm else []),
        ]


def card_path(path: Path) -> Path:
    """Return the path of an exported file's card: winner.onnx has winner.card.json."""
    return path.with_suffix(".card.json")


def read_card(path: Path) -> Card:
    """Read the card of an exported file.

    Raises:
        UserError: there is none, or it is not one that `nasseg export` writes.
    """
    place = card_path(path)
    try:
        return Card.model_validate_json(read_text(place))
    except TooLargeError as error:
        raise UserError(f"{place} is no card of `nasseg export`: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{path} has no card, {place}; `nasseg export` writes both: keep them together") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise UserError(
            f"{place} is no card of `nasseg export`: {where}: {first['msg']}; export the network again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the card {place}: {error}") from None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def compare(found: Tensor, logits: Tensor, *, runtime: str, where: str, half: bool = False) -> Parity:
    """Compare an exported file's output, logits or classes, with PyTorch's logits [B, classes, H, W].

    Raises:
        UserError: the output has another shape.
    """
    gives_classes = not found.is_floating_point()
    expected = logits.shape[:1] + logits.shape[2:] if gives_classes else logits.shape
    if found.shape != expected:
        raise UserError(f"the exported file gives {list(found.shape)} where PyTorch gives {list(expected)}")
    best = logits.argmax(1)
    if gives_classes:
        chosen = found.long().clamp(max=logits.shape[1] - 1)
        lacking = logits.amax(1) - logits.gather(1, chosen.unsqueeze(1)).squeeze(1)
        difference, equal = lacking.max(), found.long() == best
    else:
        difference, equal = (found - logits).abs().max(), found.argmax(1) == best
    return Parity(
        runtime=runtime,
        input=where,
        max_difference=float(difference),
        largest_logit=float(logits.abs().max()),
        tolerance=TOLERANCE_HALF if half else TOLERANCE,
        equal_argmax=float(equal.double().mean()),
    )


def palette(count: int) -> list[Colour]:
    """Return fixed colours by class index. The first 255 all differ."""
    colours = []
    for index in range(count):
        base, step = np.array(_OKABE_ITO[index % len(_OKABE_ITO)]), index // len(_OKABE_ITO)
        share = 0.4 + 0.45 * _spread((step - 1) // 2) if step else 0.0
        mixed = base + share * (255 * (step % 2) - base)  # lighter, darker, lighter, ...
        red, green, blue = (round(float(value)) for value in mixed)
        colours.append((red, green, blue))
    return colours


def _spread(number: int) -> float:
    """Return this term of van der Corput's sequence: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    value, step = 0.0, 0.5
    while number:
        value, number, step = value + step * (number % 2), number // 2, step / 2
    return value
