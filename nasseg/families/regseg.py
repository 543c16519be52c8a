"""RegSeg: Gao, "Rethink Dilated Convolution for Real-time Semantic Segmentation", 2021.

One RegNet-like branch down to stride 16 whose D blocks split their 3x3 group convolution over several dilation rates,
so that the schedule of rates alone sets the field of view, and a light decoder over strides 4, 8 and 16.

What the paper leaves open, settled by its parameters and GFLOPs (3.34 M and 39.1 at 1024 x 2048, counted by fvcore's
rule: convolution multiply-adds, BatchNorm 2 and bilinear 4 an output element, pooling 1 an input element), its fields
of view (Table 4) and the authors' release:

- Group width 16 everywhere, also in each branch of a split. Equal rates, as in (1,1), are one group convolution.
- Squeeze-and-excitation (SE) follows the 3x3 and its ReLU: two 1x1 convolutions with bias, and input channels // 4
  between them.
- Shortcut: 1x1 Conv-BN where stride or width changes; where the stride is 2, average pooling (ceil_mode) precedes it.
  The bottleneck ratio is 1. The stem has BatchNorm and ReLU, the classifier a bias; upsampling is bilinear.
- Schedules list the stride-1 blocks at stride 16: 13 in the paper, 12 of 256 channels and the last of 320. The
  strided block before them is not listed.
- Table 4 was run with the decoder "sum + 3x3" of Table 5, Table 5 with the backbone of Table 4's row 2.
- Foreign decoders: LRASPP has 128 channels and classifies stride 8 directly. Its two classifiers are summed, which here
  is one 1x1 convolution on the concatenation (one bias instead of two). SFNet pools to 1, 2, 3, 6 (no ReLU), decodes
  with 64 channels and aligns at 32. As released, the flow's grid runs from -1 to 1 as with align_corners=True, but is
  sampled without; the last concatenation takes stride 16, upsampled with align_corners=True. BiSeNet takes stride 8 as
  it is for detail, and its fusion's attention has biases.

Disagreements inside the paper: Table 5's row "concat + 1x1" was run as sum + 1x1 (both are variants). Table 4's row
10 prints 607 as the field of view of the dilated RegNetY-600MF; Equations 1 and 2 give 479 for that network (stem 32,
widths 48, 112, 256, 608, depths 1, 3, 7, 4, last stage with stride 1 and rates 1, 2, 2, 2). That row's schedule,
8*(1,1)+3*(2,2), lists the strided block; here it is 7*(1,1)+3*(2,2). Its blocks have no pooling in the shortcut.

Not in the paper: `width` scales all widths. Each is rounded to the nearest multiple of what its blocks need: the group
width; at stride 16, that times the least common multiple of the schedule's numbers of branches; for the stem and the
decoders, 1.

Initialisation is PyTorch's default.
"""

from dataclasses import dataclass
from math import lcm
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.errors import unknown
from nasseg.families.arch import Arch, Decoder, Encoder, Feature, Reads, Segmenter
from nasseg.families.layers import (
    AttentionRefinement,
    batch_norm2d,
    conv2d,
    conv_bn,
    conv_bn_relu,
    in_line,
    relu,
    scale_width,
)
from nasseg.schedule import Schedule, format_schedule, parse_schedule

# Table 5 from best to worst; sum-1x1 was run under the name of concat-1x1.
DECODERS = ("regseg", "sum-3x3", "concat-y", "concat-3x3", "concat-1x1", "sum-1x1", "lraspp", "sfnet", "bisenet")
SHORTCUTS = ("pool", "stride")


