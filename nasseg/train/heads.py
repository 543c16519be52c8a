"""Training heads: they read named features of a network during training, and are then dropped.

The booster heads of BiSeNetV2 (Section 4.4), the auxiliary heads and the detail guidance of STDC (Section 3.2.2). Each
is a 3x3 Conv-BN-ReLU and a 1x1 convolution at its feature's stride, resized to the labels like the network's logits.

The papers do not give a booster's width (64 here, as in the main head), or the weight of each of these losses (1 here).
STDC fuses its targets by a trainable 1x1 convolution and thresholds the result at 0.1, and no gradient passes this
step. So, trained as written, the fusion keeps its first weights, 0.6, 0.3 and 0.1 as released. In the released code, a
map of weight 0.1 makes no detail by itself (form: released). In the printed form it does, because the weight just
reaches 0.1, and the gradient can pass the step unchanged (fusion: trainable). The weights are then a softmax: weights
free to shrink would remove the targets, and with them the loss. A map whose weight falls below 0.1 makes no detail by
itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nasseg.errors import MisfitError, unknown
from nasseg.families.arch import Feature
from nasseg.families.layers import conv_head
from nasseg.train.losses import EDGE, detail_loss, detail_maps, segmentation_loss
from nasseg.train.recipe import OHEM, DetailHead, Recipe, SegmentationHeads

FUSION = {1: 0.6, 2: 0.3, 4: 0.1}  # initial weights of the Laplacian targets, by stride
_ROUNDING = 1e-6


class SegmentationHead(nn.Module):
    """Booster or auxiliary head: [B, c, H, W] -> logits [B, classes, H, W]."""

    def __init__(self, settings: SegmentationHeads, c: int, num_classes: int, ohem: OHEM | None) -> None:
        super().__init__()
        self.ohem = ohem
        self.layers = conv_head(c, settings.width, num_classes, bias=settings.kind == "booster")
        if settings.kind == "booster":  # BiSeNetV2, Section 5, "Training"
            for layer in self.layers.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits

    def loss(self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
        return segmentation_loss(logits, labels, self.ohem, class_weights)


class DetailGuidance(nn.Module):
    """Detail head with the fusion of its targets: [B, c, H, W] -> logits [B, 1, H, W]."""

    fusion: Tensor

    def __init__(self, settings: DetailHead, c: int) -> None:
        super().__init__()
        self.strides, self.form = settings.strides, settings.form
        self.layers = conv_head(c, settings.width, 1)
        first = torch.tensor([FUSION[stride] for stride in settings.strides]).log()
        if settings.fusion == "trainable":
            self.fusion = nn.Parameter(first)
        else:
            self.register_buffer("fusion", first)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits

    def target(self, labels: Tensor) -> Tensor:
        """Return the detail of labels [B, H, W]: 0 or 1, with the gradient of the sum before the threshold."""
        weights = self.fusion.softmax(0)
        fused = (detail_maps(labels, self.strides, self.form) * weights[:, None, None]).sum(1)
        if self.form == "released":
            return (fused > EDGE + _ROUNDING).float()
        return (fused >= EDGE - _ROUNDING).float() + (fused - fused.detach())

    def loss(self, logits: Tensor, labels: Tensor, _class_weights: Tensor | None = None) -> Tensor:
        return detail_loss(logits[:, 0], self.target(labels), labels, self.form)


class TrainingHeads(nn.Module):
    """All heads of a recipe on a network. If the recipe has none, the network may be any module."""

    def __init__(self, recipe: Recipe, model: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.names = tuple(name for settings in recipe.heads for name in settings.features)
        self.weights = tuple(settings.weight for settings in recipe.heads for _ in settings.features)
        known = _features(model)[1] if recipe.heads else {}
        self.heads = nn.ModuleList()
        for settings in recipe.heads:
            for name in settings.features:
                if name not in known:
                    raise MisfitError(str(unknown(f"feature for {settings.kind} head", name, known)))
                c = known[name].channels
                self.heads.append(
                    DetailGuidance(settings, c)
                    if isinstance(settings, DetailHead)
                    else SegmentationHead(settings, c, num_classes, recipe.ohem)
                )
        self._outputs: list[Tensor] = []

    @contextmanager
    def reading(self, model: nn.Module) -> Iterator[None]:
        """Run the heads within each forward pass of the network, before its decoder."""
        if not self.names:
            yield
            return

        def read(_module: nn.Module, _inputs: object, maps: dict[str, Tensor]) -> None:
            self._outputs = [head(maps[name]) for head, name in zip(self.heads, self.names, strict=True)]

        handle = _features(model)[0].register_forward_hook(read)
        try:
            yield
        finally:
            handle.remove()

    def losses(self, model: nn.Module, labels: Tensor, class_weights: Tensor | None = None) -> list[Tensor]:
        """Return the weighted losses of the network's last forward pass; outputs are resized like its logits."""
        outputs, self._outputs = self._outputs, []
        return [
            weight * head.loss(model.resize(output.float(), labels.shape[-2:]), labels, class_weights)  # type: ignore[operator]
            for weight, head, output in zip(self.weights, self.heads, outputs, strict=True)
        ]


def _features(model: nn.Module) -> tuple[nn.Module, dict[str, Feature]]:
    """Return the module that returns a network's features, and their description."""
    context = getattr(model, "context", None)
    source = getattr(model, "encoder", None) if context is None else context
    features = getattr(source, "features", None)
    if not isinstance(source, nn.Module) or not isinstance(features, dict) or not hasattr(model, "resize"):
        raise MisfitError(
            f"the recipe's heads need a network with named features, got a {type(model).__name__}: leave out "
            "`heads`, or build a nasseg.families.Segmenter"
        )
    return source, features
