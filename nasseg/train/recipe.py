"""Recipes: everything that decides a network's weights besides the architecture, the data and the seed.

The papers' recipes are rows of data in recipes.yaml, each with its citation and its deviations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import cos, inf, log, pi
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from nasseg.errors import UserError, unknown
from nasseg.files import read_yaml
from nasseg.records import Size, digest

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
# They do not decide the weights, or (the last) are compared in another way.
_NOT_COMPARED = frozenset({"channels_last", "eval_batch_size", "accumulation"})
# Newer settings: left out of the hash while unset, so that old hashes stay.
_LATER = frozenset(
    {
        "warmup_curve",
        "rand_augment",
        "class_uniform",
        "pseudo",
        "class_weights",
        "learning_rate_of",
        "label_smoothing",
        "tf32",
    }
)


class OHEM(BaseModel):
    """Online hard example mining: the loss is the mean over only the hard pixels of a batch.

    probability_below: pixels whose class has a lower probability are hard. loss_above: instead, those with a higher
    loss are. at_least: if a smaller share of the pixels is hard, this share with the highest losses is used, as far as
    they are labelled; without a threshold it is always used. share_of: `labelled` pixels, or `all`, including ignored
    ones, as STDC's and RegSeg's released code counts.
    """

    model_config = _STRICT

    probability_below: float | None = Field(None, gt=0, lt=1)
    loss_above: float | None = Field(None, ge=0)
    at_least: float = Field(1 / 16, gt=0, le=1)
    share_of: Literal["labelled", "all"] = "labelled"

    @model_validator(mode="after")
    def _one_threshold(self) -> "OHEM":
        if self.probability_below is not None and self.loss_above is not None:
            raise ValueError("give one of probability_below and loss_above")
        return self

    @property
    def threshold(self) -> float:
        """The loss above which a pixel is hard."""
        if self.probability_below is not None:
            return -log(self.probability_below)
        return inf if self.loss_above is None else self.loss_above


class RandAugment(BaseModel):
    """RegSeg's reduced RandAugment (Section 4.2): different ones of seven operations on each view.

    operations: how many. magnitude: 0..1; at 1, rotation is by 30 degrees to either side, and colour, contrast,
    brightness and sharpness change by a factor of 0.1 or 1.9. See nasseg.train.views.randaugment.
    """

    model_config = _STRICT

    operations: int = Field(2, ge=1, le=7)
    magnitude: float = Field(0.2, ge=0, le=1)


class SegmentationHeads(BaseModel):
    """A head on each named feature that predicts the classes, with the recipe's loss times `weight`.

    kind: booster is BiSeNetV2's (Figure 7), auxiliary is STDC's, without bias. features: of the encoder and context.
    weight: of its loss. width: channels of the 3x3 convolution, Ct.
    """

    model_config = _STRICT

    kind: Literal["booster", "auxiliary"]
    features: tuple[str, ...] = Field(min_length=1)
    width: int = Field(64, ge=1)
    weight: float = Field(1.0, gt=0)


DetailForm = Literal["printed", "released"]


class DetailHead(BaseModel):
    """STDC's detail guidance (Section 3.2.2) of the named feature, with the loss of Eq. 4 times `weight`.

    kind: detail. feature: of the encoder. width: channels of the 3x3 convolution. weight: of its loss. strides: of the
    Laplacian targets, any of 1, 2, 4 (Table 4), in pixels of the views. fusion: whether their weights are trained, too.
    form: `printed` is Eq. 5 over labelled pixels; `released` follows the authors' code: dice has no squares, the target
    marks the frame and the borders of ignored regions, but not what only a map of weight 0.1 marks, and the fusion is
    fixed.
    """

    model_config = _STRICT

    kind: Literal["detail"]
    feature: str
    width: int = Field(64, ge=1)
    weight: float = Field(1.0, gt=0)
    strides: tuple[Literal[1, 2, 4], ...] = Field((1, 2, 4), min_length=1)
    fusion: Literal["trainable", "fixed"] = "trainable"
    form: DetailForm = "printed"

    @model_validator(mode="after")
    def _released_is_fixed(self) -> "DetailHead":
        if self.form == "released" and self.fusion == "trainable":
            raise ValueError("no gradient reaches the released fusion: set fusion to fixed, or form to printed")
        return self

    @property
    def features(self) -> tuple[str, ...]:
        return (self.feature,)


Head = Annotated[SegmentationHeads | DetailHead, Field(discriminator="kind")]


class Recipe(BaseModel):
    """The settings of a training: a YAML mapping, or a published recipe's name with settings that replace its own.

    `hash` identifies the settings that decide the weights; `learning_rate_at` is the schedule; `deviations` lists the
    differences from the publication.

    name: of a published recipe, which the other keys change. steps: of the optimizer. batch_size: images in a step.
    accumulation: into how many parts a step is split to save memory; BatchNorm and OHEM see one part at a time.
    crop_size: [height, width], at most the image's; null for the whole image. scale_range: bounds of the random zoom.
    views: whether crop_size and scale_range refer to the camera's image or, for a network that resizes its input, to
    what it sees after resizing: training then skips the resize, so that losses and their targets are at the network's
    crop, too. flip: left-right, every second image. jitter: brightness and contrast vary by up to this fraction.
    rand_augment: null for none. class_uniform: the share of images drawn evenly over the classes, each with a crop
    around its class. pseudo: the share of a step's images drawn from pseudo-labelled ones, which the data must have.
    optimizer: sgd, adam or adamw. learning_rate: before the schedule. learning_rate_of: factors of the learning rate of
    parts of the network (encoder, context, decoder, head, as built) and of the recipe's `heads`. momentum: of SGD;
    Adam's and AdamW's betas are (0.9, 0.999). weight_decay: of the optimizer. weight_decay_on: `weights` means matrices
    and kernels, without biases, BatchNorm and other vectors; `convolutions` everything that belongs to a convolution;
    `not_batch_norm`; `all`. schedule: of the learning rate, down to 0 at the last step, or constant. power: of the poly
    schedule, (1 - progress) ** power. warmup_steps: linear, before the schedule proper. warmup_from: the share of the
    learning rate that it starts with, null for 1 / (warmup_steps + 1). warmup_curve: null for a straight line,
    exponential for a constant factor per step, which needs a warmup_from above 0. init: a file of weights to start
    from, as far as they fit (its hash is part of the accuracy protocol). init_map: patterns of tensor names there ->
    here (see nasseg.train.key_maps), for files with unknown names. ohem: only hard pixels count; null for cross entropy
    over all. class_weights: the loss is a mean with these weights, one per class, or inverse_log for ENet's 1 / ln(1.02
    + a class's share of the training split's labelled pixels); they do not change which pixels are hard.
    label_smoothing: the share of each label that goes to all classes equally, on whole images. heads: trained beside
    the network, then dropped. ema_decay: a moving average of weights and BatchNorm statistics is evaluated instead.
    precision: of the forward pass in training; fp16 scales the loss. tf32: whether a GPU may round the factors of fp32
    products to ten bits, in training and evaluation; null for no. channels_last: the layout of maps, for speed.
    eval_batch_size: images at once in an evaluation.
    """

    model_config = _STRICT

    name: str = ""
    init: str | None = None
    init_map: dict[str, str] = {}
    steps: int = Field(300, ge=1)
    batch_size: int = Field(8, ge=1)
    accumulation: int = Field(1, ge=1)
    crop_size: tuple[int, int] | None = None
    scale_range: tuple[float, float] = (1.0, 1.0)
    views: Literal["camera", "network"] = "camera"
    flip: bool = True
    jitter: float = Field(0.0, ge=0, lt=1)
    rand_augment: RandAugment | None = None
    class_uniform: float | None = Field(None, gt=0, le=1)
    pseudo: float | None = Field(None, gt=0, lt=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = Field(0.05, gt=0)
    learning_rate_of: dict[str, Annotated[float, Field(gt=0)]] | None = None
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    weight_decay_on: Literal["weights", "convolutions", "not_batch_norm", "all"] = "weights"
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: float = Field(0.9, gt=0)
    warmup_steps: int = Field(0, ge=0)
    warmup_from: float | None = Field(None, ge=0, le=1)
    warmup_curve: Literal["exponential"] | None = None
    ohem: OHEM | None = None
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | Literal["inverse_log"] | None = None
    label_smoothing: float | None = Field(None, gt=0, lt=1)
    heads: tuple[Head, ...] = ()
    ema_decay: float | None = Field(None, gt=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tf32: bool | None = None
    channels_last: bool = True
    eval_batch_size: int = Field(8, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not value.get("name"):
            return value
        name = str(value["name"])
        if name not in published_recipes():
            raise unknown("recipe", name, published_recipes())
        return {**published_recipes()[name].settings, **value}

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if self.crop_size is not None and min(self.crop_size) < 1:
            raise ValueError("crop_size is [height, width], both at least 1")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ValueError("scale_range is [low, high], 0 < low <= high")
        if self.warmup_steps >= self.steps:
            raise ValueError("warmup_steps must be below steps")
        if self.warmup_curve and not self.warmup_from:
            raise ValueError("an exponential warm-up needs a warmup_from above 0")
        if self.batch_size % self.accumulation:
            raise ValueError("batch_size must be divisible by accumulation")
        if self.pseudo is not None and not 0 < self.pseudo_count < self.batch_size:
            raise ValueError("pseudo must leave each step at least one image with and one without pseudo-labels")
        return self

    def compared(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain data. Recipes are compared by them.

        They leave out the name, and the path of the starting weights: their hash is part of the accuracy protocol.
        """
        data = self.model_dump(mode="json", exclude={"name", "init"})
        return {field: value for field, value in data.items() if value is not None or field not in _LATER}

    def replaced(self, settings: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with some settings replaced.

        Raises:
            UserError: a setting is unknown or refused.
        """
        return load_recipe({**self.model_dump(), **settings}) if settings else self

    @property
    def hash(self) -> str:
        """A short hash of the settings that decide the weights."""
        return digest(self.compared())

    @property
    def pseudo_count(self) -> int:
        """The number of a step's images that have pseudo-labels."""
        return round(self.batch_size * (self.pseudo or 0))

    @property
    def citation(self) -> str:
        return published_recipes()[self.name].citation if self.name else ""

    @property
    def deviations(self) -> tuple[str, ...]:
        """The differences from the publication, or from the step as written, one line each."""
        found: list[str] = []
        if self.name:
            found += published_recipes()[self.name].deviations
            ours, theirs = self.compared(), Recipe(name=self.name).compared()
            fields = [field for field in type(self).model_fields if field in {*ours, *theirs} - _NOT_COMPARED]
            pairs = [(field, ours.get(field), theirs.get(field)) for field in fields]
            found += [f"{field} is {now} instead of {then}" for field, now, then in pairs if now != then]
        if self.accumulation > 1:
            part = self.batch_size // self.accumulation
            found.append(f"BatchNorm and losses see {part} of a step's {self.batch_size} images at a time")
        return tuple(found)

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, 0..steps - 1."""
        if step < self.warmup_steps:
            if self.warmup_from is None:
                return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
            if self.warmup_curve:
                return float(self.learning_rate * self.warmup_from ** (1 - step / self.warmup_steps))
            return self.learning_rate * (self.warmup_from + (1 - self.warmup_from) * step / self.warmup_steps)
        progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        if self.schedule == "poly":
            return float(self.learning_rate * (1 - progress) ** self.power)
        if self.schedule == "cosine":
            return self.learning_rate * (1 + cos(pi * progress)) / 2
        return self.learning_rate

    def on(self, size: Size, input_scale: float = 1.0) -> "Recipe":
        """Return the recipe with the crop that it takes from images of this size.

        size: [height, width] of the images as networks see them. input_scale: by which the network resizes its input. A
        crop larger than the images is cut to them: the rest of each view would be grey and ignored.
        """
        if self.views == "network" and input_scale != 1.0:
            size = max(1, round(size[0] * input_scale)), max(1, round(size[1] * input_scale))
        elif self.crop_size is None:
            return self
        height, width = self.crop_size or size
        return self.model_copy(update={"crop_size": (min(height, size[0]), min(width, size[1]))})

    def deviations_on(self, size: Size, input_scale: float = 1.0) -> tuple[str, ...]:
        """Return the deviations from the publication when training on images of this size; see `on`."""
        crop = self.on(size, input_scale).crop_size
        wanted = self.on((1 << 30, 1 << 30), input_scale).crop_size
        if self.crop_size is None or crop is None or wanted is None or crop == wanted:
            return self.deviations
        (height, width), (high, wide) = crop, wanted
        return (*self.deviations, f"crops are {width} x {height}, because images are smaller than {wide} x {high}")


@dataclass(frozen=True)
class PublishedRecipe:
    """A row of recipes.yaml. deviations: the paper's settings that `settings` lack."""

    name: str
    citation: str
    settings: dict[str, Any]
    deviations: tuple[str, ...] = ()


@cache
def published_recipes() -> dict[str, PublishedRecipe]:
    """Return every recipe shipped with nasseg, by name."""
    rows = read_yaml(Path(__file__).with_name("recipes.yaml")).data
    return {
        name: PublishedRecipe(name, row["citation"], row["settings"], tuple(row.get("deviations", ())))
        for name, row in rows.items()
    }


def load_recipe(value: Recipe | str | Mapping[str, Any]) -> Recipe:
    """Load a recipe from a study file's entry: a name, or a mapping with or without one.

    Raises:
        UserError: no recipe has that name, or a setting is unknown or refused.
    """
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        where, problem = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise unknown("setting of a recipe", where, Recipe.model_fields) from None
        if not where:
            raise UserError(f"recipe: {problem}") from None
        raise UserError(f"recipe: {where}: {problem}, got {first['input']!r}") from None
