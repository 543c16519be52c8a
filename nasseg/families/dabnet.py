"""DABNet: Li and Kim, "DABNet: Depth-wise Asymmetric Bottleneck for Real-time Semantic Segmentation", BMVC 2019.

Two blocks of Depth-wise Asymmetric Bottleneck (DAB) modules at strides 4 and 8, the image injected before each
downsampling and before the classifier, no decoder.

The paper prints parameters, but no FLOPs. What it leaves open is settled by Table 2's 0.76 M, 1.02 M and 3.22 M, and
where those are too coarse, by the released network:

- Channels: stem and image have 32 + 3 = 35; ENet's downsampling has 64, a convolution to 29 beside max-pooling of the
  35; block 1, concatenated, 64 + 64 + 3 = 131; downsampling by convolution only, 128; block 2, concatenated,
  128 + 128 + 3 = 259; then the classifier. BatchNorm and PReLU follow every concatenation and every downsampling.
- The text stacks the first DAB module of a block with its last one; the network concatenates the output of the
  downsampling instead.
- The injected image is average-pooled, 3x3 with stride 2, once, twice and three times.
- PReLU has one weight per channel; the epsilon of BatchNorm is 1e-3. No convolution has a bias, nor has the classifier.
- DAB module: BatchNorm-PReLU also stands between the 3x1 and the 1x3 convolution of a branch.
- Dilation changes no parameter, so all dilation rows of Table 2 print 0.76 M. The row "First 3x3 conv(r=2)" dilates
  the 3x3 convolution of every DAB module of the baseline.
- Decoder of ERFNet: 259 -> 64 -> 16 -> classes, with ERFNet's biases; its last deconvolution is the head.
- SPP head: PSPNet's, bins 1, 2, 3, 6 with ceil(259 / 4) = 65 channels each (64 would print 3.20 M), all of it by a 3x3
  convolution to 512, classifier.

Numbers that do not reproduce: Table 4 repeats 0.76 M for CamVid, whose 11 classes give 0.75 M; the text has "1%" of
DeepLab-v2's parameters for 1.7 % and "4.2% times more parameters" for 4.2 times as many.

The paper names no initialisation: it is torch's.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.errors import unknown
from nasseg.families.arch import Arch, Context, Decoder, Encoder, Feature, Reads, Segmenter, kept
from nasseg.families.layers import Select, batch_norm2d, conv2d, prelu, relu, scale_width
from nasseg.schedule import format_schedule, parse_schedule

CHOICES = {"context": ("none", "spp"), "decoder": ("none", "erfnet")}
EPSILON = 1e-3  # of every BatchNorm
BINS = (1, 2, 3, 6)


@dataclass(frozen=True, kw_only=True)
class DABNetArch(Arch):
    """DABNet by Table 1 and its ablations. A dilation schedule has one rate per DAB module, so it gives the depth."""

    family: ClassVar[str] = "dabnet"

    block1_dilations: str = "3*(2)"
    block2_dilations: str = "2*(4)+2*(8)+2*(16)"
    first_dilation: int = 1  # of the 3x3 convolution that opens every DAB module
    stem_width: int = 32
    block1_width: int = 64
    block2_width: int = 128
    input_injection: bool = True
    context: str = "none"
    context_width: int = 512  # output channels of the SPP head's 3x3 convolution
    decoder: str = "none"
    decoder_width: int = 64  # of ERFNet's decoder at stride 4; a quarter of it at stride 2
    width: float = 1.0  # multiplies every width above

    def check(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(f"{self.family} {name}", getattr(self, name), choices)
        for name in ("block1_dilations", "block2_dilations"):
            schedule = parse_schedule(getattr(self, name))
            self.require(
                all(len(entry) == 1 for entry in schedule), f"{name} has one rate an entry", getattr(self, name)
            )
            object.__setattr__(self, name, format_schedule(schedule))
        self.require(self.first_dilation >= 1, "first_dilation must be at least 1", self.first_dilation)
        self.require(0 < self.width <= 8, "width must be above 0 and at most 8", self.width)
        for name in ("stem_width", "context_width"):
            self.require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        for name, multiple in (("block1_width", 2), ("block2_width", 2), ("decoder_width", 4)):
            value = getattr(self, name)
            self.require(value >= 1 and value % multiple == 0, f"{name} must be a multiple of {multiple}", value)
        stem = self._stem + self._image
        rule = f"block1_width must be above the {stem} channels that the first downsampling keeps by pooling"
        self.require(self._block1 > stem, f"{rule} (both after width)", self._block1)

    @property
    def _image(self) -> int:
        return 3 if self.input_injection else 0

    @property
    def _stem(self) -> int:
        return scale_width(self.stem_width, self.width)

    @property
    def _block1(self) -> int:
        return scale_width(self.block1_width, self.width, 2)

    def build_encoder(self) -> "DABNet":
        schedules = map(parse_schedule, (self.block1_dilations, self.block2_dilations))
        return DABNet(
            (self._stem, self._block1, scale_width(self.block2_width, self.width, 2)),
            dilations=[[rate for (rate,) in schedule] for schedule in schedules],
            first_dilation=self.first_dilation,
            image_channels=self._image,
        )

    def build(self, num_classes: int) -> Segmenter:
        encoder = self.build_encoder()
        context, source = None, "block2"
        if self.context == "spp":
            context = SpatialPyramidPooling(encoder.features, source, scale_width(self.context_width, self.width))
            source = "spp"
        features = (context or encoder).features
        decoder: ERFNetDecoder | Select
        head: nn.Module
        if self.decoder == "erfnet":
            decoder = ERFNetDecoder(features, source, scale_width(self.decoder_width, self.width, 4))
            head = nn.ConvTranspose2d(decoder.feature.channels, num_classes, 2, stride=2)
        else:
            decoder = Select(features, source)
            head = conv2d(decoder.feature.channels, num_classes, 1, bias=False)
        return Segmenter(encoder, decoder, head, context=context, input_scale=self.input_scale)


def conv(
    c_in: int, c_out: int, kernel: tuple[int, int], *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution without bias. Sizes become ceil(size / stride)."""
    padding = (dilation * (kernel[0] // 2), dilation * (kernel[1] // 2))
    return conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)


def bn_prelu(c: int) -> nn.Sequential:
    return nn.Sequential(batch_norm2d(c, eps=EPSILON), prelu(c))


def bn_relu(c: int) -> list[nn.Module]:
    """Return BatchNorm and ReLU, as used in the context and the decoder that Table 2 takes from other papers."""
    return [batch_norm2d(c, eps=EPSILON), relu()]


def depthwise_asymmetric(c: int, dilation: int) -> nn.Sequential:
    """Return a 3x1 and a 1x3 depthwise convolution, each followed by BatchNorm and PReLU."""
    return nn.Sequential(
        conv(c, c, (3, 1), dilation=dilation, groups=c),
        bn_prelu(c),
        conv(c, c, (1, 3), dilation=dilation, groups=c),
        bn_prelu(c),
    )


class DABModule(nn.Module):
    """Depth-wise Asymmetric Bottleneck (Figure 2c): [B, c, H, W] -> the same shape."""

    def __init__(self, c: int, dilation: int, *, first_dilation: int = 1) -> None:
        super().__init__()
        half = c // 2
        self.reduce = nn.Sequential(bn_prelu(c), conv(c, half, (3, 3), dilation=first_dilation), bn_prelu(half))
        self.local = depthwise_asymmetric(half, 1)
        self.dilated = depthwise_asymmetric(half, dilation)
        self.restore = nn.Sequential(bn_prelu(half), conv(half, c, (1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        restored: Tensor = self.restore(self.local(reduced) + self.dilated(reduced))
        return restored + x


class InitialDownsampling(nn.Module):
    """ENet's initial block: a strided 3x3 convolution beside 2x2 max-pooling; together c_out > c_in channels."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = conv(c_in, c_out - c_in, (3, 3), stride=2)
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.norm = bn_prelu(c_out)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.norm(torch.cat([self.conv(x), self.pool(x)], dim=1))
        return joined


class DABNet(Encoder):
    """Layers 1 to 14 of Table 1: stem, block1, block2 at strides 2, 4, 8, each after its concatenation.

    widths: of the stem and both blocks. dilations: of the DAB modules of both blocks. image_channels: 3, or 0 for none.
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        *,
        dilations: list[list[int]],
        first_dilation: int = 1,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        stem, c1, c2 = widths
        channels = (stem + image_channels, 2 * c1 + image_channels, 2 * c2 + image_channels)

        def block(c: int, rates: list[int]) -> nn.Sequential:
            return nn.Sequential(*(DABModule(c, rate, first_dilation=first_dilation) for rate in rates))

        self.stem = nn.Sequential(
            *(conv(3, stem, (3, 3), stride=2), bn_prelu(stem)),
            *(conv(stem, stem, (3, 3)), bn_prelu(stem)),
            *(conv(stem, stem, (3, 3)), bn_prelu(stem)),
        )
        self.down1 = InitialDownsampling(channels[0], c1)
        self.block1 = block(c1, dilations[0])
        self.down2 = nn.Sequential(conv(channels[1], c2, (3, 3), stride=2), bn_prelu(c2))
        self.block2 = block(c2, dilations[1])
        self.shrink = nn.AvgPool2d(3, stride=2, padding=1) if image_channels else None
        self.norms = nn.ModuleList(bn_prelu(c) for c in channels)
        names = ("stem", "block1", "block2")
        self.features = {name: Feature(c, 2**i) for i, (name, c) in enumerate(zip(names, channels, strict=True), 1)}

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        images = self._shrunk(image)
        x = self.norms[0](torch.cat([self.stem(image), *images.pop(0)], dim=1))
        maps = kept("stem", x, reads)
        x = self.down1(x)
        x = self.norms[1](torch.cat([self.block1(x), x, *images.pop(0)], dim=1))
        maps |= kept("block1", x, reads)
        x = self.down2(x)
        x = self.norms[2](torch.cat([self.block2(x), x, *images.pop(0)], dim=1))
        return maps | kept("block2", x, reads)

    def _shrunk(self, image: Tensor) -> list[list[Tensor]]:
        """Return the image at strides 2, 4, 8, each in a list to concatenate; the lists are empty without injection."""
        images: list[list[Tensor]] = []
        for _ in range(3):
            image = self.shrink(image) if self.shrink else image
            images.append([image] if self.shrink else [])
        return images


class SpatialPyramidPooling(Context):
    """PSPNet's head up to its classifier, on the named feature; adds the feature spp, with c channels at its stride."""

    def __init__(self, features: dict[str, Feature], source: str, c: int) -> None:
        super().__init__()
        self.source, self.reads = source, (source,)
        c_in, stride = features[source].channels, features[source].stride
        each = math.ceil(c_in / len(BINS))
        self.bins = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), conv(c_in, each, (1, 1)), *bn_relu(each)) for size in BINS
        )
        self.fuse = nn.Sequential(conv(c_in + len(BINS) * each, c, (3, 3)), *bn_relu(c))
        self.features = {**features, "spp": Feature(c, stride)}

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        x = maps[self.source]
        pooled = [F.interpolate(pool(x), size=x.shape[-2:], mode="bilinear", align_corners=False) for pool in self.bins]
        return {**maps, "spp": self.fuse(torch.cat([x, *pooled], dim=1))}


class NonBottleneck1D(nn.Module):
    """ERFNet's residual layer of 3x1 and 1x3 convolutions: [B, c, H, W] -> the same shape."""

    def __init__(self, c: int) -> None:
        super().__init__()

        def pair() -> list[nn.Module]:
            vertical, horizontal = conv2d(c, c, (3, 1), padding=(1, 0)), conv2d(c, c, (1, 3), padding=(0, 1))
            return [vertical, relu(), horizontal]

        self.layers = nn.Sequential(*pair(), *bn_relu(c), *pair(), batch_norm2d(c, eps=EPSILON))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + x, inplace=True)