@dataclass(frozen=True, kw_only=True)
class RegSegArch(Arch):
    """RegSeg by Table 2 and Figure 5. Stage n has stride 2^n."""

    family: ClassVar[str] = "regseg"

    dilations: str = "(1,1)+(1,2)+4*(1,4)+7*(1,14)"  # the stride-1 blocks of stage 4, one rate a branch
    stem_width: int = 32
    stage2_width: int = 48
    stage3_width: int = 128
    stage4_width: int = 256
    last_width: int = 320  # of the last `last_depth` blocks of stage 4
    stage2_depth: int = 1  # blocks, the strided one included
    stage3_depth: int = 3
    last_depth: int = 1
    group_width: int = 16
    se_ratio: float = 0.25  # of a block's input channels; 0: no SE
    shortcut: str = "pool"  # how a shortcut downsamples: 2x2 average pooling, or the stride of its 1x1 convolution
    decoder: str = "regseg"
    width: float = 1.0  # multiplies all widths

    def check(self) -> None:
        for name, choices in (("decoder", DECODERS), ("shortcut", SHORTCUTS)):
            if getattr(self, name) not in choices:
                raise unknown(f"{name} of {self.family}", getattr(self, name), choices)
        schedule = parse_schedule(self.dilations)
        object.__setattr__(self, "dilations", format_schedule(schedule))
        for name in ("group_width", "stem_width", "stage2_depth", "stage3_depth"):
            self.require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        blocks = len(schedule)
        self.require(
            1 <= self.last_depth <= blocks, f"last_depth must be 1 to the {blocks} listed blocks", self.last_depth
        )
        self.require(0 <= self.se_ratio <= 1, "se_ratio must be 0 to 1", self.se_ratio)
        self.require(0 < self.width <= 4, "width must be above 0 and at most 4", self.width)
        for name in ("stage2_width", "stage3_width", "stage4_width", "last_width"):
            value, multiple = getattr(self, name), self._multiple(name)
            self.require(value >= 1 and value % multiple == 0, f"{name} must be a multiple of {multiple}", value)

    def _multiple(self, name: str) -> int:
        """Return the number that a width is a multiple of: the group width, times the branches at stride 16."""
        if name not in ("stage4_width", "last_width"):
            return self.group_width
        return self.group_width * lcm(*(branches(rates) for rates in parse_schedule(self.dilations)))

    def build_encoder(self) -> "RegSegEncoder":
        def scaled(name: str) -> int:
            return scale_width(getattr(self, name), self.width, self._multiple(name))

        return RegSegEncoder(
            scale_width(self.stem_width, self.width),
            (scaled("stage2_width"), scaled("stage3_width"), scaled("stage4_width"), scaled("last_width")),
            depths=(self.stage2_depth, self.stage3_depth),
            schedule=parse_schedule(self.dilations),
            last_depth=self.last_depth,
            group_width=self.group_width,
            se_ratio=self.se_ratio,
            pool=self.shortcut == "pool",
        )

    def build(self, num_classes: int) -> Segmenter:
        encoder = self.build_encoder()
        decoder = self._decoder(encoder.features)
        head = conv2d(decoder.feature.channels, num_classes, 1)
        return Segmenter(encoder, decoder, head, input_scale=self.input_scale)

    def _decoder(self, features: dict[str, Feature]) -> Decoder:
        if self.decoder == "regseg":
            return RegSegDecoder(features, "stage2", "stage3", "stage4", width=self.width)
        foreign = {"lraspp": LRASPPDecoder, "sfnet": SFNetDecoder, "bisenet": BiSeNetDecoder}
        if self.decoder in foreign:
            return foreign[self.decoder](features, "stage3", "stage4", width=self.width)
        mode, last = self.decoder.split("-")
        fine, coarse = scale_width(128 if mode == "sum" else 32, self.width), scale_width(128, self.width)
        joined = coarse if mode == "sum" else fine + coarse
        conv: nn.Module
        if last == "y":
            out = scale_width(128, self.width, self.group_width)
            conv = DBlock(joined, out, (1,), group_width=self.group_width, se_ratio=self.se_ratio)
        else:
            out = coarse
            conv = conv_bn_relu(joined, out, int(last[0]))
        return FusionDecoder(features, "stage3", "stage4", (fine, coarse), conv, Feature(out, 8), mode=mode)


def branches(rates: tuple[int, ...]) -> int:
    """Return the number of convolutions that a D block splits its 3x3 into; equal rates share one."""
    return len(rates) if len(set(rates)) > 1 else 1


