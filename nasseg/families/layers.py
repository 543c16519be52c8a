"""Layers shared by two or more families."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from nasseg.families.arch import Decoder, Encoder, Feature, Reads, kept
from nasseg.families.graph.on_meta import layer

# Torch's own layers, built by `layer` so that costing can copy layers it has already built.
conv2d = partial(layer, nn.Conv2d)
batch_norm2d = partial(layer, nn.BatchNorm2d)
prelu = partial(layer, nn.PReLU)
relu = partial(layer, nn.ReLU, inplace=True)


@contextmanager
def train_mode(*models: nn.Module) -> Iterator[None]:
    """Put models into training mode, in which BatchNorm also accepts one value a channel (batch 1, a 1 x 1 map).

    One value has no batch statistics, and torch raises. Here BatchNorm then normalises by its running statistics, as in
    eval mode, and does not update them.
    """

    def choose(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        norm.training = inputs[0].numel() > inputs[0].shape[1]

    for model in models:
        model.train()
    norms = [module for model in models for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(choose) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def conv_bn(
    c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias and its BatchNorm, for a Sequential. Sizes become ceil(size / stride)."""
    padding = dilation * (kernel // 2)
    conv = conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)
    return [conv, batch_norm2d(c_out)]


def conv_bn_relu(
    c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return Conv-BN-ReLU. Sizes become ceil(size / stride)."""
    return nn.Sequential(*conv_bn(c_in, c_out, kernel, stride=stride, dilation=dilation, groups=groups), relu())


def conv_head(c_in: int, c_mid: int, c_out: int, *, bias: bool = False) -> nn.Sequential:
    """Return a 3x3 Conv-BN-ReLU and a 1x1 convolution: a segmentation, auxiliary or detail head.

    The output has the input's stride.
    """
    return nn.Sequential(conv_bn_relu(c_in, c_mid), conv2d(c_mid, c_out, 1, bias=bias))


def scale_width(channels: int, ratio: float, multiple: int = 1) -> int:
    """Return channels * ratio, rounded to the nearest positive multiple."""
    return max(1, round(channels * ratio / multiple)) * multiple


class AttentionRefinement(nn.Module):
    """BiSeNet's ARM: a 3x3 Conv-BN-ReLU, weighted channel by channel by its global average: [B, c_out, H, W]."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = conv_bn_relu(c_in, c_out)
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_bn(c_out, c_out, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y: Tensor = x * self.attention(x)
        return y


class Levels(Encoder):
    """Blocks one after the other, image -> {p1, ..., p5}: the last block's output at strides 2, ..., 32.

    blocks: each with its output's channels and its stride. A block with stride 2 starts a level.
    """

    def __init__(self, blocks: list[tuple[nn.Module, int, int]]) -> None:
        super().__init__()
        levels: list[list[nn.Module]] = []
        self.features = {}
        for block, channels, stride in blocks:
            if stride == 2:
                levels.append([])
            levels[-1].append(block)
            self.features[f"p{len(levels)}"] = Feature(channels, 2 ** len(levels))
        self.levels = nn.ModuleList(nn.Sequential(*level) for level in levels)

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        return in_line(dict(zip(self.features, self.levels, strict=True)), image, reads)


def in_line(stages: Mapping[str, nn.Module], x: Tensor, reads: Reads) -> dict[str, Tensor]:
    """Run stages one after the other, and return the maps of those that are read, by name."""
    maps: dict[str, Tensor] = {}
    for name, stage in stages.items():
        x = stage(x)
        maps |= kept(name, x, reads)
    return maps


class Select(Decoder):
    """No decoder: the named feature, unchanged."""

    def __init__(self, features: dict[str, Feature], source: str) -> None:
        super().__init__()
        self.source, self.feature, self.reads = source, features[source], (source,)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        return maps[self.source]