class Upsampler(nn.Module):
    """ERFNet's deconvolution to a finer feature's size: twice the input's height and width, less one where odd."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(c_in, c_out, 3, stride=2, padding=1)
        self.norm = nn.Sequential(*bn_relu(c_out))

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        finer: Tensor = self.norm(self.conv(x, output_size=[size[0], size[1]]))
        return finer


class ERFNetDecoder(Decoder):
    """ERFNet's decoder up to its last deconvolution: two upsamplings from the named feature at stride 8.

    It has c channels at stride 4 and c / 4 at stride 2; the features `finer` give the sizes only.
    """

    def __init__(
        self, features: dict[str, Feature], source: str, c: int, finer: tuple[str, str] = ("block1", "stem")
    ) -> None:
        super().__init__()
        self.source, self.finer, self.reads = source, finer, (source, *finer)
        self.up4 = Upsampler(features[source].channels, c)
        self.layers4 = nn.Sequential(NonBottleneck1D(c), NonBottleneck1D(c))
        self.up2 = Upsampler(c, c // 4)
        self.layers2 = nn.Sequential(NonBottleneck1D(c // 4), NonBottleneck1D(c // 4))
        self.feature = Feature(c // 4, features[finer[1]].stride)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        size4, size2 = (maps[name].shape[-2:] for name in self.finer)
        x = self.layers4(self.up4(maps[self.source], size4))
        finest: Tensor = self.layers2(self.up2(x, size2))
        return finest
