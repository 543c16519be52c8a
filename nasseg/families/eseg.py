"""ESeg.

Meng et al., "Revisiting Multi-Scale Feature Fusion for Semantic Segmentation", 2022. EfficientNet, pooled further down
to P9 (Pn has stride 2^n), and a BiFPN over all levels, instead of atrous convolutions or a high internal resolution.

What the paper leaves open is settled by its five parameter counts (Tables 1 and 4) and eight FLOPs: one network fits
them all (1024 x 2048, 19 classes; the rule is `nasseg.measure.cost.eseg_flops`):

- Encoder: EfficientNet without its last convolution and classifier. P6 to P9 are only a 3x3 pooling of the level
  above with stride 2, average as in Figure 3; EfficientDet's convolution at P6 would contradict the counts.
- BiFPN: each level has one lateral, 1x1 with bias and BatchNorm, shared by all nodes. A cell over n levels has
  2(n - 1) nodes, each a weighted sum -> depthwise 3x3 -> pointwise -> BatchNorm -> activation. Resampling has no
  weights.
- FPN (Table 2): one top-down pass with a dense 3x3 convolution after each sum, none at the top. It has 96 channels,
  too, though the paper adjusts "the filter sizes". Its parameters are not printed: this guess fits both FLOPs.
- Head: a separable 3x3, then a separable 3x3 to the classes, with bias, at the lowest level.
- Lite: a fused block's convolution keeps the kernel of the depthwise one, and a block of expansion 1 its projection.

Some things no number decides; they are as in EfficientDet: nodes weigh by fast normalised fusion; between levels, maps
are upsampled to the nearest and downsampled by 3x3 max pooling. The weights of the final sum are not kept above 0,
though the paper calls them "non-negative": the softmax makes that superfluous.

Disagreements: ESeg-Lite-S is printed as 17B and computed as 17.8; no other number describes a Lite network. Table 4
prints ESeg-L as 343B, Section 3.2 as 342B, which is what this network has (342.49). The FLOPs leave no room for the
products with the weights of sums: with them ESeg-S would have 34.6.

Initialisation is PyTorch's default; the paper loads ImageNet checkpoints instead. BatchNorm at a level of 1 x 1 with
one image in training normalises by its running statistics. Levels above log2 of the input's size are 1 x 1 copies.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.errors import unknown
from nasseg.families.arch import Arch, Context, Decoder, Encoder, Feature, Reads, Segmenter
from nasseg.families.backbones.efficientnet import ACTIVATIONS, BLOCKS, BN_EPS, EfficientNet, activate, conv_bn
from nasseg.families.layers import batch_norm2d, conv2d

FUSION_EPS = 1e-4


@dataclass(frozen=True, kw_only=True)
class ESegArch(Arch):
    """ESeg by Table 3; the defaults are ESeg-S. The Lite form is fused, without SE, with ReLU, from P3."""

    family: ClassVar[str] = "eseg"

    width: float = 1.0  # of EfficientNet
    depth: float = 1.1  # of EfficientNet
    lowest_level: int = 2
    highest_level: int = 9
    fusion: str = "bifpn"
    decoder_width: int = 96
    decoder_repeats: int = 4
    block: str = "mbconv"  # of EfficientNet
    squeeze_excitation: bool = True
    activation: str = "silu"  # everywhere

    def check(self) -> None:
        for name, choices in {"fusion": tuple(FUSIONS), "block": BLOCKS, "activation": tuple(ACTIVATIONS)}.items():
            if getattr(self, name) not in choices:
                raise unknown(f"{name} of {self.family}", getattr(self, name), choices)
        for name in ("width", "depth"):
            self.require(0 < getattr(self, name) <= 4, f"{name} must be above 0 and at most 4", getattr(self, name))
        self.require(self.lowest_level in (2, 3), "lowest_level must be 2 or 3", self.lowest_level)
        self.require(5 <= self.highest_level <= 9, "highest_level must be from 5 to 9", self.highest_level)
        for name in ("decoder_width", "decoder_repeats"):
            self.require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))

    def build_encoder(self) -> EfficientNet:
        return EfficientNet(
            self.width,
            self.depth,
            block=self.block,
            squeeze_excitation=self.squeeze_excitation,
            activation=self.activation,
        )

    def build(self, num_classes: int) -> Segmenter:
        backbone = self.build_encoder()
        encoder = PooledEncoder(backbone, PooledLevels(backbone.features, "p5", self.highest_level))
        decoder = PyramidDecoder(
            encoder.features,
            tuple(f"p{level}" for level in range(self.lowest_level, self.highest_level + 1)),
            channels=self.decoder_width,
            repeats=self.decoder_repeats,
            fusion=self.fusion,
            activation=self.activation,
        )
        head = Head(self.decoder_width, num_classes, self.activation)
        return Segmenter(encoder, decoder, head, input_scale=self.input_scale)


class PooledLevels(Context):
    """Coarser features, pooled from the feature `source` with the same channels.

    The feature at stride 2^level is called p<level>, up to p<highest>: [B, C, ceil(H / 2^level), ...].
    """

    def __init__(self, features: dict[str, Feature], source: str, highest: int) -> None:
        super().__init__()
        self.source, self.reads = source, (source,)
        channels, stride = features[source].channels, features[source].stride
        pooled = {f"p{level}": Feature(channels, 2**level) for level in range(stride.bit_length(), highest + 1)}
        self.pooled = tuple(pooled)
        self.features = {**features, **pooled}

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        maps = dict(maps)
        x = maps[self.source]
        for name in self.pooled:
            # Padding must not count: it would darken the borders, and a 1 x 1 map is all border.
            x = maps[name] = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return maps


class PooledEncoder(Encoder):
    """The backbone with its pooled levels: image -> {p1, ..., p<highest>}."""

    def __init__(self, backbone: EfficientNet, levels: PooledLevels) -> None:
        super().__init__()
        self.backbone, self.levels, self.features = backbone, levels, levels.features

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.levels(self.backbone.read(image, reads and (*reads, self.levels.source)))
        return maps


def separable(c: int, activation: str) -> list[nn.Module]:
    """Return a depthwise 3x3 and a pointwise convolution, BatchNorm and activation. The shape stays."""
    depthwise = conv2d(c, c, 3, padding=1, groups=c, bias=False)
    return [depthwise, *conv_bn(c, c, 1), activate(activation)]


def weighted_sum(maps: Iterable[Tensor], weights: Tensor) -> Tensor:
    """Sum maps of one shape with weights [number of maps]. addcmul lets the cost tell it from a plain sum.

    Each map is requested only when it is added, so that not all of them exist at once.
    """
    rest, parts = iter(maps), weights.unbind()
    total, number = next(rest) * parts[0], 1
    for x in rest:  # enumerate would hold each map until it has the next
        total = torch.addcmul(total, x, parts[number])
        number += 1
        del x
    return total


def fast_normalised(weights: Tensor) -> Tensor:
    """Normalise weights along the last axis by EfficientDet's fast normalised fusion."""
    positive = F.relu(weights)
    return positive / (positive.sum(-1, keepdim=True) + FUSION_EPS)


def upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


class BiFPN(nn.Module):
    """One cell on maps of `levels` levels, finest first, c channels each: a pass top-down, then one bottom-up.

    The weights of all nodes with two inputs, and of those with three, lie in one tensor each, normalised at once.
    """

    def __init__(self, c: int, levels: int, activation: str) -> None:
        super().__init__()

        def nodes() -> nn.ModuleList:
            return nn.ModuleList(nn.Sequential(*separable(c, activation)) for _ in range(levels - 1))

        self.top_down, self.bottom_up = nodes(), nodes()
        self.two_weights = nn.Parameter(torch.ones(levels, 2))  # of the top-down nodes and of the last bottom-up one
        self.three_weights = nn.Parameter(torch.ones(levels - 2, 3))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        two, three = fast_normalised(self.two_weights).unbind(), fast_normalised(self.three_weights).unbind()
        top = len(maps) - 1
        down = list(maps)
        for level in reversed(range(top)):
            inputs = [maps[level], upsample(down[level + 1], maps[level])]
            down[level] = self.top_down[level](weighted_sum(inputs, two[level]))
        out = down[:1]
        for level, node in enumerate(self.bottom_up, start=1):
            below = F.max_pool2d(out[-1], 3, stride=2, padding=1)
            if level == top:
                out.append(node(weighted_sum([maps[level], below], two[level])))
            else:
                out.append(node(weighted_sum([maps[level], down[level], below], three[level - 1])))
        return out


class FPN(nn.Module):
    """One cell like BiFPN, top-down only, with plain sums and a dense 3x3 convolution; the top level stays as it is."""

    def __init__(self, c: int, levels: int, activation: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Sequential(*conv_bn(c, c, 3), activate(activation)) for _ in range(levels - 1))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        out = list(maps)
        for level in reversed(range(len(maps) - 1)):
            out[level] = self.convs[level](maps[level] + upsample(out[level + 1], maps[level]))
        return out


FUSIONS: dict[str, type[BiFPN] | type[FPN]] = {"bifpn": BiFPN, "fpn": FPN}


class PyramidDecoder(Decoder):
    """Named features, finest first -> laterals -> fusion cells -> softmax-weighted sum at the finest one's stride.

    The sum is the equation of Section 3.1; the result has `channels` channels.
    """

    def __init__(
        self,
        features: dict[str, Feature],
        names: tuple[str, ...],
        *,
        channels: int,
        repeats: int,
        fusion: str,
        activation: str,
    ) -> None:
        super().__init__()
        self.names = self.reads = names
        self.feature = Feature(channels, features[names[0]].stride)
        self.laterals = nn.ModuleList(
            nn.Sequential(conv2d(features[name].channels, channels, 1), batch_norm2d(channels, eps=BN_EPS))
            for name in names
        )
        self.cells = nn.ModuleList(FUSIONS[fusion](channels, len(names), activation) for _ in range(repeats))
        self.level_weights = nn.Parameter(torch.ones(len(names)))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        maps = [lateral(features[name]) for lateral, name in zip(self.laterals, self.names, strict=True)]
        for cell in self.cells:
            maps = cell(maps)
        size = maps[0].shape[-2:]
        resized = (F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in maps[1:])
        return weighted_sum(chain(maps[:1], resized), self.level_weights.softmax(0))


class Head(nn.Sequential):
    """[B, c, H, W] -> logits [B, num_classes, H, W]."""

    def __init__(self, c: int, num_classes: int, activation: str) -> None:
        depthwise = conv2d(c, c, 3, padding=1, groups=c, bias=False)
        super().__init__(*separable(c, activation), depthwise, conv2d(c, num_classes, 1))
