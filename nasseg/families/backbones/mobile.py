"""Encoders made for phones: MobileNetV2, MobileNetV3-Large, GhostNet and ShuffleNetV2, without their classifiers.

- Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, Table 2.
- Howard et al., "Searching for MobileNetV3", 2019, Table 1.
- Han et al., "GhostNet: More Features from Cheap Operations", 2020, Table 1.
- Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", 2018, Table 5.

What the papers leave open is as in the released networks. Squeeze-and-excitation has a quarter of the expanded
channels: in multiples of 8 in MobileNetV3, in multiples of 4 in GhostNet, like all of GhostNet's widths. In GhostNet
the depthwise convolutions between two Ghost modules have no ReLU, and a block that changes the shape has a depthwise
and a 1x1 convolution as its shortcut.

Deviations: BatchNorm's eps and momentum and the initialisation are torch's.
"""

import torch
from torch import Tensor, nn

from nasseg.families.backbones.efficientnet import round_channels
from nasseg.families.layers import Levels, conv2d, conv_bn, conv_bn_relu, relu

# MobileNetV2, Table 2: expansion, channels, layers, stride.
MOBILENETV2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# MobileNetV3, Table 1: kernel, expanded channels, channels, squeeze-and-excitation, hard-swish, stride.
MOBILENETV3_LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
# GhostNet, Table 1: kernel of the strided convolutions, expanded channels, channels, squeeze-and-excitation, stride.
GHOSTNET = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
)
# ShuffleNetV2, Table 5, column 1.5x: channels and units of Stages 2, 3, 4.
SHUFFLENETV2 = ((176, 4), (352, 8), (704, 4))


