"""Training on whole images: the same loop, with different views, loss and score."""

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.data.split import upload
from nasseg.errors import MisfitError, UserError
from nasseg.families import Arch
from nasseg.families.backbones.backbone import BackboneArch, Classifier
from nasseg.families.stdc import STDCArch
from nasseg.records import Size
from nasseg.train.classification.images import TRIES, ImageFolder
from nasseg.train.loop import PRECISIONS, Guard, Scores, Training
from nasseg.train.recipe import Recipe
from nasseg.train.views.batches import Rounds
from nasseg.train.views.network_input import normalise

SIZE: Size = (224, 224)  # of a view, unless the recipe has a crop_size
# Recipe settings about pixels, with the values at which they do nothing.
OF_PIXELS: dict[str, Any] = {
    "scale_range": (1.0, 1.0),
    "views": "camera",
    "jitter": 0.0,
    "rand_augment": None,
    "class_uniform": None,
    "pseudo": None,
    "ohem": None,
    "class_weights": None,
    "heads": (),
}


@dataclass(frozen=True)
class ClassifierOf:
    """The classifier that was published with an encoder: STDC's, or a backbone's.

    Raises:
        UserError: none was.
    """

    arch: Arch

    def __post_init__(self) -> None:
        if isinstance(self.arch, BackboneArch) and self.arch.output_stride != 32:
            raise UserError("a backbone is pre-trained at its own stride: leave output_stride at 32")
        if not isinstance(self.arch, BackboneArch | STDCArch):
            raise UserError(
                f"{self.arch.family} has no classifier to pre-train: stdc and backbones have one (`backbone --set "
                "name=resnet18`)"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the classifier except the number of classes."""
        arch = self.arch
        if isinstance(arch, BackboneArch):
            return {"family": arch.family, "name": arch.name}
        return {"family": arch.family, **replace(cast(STDCArch, arch), form="classifier", input_scale=1.0).params()}

    def build(self, num_classes: int) -> nn.Module:
        if isinstance(self.arch, BackboneArch):
            return Classifier(self.arch.name, num_classes)
        return replace(cast(STDCArch, self.arch), form="classifier", input_scale=1.0).build(num_classes)


class ImageRounds:
    """The numbers of each step's images: all pictures once, in random order, then again."""

    def __init__(self, count: int, size: int, generator: torch.Generator) -> None:
        self.rounds = Rounds(count, size, generator)

    def next(self) -> Tensor:
        return self.rounds.next()

    def state(self) -> dict[str, Any]:
        return {"order": self.rounds.order}

    def load(self, state: dict[str, Any]) -> None:
        self.rounds.order = state["order"]


class Classifying(Training):
    """A training of [B, 3, H, W] -> logits [B, classes], by cross entropy, scored by top-1."""

    def prepare(self) -> None:
        require_whole_images(self.recipe)
        self.images = cast(ImageFolder, self.data)
        self.size = self.recipe.crop_size or SIZE
        self.batches = ImageRounds(len(self.images.train), self.recipe.batch_size, self.generator)

    def views(self) -> tuple[Tensor, Tensor]:
        numbers = self.batches.next().tolist()
        draws = torch.rand(len(numbers), TRIES, 4, generator=self.generator)
        mirrored = torch.rand(len(numbers), generator=self.generator) < 0.5
        images, classes = self.images.train.views(numbers, self.size, draws)
        if self.recipe.flip:
            images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
        return normalise(upload(images, self.device)), upload(classes, self.device)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        recipe = self.recipe
        with torch.autocast(images.device.type, PRECISIONS[recipe.precision], enabled=recipe.precision != "fp32"):
            logits = self._logits(images)
        return F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing or 0.0)

    def score(self, guard: Guard) -> Scores:
        """Return top-1 on the validation split as both figures of a score: the loop keeps the best by miou."""
        val, size, right = self.images.val, self.recipe.eval_batch_size, 0
        self.model.eval()
        with torch.inference_mode():
            for begin in range(0, len(val), size):
                with guard():
                    numbers = [*range(begin, min(begin + size, len(val)))]
                    images, classes = val.views(numbers, self.size, None)
                    predicted = self._logits(normalise(images.to(self.device))).argmax(1)
                    right += int((predicted.cpu() == classes).sum())
        top1 = 100 * right / len(val)
        return Scores(miou=top1, pixel_accuracy=top1, class_iou={})

    def _logits(self, images: Tensor) -> Tensor:
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.model(images)
        if logits.shape != (len(images), self.images.num_classes):
            raise MisfitError(f"a classifier returns [B, {self.images.num_classes}], got {list(logits.shape)}")
        return logits


def require_whole_images(recipe: Recipe) -> None:
    """Refuse a recipe with settings about pixels, which do not apply to whole images.

    Raises:
        UserError: it has such settings.
    """
    meant = [name for name, silent in OF_PIXELS.items() if getattr(recipe, name) != silent]
    if meant:
        raise UserError(f"{', '.join(meant)} in a recipe are for segmentation: leave them out to pre-train")
