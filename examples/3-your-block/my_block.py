"""RegSeg's outline with a block of large depthwise kernels at stride 16."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.families.arch import Arch, Decoder, Encoder, Feature, Segmenter
from nasseg.families.layers import conv_bn, conv_bn_relu, scale_width
from nasseg.families.regseg import DBlock, RegSegDecoder


class LargeKernelBlock(nn.Module):
    """1x1, depthwise k x k, 1x1, and the input added: [B, c, H, W] -> the same shape."""

    def __init__(self, c: int, kernel: int) -> None:
        super().__init__()
        depthwise = conv_bn_relu(c, c, kernel, groups=c)
        self.main = nn.Sequential(conv_bn_relu(c, c, 1), depthwise, *conv_bn(c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + x)


class LargeKernelEncoder(Encoder):
    """stem, stage2, stage3, stage4 at strides 2, 4, 8, 16."""

    def __init__(self, widths: tuple[int, ...], kernel: int, depth: int) -> None:
        super().__init__()

        def down(c_in: int, c: int) -> DBlock:
            return DBlock(c_in, c, (1,), group_width=16, se_ratio=0.25, stride=2)

        c1, c2, c3, c4 = widths
        self.stem, self.stage2, self.stage3 = conv_bn_relu(3, c1, stride=2), down(c1, c2), down(c2, c3)
        self.stage4 = nn.Sequential(down(c3, c4), *(LargeKernelBlock(c4, kernel) for _ in range(depth)))
        self.features = {  # channels and stride of each map, by name
            "stem": Feature(c1, 2),
            "stage2": Feature(c2, 4),
            "stage3": Feature(c3, 8),
            "stage4": Feature(c4, 16),
        }

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        stem = self.stem(image)
        stage2 = self.stage2(stem)
        stage3 = self.stage3(stage2)
        return {"stem": stem, "stage2": stage2, "stage3": stage3, "stage4": self.stage4(stage3)}


@dataclass(frozen=True, kw_only=True)
class LargeKernelArch(Arch):
    family: ClassVar[str] = "largekernel"

    kernel: int = 7
    depth: int = 8
    width: float = 1.0

    def check(self) -> None:  # what is refused, before anything is built
        self.require(self.kernel % 2 == 1, "kernel must be odd", self.kernel)
        self.require(self.depth >= 1, "depth must be at least 1", self.depth)

    def build_encoder(self) -> LargeKernelEncoder:
        widths = tuple(scale_width(c, self.width, 16) for c in (32, 48, 128, 256))
        return LargeKernelEncoder(widths, self.kernel, self.depth)

    def build(self, num_classes: int) -> Segmenter:
        encoder = self.build_encoder()
        decoder = RegSegDecoder(encoder.features, "stage2", "stage3", "stage4", width=self.width)
        head = nn.Conv2d(decoder.feature.channels, num_classes, 1)
        return Segmenter(encoder, decoder, head, input_scale=self.input_scale)


class SumDecoder(Decoder):
    """A decoder for `composed`: every feature it is given, brought to `width` channels, resized and summed."""

    def __init__(self, features: dict[str, Feature], names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleDict({name: conv_bn_relu(features[name].channels, width, 1) for name in names})
        self.feature = Feature(width, features[names[0]].stride)
        self.reads = names  # all other maps are freed before the decoder runs

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        first, *rest = (lateral(maps[name]) for name, lateral in self.laterals.items())
        return sum((F.interpolate(x, first.shape[-2:], mode="bilinear") for x in rest), first)