class HardSqueezeExcitation(nn.Module):
    """Channels weighted by two 1x1 convolutions of their global averages and a hard sigmoid; the shape stays."""

    def __init__(self, c: int, divisor: int) -> None:
        super().__init__()
        reduced = round_channels(c / 4, divisor)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            conv2d(c, reduced, 1),
            relu(),
            conv2d(reduced, c, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.weigh(x)
        return y


class InvertedResidual(nn.Module):
    """MobileNetV2's and V3's block: [B, c_in, H, W] -> [B, c_out, ceil(H / stride), ceil(W / stride)].

    1x1 expansion (none if it would expand nothing), depthwise convolution, squeeze-and-excitation on request, linear
    1x1. The input is added if the shape stays.
    """

    def __init__(
        self,
        c_in: int,
        expanded: int,
        c_out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        squeeze_excitation: bool = False,
        activation: type[nn.Module] = nn.ReLU6,
    ) -> None:
        super().__init__()
        layers = [*conv_bn(c_in, expanded, 1), activation()] if expanded != c_in else []
        layers += [*conv_bn(expanded, expanded, kernel, stride=stride, groups=expanded), activation()]
        if squeeze_excitation:
            layers.append(HardSqueezeExcitation(expanded, 8))
        self.main = nn.Sequential(*layers, *conv_bn(expanded, c_out, 1))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        return x + y if self.residual else y


class MobileNetV2(Levels):
    """Width 1: 16, 24, 32, 96, 320 channels."""

    def __init__(self) -> None:
        c_in = 32
        blocks: list[tuple[nn.Module, int, int]] = [
            (nn.Sequential(*conv_bn(3, c_in, stride=2), nn.ReLU6()), c_in, 2),
        ]
        for expansion, c, layers, first_stride in MOBILENETV2:
            for stride in [first_stride] + [1] * (layers - 1):
                blocks.append((InvertedResidual(c_in, expansion * c_in, c, stride=stride), c, stride))
                c_in = c
        super().__init__(blocks)


class MobileNetV3Large(Levels):
    """Width 1: 16, 24, 40, 112, 160 channels."""

    def __init__(self) -> None:
        c_in = 16
        blocks: list[tuple[nn.Module, int, int]] = [
            (nn.Sequential(*conv_bn(3, c_in, stride=2), nn.Hardswish()), c_in, 2),
        ]
        for kernel, expanded, c, squeeze_excitation, hard_swish, stride in MOBILENETV3_LARGE:
            block = InvertedResidual(
                c_in,
                expanded,
                c,
                kernel=kernel,
                stride=stride,
                squeeze_excitation=squeeze_excitation,
                activation=nn.Hardswish if hard_swish else nn.ReLU,
            )
            blocks.append((block, c, stride))
            c_in = c
        super().__init__(blocks)


class GhostModule(nn.Module):
    """A 1x1 convolution gives half of the c_out channels, and a depthwise 3x3 on these gives the other half."""

    def __init__(self, c_in: int, c_out: int, *, activate: bool) -> None:
        super().__init__()
        half = c_out // 2
        after = [relu()] if activate else []
        self.primary = nn.Sequential(*conv_bn(c_in, half, 1), *after)
        self.cheap = nn.Sequential(*conv_bn(half, half, groups=half), *after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return torch.cat([x, self.cheap(x)], dim=1)


class GhostBottleneck(nn.Module):
    """Figure 3: [B, c_in, H, W] -> [B, c_out, ceil(H / stride), ceil(W / stride)]."""

    def __init__(
        self, c_in: int, expanded: int, c_out: int, *, kernel: int, stride: int, squeeze_excitation: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [GhostModule(c_in, expanded, activate=True)]
        if stride > 1:
            layers += conv_bn(expanded, expanded, kernel, stride=stride, groups=expanded)
        if squeeze_excitation:
            layers.append(HardSqueezeExcitation(expanded, 4))
        self.main = nn.Sequential(*layers, GhostModule(expanded, c_out, activate=False))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or c_in != c_out:
            down = conv_bn(c_in, c_in, kernel, stride=stride, groups=c_in)
            self.shortcut = nn.Sequential(*down, *conv_bn(c_in, c_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x) + self.shortcut(x)
        return y


class GhostNet(Levels):
    """Width 1: 16, 24, 40, 112, 160 channels."""

    def __init__(self, width: float = 1.0) -> None:
        c_in = round_channels(16 * width, 4)
        blocks: list[tuple[nn.Module, int, int]] = [(conv_bn_relu(3, c_in, stride=2), c_in, 2)]
        for kernel, expanded, channels, squeeze_excitation, stride in GHOSTNET:
            c = round_channels(channels * width, 4)
            block = GhostBottleneck(
                c_in,
                round_channels(expanded * width, 4),
                c,
                kernel=kernel,
                stride=stride,
                squeeze_excitation=squeeze_excitation,
            )
            blocks.append((block, c, stride))
            c_in = c
        super().__init__(blocks)


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit (Figure 3c, d): [B, c_in, H, W] -> [B, c_out, ceil(H / stride), ceil(W / stride)].

    With stride 1, c_in = c_out and half of the channels pass unchanged.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1) -> None:
        super().__init__()
        half = c_out // 2
        self.split = stride == 1
        self.right = nn.Sequential(
            conv_bn_relu(half if self.split else c_in, half, 1),
            *conv_bn(half, half, stride=stride, groups=half),
            conv_bn_relu(half, half, 1),
        )
        self.left: nn.Module = nn.Identity()
        if not self.split:
            self.left = nn.Sequential(*conv_bn(c_in, c_in, stride=stride, groups=c_in), conv_bn_relu(c_in, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        halves = x.chunk(2, dim=1) if self.split else (x, x)
        left, right = halves[0], halves[1]
        y = torch.cat([self.left(left), self.right(right)], dim=1)
        return y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)  # the two halves' channels in turns


class ShuffleNetV2(Levels):
    """1.5x: 24, 24, 176, 352, 704 channels. p2 is a max pooling of p1."""

    def __init__(self) -> None:
        c_in = 24
        blocks: list[tuple[nn.Module, int, int]] = [
            (conv_bn_relu(3, c_in, stride=2), c_in, 2),
            (nn.MaxPool2d(3, stride=2, padding=1), c_in, 2),
        ]
        for c, units in SHUFFLENETV2:
            for stride in [2] + [1] * (units - 1):
                blocks.append((ShuffleUnit(c_in, c, stride=stride), c, stride))
                c_in = c
        super().__init__(blocks)
