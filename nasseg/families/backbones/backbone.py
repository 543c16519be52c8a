"""Encoders of other papers, which the five papers' tables put in place of their own, and the DeepLabV3+ decoder.

`BACKBONES` has them by name, each with the features p1 to p5, its last maps at strides 2 to 32. `Classifier` makes one
the network for ImageNet whose parameters are published. `BackboneArch` makes it a segmentation network without decoder,
and an encoder for `composed`. No shipped space has them. The small ones are in `mobile.py`, EfficientNet is in
`efficientnet.py`; here:

- He et al., "Deep Residual Learning for Image Recognition", 2016, Table 1. In ResNet-50 the 3x3 convolution strides, as
  in all later work ("v1.5"), for 4.1 GFLOPs; in the paper the first 1x1 does, for 3.8. ESeg's Table 8 fits the later
  form.
- Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", 2018 (DeepLabV3+).
  Its decoder allows separable convolutions in several places. By the FLOPs of ESeg's Table 8 (1024 x 2048,
  `eseg_flops`) they are dense in the pooling pyramid and separable in the decoder. "With atrous" is output stride 16,
  "without" is 32 with the same dilations in the pyramid.

Deviations: initialisation, BatchNorm's eps and momentum are torch's (the tables start from ImageNet's weights).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.errors import unknown
from nasseg.families.arch import Arch, Context, Decoder, Encoder, Feature, Reads, Segmenter
from nasseg.families.backbones.efficientnet import EfficientNet
from nasseg.families.backbones.mobile import GhostNet, MobileNetV2, MobileNetV3Large, ShuffleNetV2
from nasseg.families.layers import Levels, Select, conv2d, conv_bn, conv_bn_relu


class ResidualBlock(nn.Module):
    """[B, c_in, H, W] -> [B, c_out, ceil(H / stride), ceil(W / stride)]; a 1x1 convolution where the shape changes.

    Figure 5 of the paper: two 3x3 convolutions, or (bottleneck) 1x1, 3x3, 1x1 with a quarter of the channels inside.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            c = c_out // 4
            layers = [conv_bn_relu(c_in, c, 1), conv_bn_relu(c, c, stride=stride), *conv_bn(c, c_out, 1)]
        else:
            layers = [conv_bn_relu(c_in, c_out, stride=stride), *conv_bn(c_out, c_out)]
        self.main = nn.Sequential(*layers)
        same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_bn(c_in, c_out, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.shortcut(x), inplace=True)


class ResNet(Levels):
    """p1 comes from the first convolution, p2 to p5 from conv2_x to conv5_x, which have `depths` blocks."""

    def __init__(self, depths: tuple[int, ...], *, bottleneck: bool) -> None:
        c_in = 64
        blocks: list[tuple[nn.Module, int, int]] = [
            (conv_bn_relu(3, c_in, 7, stride=2), c_in, 2),
            (nn.MaxPool2d(3, stride=2, padding=1), c_in, 2),
        ]
        for number, depth in enumerate(depths):
            c = 64 * 2**number * (4 if bottleneck else 1)
            for stride in [2 if number else 1] + [1] * (depth - 1):
                blocks.append((ResidualBlock(c_in, c, stride=stride, bottleneck=bottleneck), c, stride))
                c_in = c
        super().__init__(blocks)


BACKBONES: dict[str, Callable[[], Levels]] = {
    "resnet18": lambda: ResNet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: ResNet((3, 4, 6, 3), bottleneck=True),
    "mobilenetv2": MobileNetV2,
    "mobilenetv3-large": MobileNetV3Large,
    "shufflenetv2-1.5x": ShuffleNetV2,
    "ghostnet": GhostNet,
    "efficientnet-b0": EfficientNet,
    "efficientnet-b1": lambda: EfficientNet(1.0, 1.1),
}
# Between p5 and the classes: channels of a 1x1 convolution and of a layer after the pooling, and their activation.
CLASSIFIERS: dict[str, tuple[int | None, int | None, type[nn.Module]]] = {
    "resnet18": (None, None, nn.ReLU),
    "resnet50": (None, None, nn.ReLU),
    "mobilenetv2": (1280, None, nn.ReLU6),
    "mobilenetv3-large": (960, 1280, nn.Hardswish),
    "shufflenetv2-1.5x": (1024, None, nn.ReLU),
    "ghostnet": (960, 1280, nn.ReLU),
    "efficientnet-b0": (1280, None, nn.SiLU),
    "efficientnet-b1": (1280, None, nn.SiLU),
}


@dataclass(frozen=True, kw_only=True)
class BackboneArch(Arch):
    """A backbone and a linear classifier on its deepest feature."""

    family: ClassVar[str] = "backbone"

    name: str = "resnet18"
    output_stride: int = 32  # 8, 16: atrous
    last_convolution: bool = False  # the 1x1 convolution before the pooling, where there is one

    def check(self) -> None:
        if self.name not in BACKBONES:
            raise unknown("backbone", self.name, BACKBONES)
        self.require(self.output_stride in (8, 16, 32), "output_stride must be 8, 16 or 32", self.output_stride)

    def build_encoder(self) -> Encoder:
        encoder = BACKBONES[self.name]()
        if self.output_stride < 32:
            atrous(encoder, self.output_stride)
        return WithLastConvolution(encoder, self.name) if self.last_convolution else encoder

    def build(self, num_classes: int) -> Segmenter:
        encoder = self.build_encoder()
        deep = next(reversed(encoder.features))
        head = conv2d(encoder.features[deep].channels, num_classes, 1)
        return Segmenter(encoder, Select(encoder.features, deep), head, input_scale=self.input_scale)