class DilatedConv(nn.Module):
    """The 3x3 convolution of a D block (Figure 3b): each branch convolves its share of the groups at its own rate."""

    def __init__(self, c: int, rates: tuple[int, ...], *, group_width: int, stride: int = 1) -> None:
        super().__init__()
        n = branches(rates)
        self.convs = nn.ModuleList(
            conv2d(c // n, c // n, 3, stride, rate, rate, groups=c // n // group_width, bias=False)
            for rate in rates[:n]
        )

    def forward(self, x: Tensor) -> Tensor:
        if len(self.convs) == 1:
            y: Tensor = self.convs[0](x)
            return y
        parts = x.chunk(len(self.convs), dim=1)
        return torch.cat([conv(parts[branch]) for branch, conv in enumerate(self.convs)], dim=1)


class SqueezeExcite(nn.Sequential):
    """SE: [B, c, H, W] weighted channel by channel; `hidden` channels between the two 1x1 convolutions."""

    def __init__(self, c: int, hidden: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            conv2d(c, hidden, 1),
            relu(),
            conv2d(hidden, c, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x)


class DBlock(nn.Module):
    """D block (Figures 3b, 4); with equal rates a Y block: [B, c_in, H, W] -> [B, c_out, ceil(H / s), ceil(W / s)]."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        rates: tuple[int, ...],
        *,
        group_width: int,
        se_ratio: float,
        stride: int = 1,
        pool: bool = True,
    ) -> None:
        super().__init__()
        se = [SqueezeExcite(c_out, max(1, int(c_in * se_ratio)))] if se_ratio else []
        dilated = DilatedConv(c_out, rates, group_width=group_width, stride=stride)
        self.main = nn.Sequential(
            conv_bn_relu(c_in, c_out, 1),
            *(dilated, batch_norm2d(c_out), relu()),
            *se,
            *conv_bn(c_out, c_out, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 and pool:
            self.shortcut = nn.Sequential(nn.AvgPool2d(2, stride, ceil_mode=True), *conv_bn(c_in, c_out, 1))
        elif stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(*conv_bn(c_in, c_out, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.shortcut(x), inplace=True)


class RegSegEncoder(Encoder):
    """The backbone (Table 2): stem, stage2, stage3, stage4 at strides 2, 4, 8, 16.

    widths: of stages 2, 3, 4 and of the last `last_depth` blocks. depths: of stages 2 and 3. schedule: the blocks of
    stage 4 after the strided one.
    """

    def __init__(
        self,
        stem_width: int,
        widths: tuple[int, int, int, int],
        *,
        depths: tuple[int, int],
        schedule: Schedule,
        last_depth: int,
        group_width: int,
        se_ratio: float,
        pool: bool,
    ) -> None:
        super().__init__()

        def stage(c_in: int, c_out: tuple[int, ...], rates: Schedule) -> nn.Sequential:
            """Build a strided Y block and one block for each entry of `rates`. c_out: channels of each block."""
            blocks, strides = [], [2] + [1] * len(rates)
            for c, rate, stride in zip(c_out, ((1,), *rates), strides, strict=True):
                block = DBlock(c_in, c, rate, group_width=group_width, se_ratio=se_ratio, stride=stride, pool=pool)
                blocks.append(block)
                c_in = c
            return nn.Sequential(*blocks)

        c2, c3, c4, last = widths
        self.stem = conv_bn_relu(3, stem_width, stride=2)
        self.stage2 = stage(stem_width, (c2,) * depths[0], ((1,),) * (depths[0] - 1))
        self.stage3 = stage(c2, (c3,) * depths[1], ((1,),) * (depths[1] - 1))
        self.stage4 = stage(c3, (c4,) * (len(schedule) + 1 - last_depth) + (last,) * last_depth, schedule)
        self.features = {
            "stem": Feature(stem_width, 2),
            "stage2": Feature(c2, 4),
            "stage3": Feature(c3, 8),
            "stage4": Feature(last, 16),
        }

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        stages = {"stem": self.stem, "stage2": self.stage2, "stage3": self.stage3, "stage4": self.stage4}
        return in_line(stages, image, reads)


def upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class RegSegDecoder(Decoder):
    """Figure 5, over strides 4, 8 and 16: [B, 64, H / 4, W / 4]."""

    def __init__(self, features: dict[str, Feature], fine: str, middle: str, coarse: str, *, width: float) -> None:
        super().__init__()
        c, detail, out = scale_width(128, width), scale_width(8, width), scale_width(64, width)
        self.names = self.reads = fine, middle, coarse
        self.fine = conv_bn_relu(features[fine].channels, detail, 1)
        self.middle = conv_bn_relu(features[middle].channels, c, 1)
        self.coarse = conv_bn_relu(features[coarse].channels, c, 1)
        self.fuse_middle = conv_bn_relu(c, out)
        self.fuse_fine = conv_bn_relu(out + detail, out)
        self.feature = Feature(out, features[fine].stride)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        fine, middle, coarse = (features[name] for name in self.names)
        x = self.fuse_middle(upsample(self.coarse(coarse), middle) + self.middle(middle))
        y: Tensor = self.fuse_fine(torch.cat([upsample(x, fine), self.fine(fine)], dim=1))
        return y


class FusionDecoder(Decoder):
    """The rows "sum" and "concat" of Table 5: strides 8 and 16 joined, then one convolution or block, at stride 8.

    A concatenation has stride 8 first, as released. In the other order released weights fit, but compute nonsense.
    """

    def __init__(
        self,
        features: dict[str, Feature],
        fine: str,
        coarse: str,
        widths: tuple[int, int],
        conv: nn.Module,
        feature: Feature,
        *,
        mode: str,
    ) -> None:
        super().__init__()
        self.mode, self.feature = mode, feature
        self.names = self.reads = fine, coarse
        self.fine = conv_bn_relu(features[fine].channels, widths[0], 1)
        self.coarse = conv_bn_relu(features[coarse].channels, widths[1], 1)
        self.conv = conv

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        fine, coarse = (features[name] for name in self.names)
        up, lateral = upsample(self.coarse(coarse), fine), self.fine(fine)
        y: Tensor = self.conv(up + lateral if self.mode == "sum" else torch.cat([lateral, up], dim=1))
        return y


class LRASPPDecoder(Decoder):
    """LRASPP (Table 5): stride 16 gated by its global average, beside stride 8 as it is."""

    def __init__(self, features: dict[str, Feature], fine: str, coarse: str, *, width: float) -> None:
        super().__init__()
        c_in, c = features[coarse].channels, scale_width(128, width)
        self.names = self.reads = fine, coarse
        self.coarse = conv_bn_relu(c_in, c, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv2d(c_in, c, 1, bias=False), nn.Sigmoid())
        self.feature = Feature(c + features[fine].channels, features[fine].stride)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        fine, coarse = (features[name] for name in self.names)
        return torch.cat([upsample(self.coarse(coarse) * self.gate(coarse), fine), fine], dim=1)


class SFNetDecoder(Decoder):
    """SFNet (Table 5): pyramid pooling on stride 16, brought to stride 8 by a learned flow and by plain upsampling."""

    BINS = (1, 2, 3, 6)

    def __init__(self, features: dict[str, Feature], fine: str, coarse: str, *, width: float) -> None:
        super().__init__()
        c_in, c, flow = features[coarse].channels, scale_width(64, width), scale_width(32, width)
        self.names = self.reads = fine, coarse
        self.pools = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(n), *conv_bn(c_in, c, 1)) for n in self.BINS)
        self.coarse = conv_bn_relu(c_in + len(self.BINS) * c, c, 1)
        self.fine = conv_bn_relu(features[fine].channels, c, 1)
        self.down_coarse = conv2d(c, flow, 1, bias=False)
        self.down_fine = conv2d(c, flow, 1, bias=False)
        self.flow = conv2d(2 * flow, 2, 3, padding=1, bias=False)
        self.conv = conv_bn_relu(c, c)
        self.fuse = conv_bn_relu(2 * c, c)
        self.feature = Feature(c, features[fine].stride)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        fine, coarse = (features[name] for name in self.names)
        coarse = self.coarse(torch.cat([coarse, *(upsample(pool(coarse), coarse) for pool in self.pools)], dim=1))
        fine = self.fine(fine)
        flow = self.flow(torch.cat([upsample(self.down_coarse(coarse), fine), self.down_fine(fine)], dim=1))
        aligned = self.conv(warp(coarse, flow) + fine)
        plain = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        y: Tensor = self.fuse(torch.cat([aligned, plain], dim=1))
        return y


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample x [B, C, h, w] at the pixels of flow [B, 2, H, W], moved by the flow in half pixels: [B, C, H, W]."""
    height, width = flow.shape[-2], flow.shape[-1]
    rows, columns = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in (height, width))
    grid = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], dim=2)
    moved = flow.permute(0, 2, 3, 1) / torch.tensor([width, height], device=x.device, dtype=x.dtype)
    return F.grid_sample(x, grid + moved, align_corners=False)


class BiSeNetDecoder(Decoder):
    """BiSeNet (Table 5): attention refinement and a global branch on stride 16, feature fusion with stride 8."""

    def __init__(self, features: dict[str, Feature], fine: str, coarse: str, *, width: float) -> None:
        super().__init__()
        c_in, c = features[coarse].channels, scale_width(128, width)
        self.names = self.reads = fine, coarse
        self.refine = AttentionRefinement(c_in, c)
        self.globe = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn_relu(c_in, c, 1))
        self.context = conv_bn_relu(c, c)
        self.fuse = conv_bn_relu(features[fine].channels + c, c, 1)
        self.attend = SqueezeExcite(c, max(1, c // 4))
        self.conv = conv_bn_relu(c, c)
        self.feature = Feature(c, features[fine].stride)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        fine, coarse = (features[name] for name in self.names)
        context = self.refine(coarse) + self.globe(coarse)
        context = self.context(F.interpolate(context, size=fine.shape[-2:], mode="nearest"))
        fused = self.fuse(torch.cat([fine, context], dim=1))
        y: Tensor = self.conv(self.attend(fused) + fused)
        return y
