from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.errors import unknown
from nasseg.families.arch import Arch, Feature, Segmenter
from nasseg.families.efficientnet import ACTIVATIONS, BLOCKS, BN_EPS, EfficientNet, activate, conv_bn
from nasseg.families.layers import SingleValueBatchNorm2d

FUSIONS = ("bifpn", "fpn")


@dataclass(frozen=True, kw_only=True)
class ESegArch(Arch):
    family: ClassVar[str] = "eseg"

    width: float = 1.0
    depth: float = 1.1
    lowest: int = 2
    highest: int = 9
    fusion: str = "bifpn"
    decoder_channels: int = 96
    decoder_repeats: int = 4
    block: str = "mbconv"
    squeeze_excitation: bool = True
    activation: str = "silu"

    def check(self) -> None:
        for name, choices in {"fusion": FUSIONS, "block": BLOCKS, "activation": tuple(ACTIVATIONS)}.items():
            if getattr(self, name) not in choices:
                raise unknown(f"{name} of {self.family}", getattr(self, name), choices)
        self.require(0 < self.width <= 4, "width must be above 0 and at most 4", self.width)
        self.require(0 < self.depth <= 8, "depth must be above 0 and at most 8", self.depth)
        self.require(self.lowest in (2, 3), "lowest must be 2 or 3", self.lowest)
        self.require(5 <= self.highest <= 9, "highest must be 5 to 9", self.highest)
        for name in ("decoder_channels", "decoder_repeats"):
            self.require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))

    def build(self, num_classes: int) -> Segmenter:
        backbone = EfficientNet(
            self.width,
            self.depth,
            block=self.block,
            squeeze_excitation=self.squeeze_excitation,
            activation=self.activation,
        )
        encoder = PooledLevels(backbone, "p5", self.highest)
        decoder = PyramidDecoder(
            encoder.features,
            tuple(f"p{level}" for level in range(self.lowest, self.highest + 1)),
            channels=self.decoder_channels,
            repeats=self.decoder_repeats,
            fusion=self.fusion,
            activation=self.activation,
        )
        head = Head(self.decoder_channels, num_classes, self.activation)
        return Segmenter(encoder, decoder, head, input_scale=self.input_scale)


class PooledLevels(nn.Module):
    """An encoder with coarser features of the same channels, by 3x3 average pooling with stride 2."""

    def __init__(self, encoder: nn.Module, source: str, highest: int) -> None:
        super().__init__()
        self.backbone, self.source = encoder, source
        features: dict[str, Feature] = dict(encoder.features)  # type: ignore[arg-type]
        top = features[source]
        level = top.stride.bit_length()
        self.pooled = tuple(f"p{n}" for n in range(level, highest + 1))
        features |= {f"p{n}": Feature(top.channels, 2**n) for n in range(level, highest + 1)}
        self.features = features

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.backbone(image)
        x = maps[self.source]
        for name in self.pooled:
            x = maps[name] = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return maps


class Lateral(nn.Sequential):
    def __init__(self, c_in: int, c: int) -> None:
        super().__init__(nn.Conv2d(c_in, c, 1), SingleValueBatchNorm2d(c, eps=BN_EPS))


def separable(c: int, activation: str) -> list[nn.Module]:
    depthwise = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
    return [depthwise, *conv_bn(c, c, 1), activate(activation)]


def weighted_sum(maps: list[Tensor], weights: Tensor) -> Tensor:
    total, *rest = weights.unbind()
    y = maps[0] * total
    for x, weight in zip(maps[1:], rest, strict=True):
        y = torch.addcmul(y, x, weight)
    return y


def upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


class BiFPNNode(nn.Module):
    def __init__(self, c: int, inputs: int, activation: str) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv = nn.Sequential(*separable(c, activation))

    def forward(self, *maps: Tensor) -> Tensor:
        weights = F.relu(self.weights)
        y: Tensor = self.conv(weighted_sum(list(maps), weights / (weights.sum() + 1e-4)))
        return y


class BiFPN(nn.Module):
    def __init__(self, c: int, levels: int, activation: str) -> None:
        super().__init__()
        self.top_down = nn.ModuleList(BiFPNNode(c, 2, activation) for _ in range(levels - 1))
        self.bottom_up = nn.ModuleList(
            BiFPNNode(c, 3 if level < levels - 1 else 2, activation) for level in range(1, levels)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        down = list(maps)
        for level in reversed(range(len(maps) - 1)):
            down[level] = self.top_down[level](maps[level], upsample(down[level + 1], maps[level]))
        out = [down[0]]
        for level, node in enumerate(self.bottom_up, start=1):
            inputs = [maps[level]] if level == len(maps) - 1 else [maps[level], down[level]]
            out.append(node(*inputs, F.max_pool2d(out[-1], 3, stride=2, padding=1)))
        return out


class FPN(nn.Module):
    def __init__(self, c: int, levels: int, activation: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Sequential(*conv_bn(c, c, 3), activate(activation)) for _ in range(levels - 1))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        out = list(maps)
        for level in reversed(range(len(maps) - 1)):
            out[level] = self.convs[level](maps[level] + upsample(out[level + 1], maps[level]))
        return out


class PyramidDecoder(nn.Module):
    def __init__(
        self,
        features: dict[str, Feature],
        names: tuple[str, ...],
        *,
        channels: int,
        repeats: int,
        fusion: str = "bifpn",
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.names = names
        self.feature = Feature(channels, features[names[0]].stride)
        self.laterals = nn.ModuleList(Lateral(features[name].channels, channels) for name in names)
        cell = {"bifpn": BiFPN, "fpn": FPN}[fusion]
        self.cells = nn.Sequential(*(cell(channels, len(names), activation) for _ in range(repeats)))
        self.level_weights = nn.Parameter(torch.ones(len(names)))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        maps = [lateral(features[name]) for lateral, name in zip(self.laterals, self.names, strict=True)]
        maps = self.cells(maps)
        size = maps[0].shape[-2:]
        maps[1:] = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in maps[1:]]
        return weighted_sum(maps, self.level_weights.softmax(0))


class Head(nn.Sequential):
    def __init__(self, c: int, num_classes: int, activation: str) -> None:
        super().__init__(
            *separable(c, activation),
            nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False),
            nn.Conv2d(c, num_classes, 1),
        )