class LastConvolution(Context):
    """Adds `last`: the 1x1 convolution of p5 that a backbone has before its pooling, or p5 where it has none."""

    def __init__(self, features: dict[str, Feature], name: str) -> None:
        super().__init__()
        c, _, activation = CLASSIFIERS[name]
        c_in, stride = features["p5"].channels, features["p5"].stride
        self.conv = nn.Sequential(*conv_bn(c_in, c, 1), activation()) if c else nn.Identity()
        self.reads = ("p5",)
        self.features = {**features, "last": Feature(c or c_in, stride)}

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**maps, "last": self.conv(maps["p5"])}


class WithLastConvolution(Encoder):
    """A backbone that also has the feature `last`."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        super().__init__()
        self.encoder, self.last = encoder, LastConvolution(encoder.features, name)
        self.features = self.last.features

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.last(self.encoder.read(image, reads and (*reads, "p5")))
        return maps


class Classifier(nn.Module):
    """A backbone as published, a classifier of whole images: [B, 3, H, W] -> logits [B, num_classes]."""

    def __init__(self, name: str, num_classes: int = 1000) -> None:
        super().__init__()
        self.encoder = BACKBONES[name]()
        self.context = LastConvolution(self.encoder.features, name)
        c, (_, hidden, activation) = self.context.features["last"].channels, CLASSIFIERS[name]
        layers = [nn.Linear(c, hidden), activation()] if hidden else []
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers, nn.Linear(hidden or c, num_classes))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.context(self.encoder(image))["last"])
        return logits


def atrous(encoder: Levels, output_stride: int = 16) -> Levels:
    """Change the encoder in place so that no feature is coarser than output_stride (8 or 16), and return it.

    Strides beyond it are dropped, and each later convolution is dilated by the strides dropped before it. Parameters
    stay the same; p5, and p4 for output stride 8, have the new stride.
    """
    dilation = 1
    for name, level in zip(tuple(encoder.features), encoder.levels, strict=True):
        if encoder.features[name].stride <= output_stride:
            continue
        before = dilation
        for conv in level.modules():
            if not isinstance(conv, nn.Conv2d):
                continue
            own = before if conv.stride != (1, 1) else dilation
            if conv.stride != (1, 1):  # its kernel lies on the map before the stride
                conv.stride, dilation = (1, 1), 2 * before
            if conv.kernel_size != (1, 1):
                conv.dilation, conv.padding = (own, own), (own * (conv.kernel_size[0] // 2),) * 2
        encoder.features[name] = Feature(encoder.features[name].channels, output_stride)
    return encoder


class ASPP(Context):
    """Atrous spatial pyramid pooling; adds the feature `aspp`, c channels at the stride of the one it reads.

    A 1x1 convolution, a dense 3x3 one at each rate and the global average through a 1x1, joined by a 1x1.
    """

    def __init__(
        self, features: dict[str, Feature], source: str = "p5", c: int = 256, rates: tuple[int, ...] = (6, 12, 18)
    ) -> None:
        super().__init__()
        self.source, self.reads = source, (source,)
        c_in = features[source].channels
        dilated = [conv_bn_relu(c_in, c, dilation=rate) for rate in rates]
        self.branches = nn.ModuleList([conv_bn_relu(c_in, c, 1), *dilated])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn_relu(c_in, c, 1))
        self.join = conv_bn_relu((len(rates) + 2) * c, c, 1)
        self.features = {**features, "aspp": Feature(c, features[source].stride)}

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        x = maps[self.source]
        pooled = self.pool(x).expand(-1, -1, x.shape[-2], x.shape[-1])
        return {**maps, "aspp": self.join(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))}


class DeepLabV3PlusDecoder(Decoder):
    """The decoder of DeepLabV3+ (Figure 2) on a fine feature, reduced to c_fine channels, and a deep one of c channels.

    The result has c channels at the fine one's stride; the head is a 1x1 convolution.
    """

    def __init__(self, features: dict[str, Feature], fine: str = "p2", deep: str = "aspp", *, c_fine: int = 48) -> None:
        super().__init__()
        self.fine, self.deep, self.reads = fine, deep, (fine, deep)
        c = features[deep].channels
        self.reduce = conv_bn_relu(features[fine].channels, c_fine, 1)
        self.refine = nn.Sequential(*_separable(c + c_fine, c), *_separable(c, c))
        self.feature = Feature(c, features[fine].stride)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        fine = maps[self.fine]
        refined: Tensor = self.refine(torch.cat([_resize(maps[self.deep], fine), self.reduce(fine)], dim=1))
        return refined


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _separable(c_in: int, c_out: int) -> list[nn.Module]:
    """Return a depthwise 3x3 and a 1x1 convolution, each as Conv-BN-ReLU."""
    return [conv_bn_relu(c_in, c_in, groups=c_in), conv_bn_relu(c_in, c_out, 1)]
