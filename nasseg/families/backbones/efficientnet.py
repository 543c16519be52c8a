"""EfficientNet as an encoder, MBConv or Fused-MBConv.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, Table 1 and Eq 3, without
the 1280-channel convolution and the classifier. Fused-MBConv: Gupta and Tan, "EfficientNet-EdgeTPU", 2019.

What the papers leave out is settled by EfficientNet's published checkpoints: channels are rounded to multiples of 8
(never below 90 %), the stem scales with the width, squeeze-and-excitation reduces to 1/4 of the block's *input*
channels, and BatchNorm's eps is 1e-3.

Deviations: a strided convolution pads both sides alike, while TensorFlow pads the far side more (the sizes are the
same, maps shift by a pixel). BatchNorm's momentum is torch's. Stochastic depth belongs to training and is not built.
"""

from math import ceil

from torch import Tensor, nn

from nasseg.families.graph.on_meta import layer
from nasseg.families.layers import Levels, batch_norm2d, conv2d

BN_EPS = 1e-3
ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU}
BLOCKS = ("mbconv", "fused")
# Table 1: expansion, kernel, stride, channels, layers. Each feature is the last layer's output at its stride.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM_CHANNELS = 32


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of divisor, or to the next one up if that is below 90 %."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def conv_bn(c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution without bias and its BatchNorm with EfficientNet's eps. Sizes become ceil(size / stride)."""
    conv = conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, batch_norm2d(c_out, eps=BN_EPS)]


def activate(name: str) -> nn.Module:
    return layer(ACTIVATIONS[name], inplace=True)


class SqueezeExcitation(nn.Module):
    """Channels weighted by a two-layer network of their global averages; the shape stays."""

    def __init__(self, channels: int, reduced: int, activation: str) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            conv2d(channels, reduced, 1),
            activate(activation),
            conv2d(reduced, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.weigh(x)
        return y


class InvertedBottleneck(nn.Module):
    """MBConv, or Fused-MBConv: [B, c_in, H, W] -> [B, c_out, ceil(H / stride), ceil(W / stride)].

    MBConv: 1x1 expansion (none at expansion 1), depthwise kernel x kernel, projection. Fused: a dense kernel x kernel
    convolution for the first two. The input is added where the shape stays.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        expansion: int,
        kernel: int,
        stride: int,
        block: str,
        squeeze_excitation: bool,
        activation: str,
    ) -> None:
        super().__init__()
        hidden = expansion * c_in
        layers: list[nn.Module] = []
        if block == "fused":
            layers += [*conv_bn(c_in, hidden, kernel, stride=stride), activate(activation)]
        else:
            if expansion != 1:
                layers += [*conv_bn(c_in, hidden, 1), activate(activation)]
            layers += [*conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden), activate(activation)]
        if squeeze_excitation:
            layers.append(SqueezeExcitation(hidden, max(1, c_in // 4), activation))
        self.main = nn.Sequential(*layers, *conv_bn(hidden, c_out, 1))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        return x + y if self.residual else y


class EfficientNet(Levels):
    """Image -> {p1, ..., p5}, the last block's output at strides 2, ..., 32.

    width and depth scale STAGES (B0 is 1.0, 1.0; B1 1.0, 1.1; B4 1.4, 1.8; B7 2.0, 3.1).
    """

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        *,
        block: str = "mbconv",
        squeeze_excitation: bool = True,
        activation: str = "silu",
    ) -> None:
        c_in = round_channels(STEM_CHANNELS * width)
        stem = nn.Sequential(*conv_bn(3, c_in, 3, stride=2), activate(activation))
        blocks: list[tuple[nn.Module, int, int]] = [(stem, c_in, 2)]
        for expansion, kernel, stride, channels, count in STAGES:
            c_out = round_channels(channels * width)
            for s in [stride] + [1] * (ceil(depth * count) - 1):
                bottleneck = InvertedBottleneck(
                    c_in,
                    c_out,
                    expansion=expansion,
                    kernel=kernel,
                    stride=s,
                    block=block,
                    squeeze_excitation=squeeze_excitation,
                    activation=activation,
                )
                blocks.append((bottleneck, c_out, s))
                c_in = c_out
        super().__init__(blocks)
