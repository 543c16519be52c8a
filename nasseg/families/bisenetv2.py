"""BiSeNetV2.

Yu et al., "BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic Segmentation", 2020. A wide,
shallow Detail Branch at stride 8 beside a narrow, deep Semantic Branch down to stride 32, joined by guided aggregation.

The paper leaves parts of the network open. They follow from the GFLOPs of its Tables 2, 3a, 3b, 3c, 5a, 5b and of
BiSeNetV2-Large in Table 6, which one network fits to 0.05 %. They are counted at 512 x 1024 with 19 classes:
convolutions with bias; BatchNorm 2, ReLU and sigmoid 1 per output element; pooling 1 per input element; sums, products,
concatenation and upsampling free.

- Stem: the fusing convolution is 1x1, though Figure 4a draws 3x3 (rows of lambda).
- Gather-and-Expansion (GE) layer: the 3x3 convolution expands, as Section 5.1 says ("is also an expansion layer").
  With stride 2 it runs at the input's resolution, and the first depthwise convolution is the one that strides.
- Head: two GE layers of expansion 1 at stride 8 precede the head of Figure 7, in every row, and follow the 1x1 gather
  of Table 3b. Its width Ct is 64, and 256 in the models wider than alpha = 1.
- Sum and concatenation: a separable layer on each input, the semantic one before the upsampling, then 3x3 Conv-BN. The
  single-branch rows of Table 2 have one separable layer before the head.
- lambda scales the stem and S3 only; alpha scales every width but Ct; d multiplies the number of GE layers [2, 2, 4].
  The sentence under Table 3a ("the last two stages are still 64 and 128") says so too; alpha and Ct are inferred.
- Context Embedding (CE): its last 3x3 convolution is plain, without BatchNorm and ReLU.

Three of the 23 networks of these tables miss the printed second decimal (by less than 0.008 G). The numbers leave open
single BatchNorm and ReLU layers that cost less than 5 MFLOPs; here these follow Figures 4 to 7. They also leave open
alpha < 1, which the paper does not build (here widths are at least 1 and Ct stays 64), and align_corners (here False).

Disagreements inside the paper: its text numbers the rows of Table 3b one off (by the GFLOPs, row 2 has no CE, row 3 a
single 5x5 depthwise convolution, row 4 the 1x1 gather), and Section 5.1 calls Tables 3a to 3c "4a" to "4c".

The paper runs Cityscapes frames of 1024 x 2048 at half size inside the model: input_scale = 0.5. The default is 1: the
network of Table 1 on the image that it is given.

Initialisation is "kaiming normal", with mode fan_in. The paper names no mode; fan_in is that function's default in the
paper's framework. For a depthwise convolution fan_in is the true fan, while fan_out counts all channels.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.errors import UserError, unknown
from nasseg.families.arch import Arch, Context, Decoder, Encoder, Feature, Reads, Segmenter
from nasseg.families.layers import batch_norm2d, conv2d, conv_bn, conv_bn_relu, in_line

CHOICES = {
    "branches": ("both", "detail", "semantic"),
    "aggregation": ("bga", "sum", "concat"),
    "gather": ("3x3", "1x1"),
    "depthwise": ("double3x3", "single5x5"),
}


@dataclass(frozen=True, kw_only=True)
class BiSeNetV2Arch(Arch):
    """BiSeNetV2 by Table 1 and its ablations. Fields of a branch that is not built have no effect."""

    family: ClassVar[str] = "bisenetv2"

    channel_ratio: float = 1 / 4  # lambda: stem and S3 of the Semantic Branch over C1 and C3 of the Detail Branch
    expansion: int = 6  # epsilon of the GE layers of the Semantic Branch
    width: float = 1.0  # alpha
    depth: int = 1  # d
    branches: str = "both"
    aggregation: str = "bga"
    gather: str = "3x3"  # kernel of the first convolution of every GE layer
    depthwise: str = "double3x3"  # the strided GE layers' depthwise convolutions
    context: bool = True  # Context Embedding Block
    head_width: int = 64  # Ct

    def check(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(f"{name} of {self.family}", getattr(self, name), choices)
        self.require(0 < self.channel_ratio <= 1, "channel_ratio must be above 0 and at most 1", self.channel_ratio)
        self.require(0 < self.width <= 4, "width must be above 0 and at most 4", self.width)
        for name in ("expansion", "depth", "head_width"):
            self.require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))

    def build_encoder(self) -> "Branches":
        detail = DetailBranch(self._widths(64, 64, 128)) if self.branches != "semantic" else None
        semantic = None
        if self.branches != "detail":
            semantic = SemanticBranch(
                self._widths(64 * self.channel_ratio, 128 * self.channel_ratio, 64, 128),
                depths=(2 * self.depth, 2 * self.depth, 4 * self.depth),
                expansion=self.expansion,
                gather=self.gather,
                depthwise=self.depthwise,
            )
        return Branches(detail, semantic)

    def build(self, num_classes: int) -> Segmenter:
        encoder = self.build_encoder()
        context = ContextEmbedding(encoder.features, "s5") if self.context and "s5" in encoder.features else None
        decoder = self._decoder((context or encoder).features)
        head = Head(decoder.feature.channels, self.head_width, num_classes, gather=self.gather)
        return Segmenter(encoder, decoder, head, context=context, input_scale=self.input_scale)

    def _widths(self, *channels: float) -> tuple[int, ...]:
        return tuple(max(1, int(c * self.width)) for c in channels)

    def _decoder(self, features: dict[str, Feature]) -> Decoder:
        semantic = "ce" if "ce" in features else "s5"
        if self.branches == "detail":
            return PlainAggregation(features, ("detail3",), at="detail3")
        if self.branches == "semantic":
            return PlainAggregation(features, (semantic,), at="s3")
        if self.aggregation == "bga":
            return BilateralGuidedAggregation(features, "detail3", semantic)
        return PlainAggregation(features, ("detail3", semantic), at="detail3", mode=self.aggregation)


def kaiming_normal(module: nn.Module) -> None:
    """Initialise every convolution after He (Section 5, "Training"); biases and BatchNorm keep torch's values."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")


def separable(c_in: int, c_out: int, *, stride: int = 1) -> list[nn.Module]:
    """Return a depthwise 3x3 and a pointwise convolution, each followed by BatchNorm."""
    return [*conv_bn(c_in, c_in, stride=stride, groups=c_in), *conv_bn(c_in, c_out, 1)]


class GatherExpansion(nn.Module):
    """GE layer (Figure 5b, c): [B, c_in, H, W] -> [B, c_out, ceil(H / stride), ceil(W / stride)].

    With stride 1, c_in = c_out.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        expansion: int,
        stride: int = 1,
        gather: str = "3x3",
        depthwise: str = "double3x3",
    ) -> None:
        super().__init__()
        hidden = expansion * c_in
        if stride == 1:
            depthwise_layers = conv_bn(hidden, hidden, groups=hidden)
        elif depthwise == "single5x5":
            depthwise_layers = conv_bn(hidden, hidden, 5, stride=stride, groups=hidden)
        else:
            strided = conv_bn(hidden, hidden, stride=stride, groups=hidden)
            depthwise_layers = [*strided, *conv_bn(hidden, hidden, groups=hidden)]
        self.main = nn.Sequential(
            conv_bn_relu(c_in, hidden, int(gather[0])), *depthwise_layers, *conv_bn(hidden, c_out, 1)
        )
        self.shortcut = nn.Identity() if stride == 1 else nn.Sequential(*separable(c_in, c_out, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.shortcut(x), inplace=True)


class Stem(nn.Module):
    """Stem Block (Figure 4a): [B, 3, H, W] -> [B, c, ceil(H / 4), ceil(W / 4)]."""

    def __init__(self, c: int) -> None:
        super().__init__()
        half = max(1, c // 2)
        self.first = conv_bn_relu(3, c, stride=2)
        self.left = nn.Sequential(conv_bn_relu(c, half, 1), conv_bn_relu(half, c, stride=2))
        self.right = nn.MaxPool2d(3, stride=2, padding=1)
        self.fuse = conv_bn_relu(2 * c, c, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        return self.fuse(torch.cat([self.left(x), self.right(x)], dim=1))


class DetailBranch(Encoder):
    """S1 to S3 of Table 1's left half: detail1, detail2, detail3 at strides 2, 4, 8."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        c1, c2, c3 = widths
        self.detail1 = nn.Sequential(conv_bn_relu(3, c1, stride=2), conv_bn_relu(c1, c1))
        self.detail2 = nn.Sequential(conv_bn_relu(c1, c2, stride=2), conv_bn_relu(c2, c2), conv_bn_relu(c2, c2))
        self.detail3 = nn.Sequential(conv_bn_relu(c2, c3, stride=2), conv_bn_relu(c3, c3), conv_bn_relu(c3, c3))
        self.features = {"detail1": Feature(c1, 2), "detail2": Feature(c2, 4), "detail3": Feature(c3, 8)}
        kaiming_normal(self)

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        return in_line({"detail1": self.detail1, "detail2": self.detail2, "detail3": self.detail3}, image, reads)


class SemanticBranch(Encoder):
    """Stem and S3 to S5 of Table 1's right half, without CE: stem, s3, s4, s5 at strides 4, 8, 16, 32.

    widths: of the stem, S3, S4, S5. depths: GE layers of S3, S4, S5, the first of each with stride 2.
    """

    def __init__(
        self, widths: tuple[int, ...], *, depths: tuple[int, ...], expansion: int, gather: str, depthwise: str
    ) -> None:
        super().__init__()

        def stage(c_in: int, c: int, layers: int) -> nn.Sequential:
            first = GatherExpansion(c_in, c, expansion=expansion, stride=2, gather=gather, depthwise=depthwise)
            rest = [GatherExpansion(c, c, expansion=expansion, gather=gather) for _ in range(layers - 1)]
            return nn.Sequential(first, *rest)

        c1, c3, c4, c5 = widths
        self.stem = Stem(c1)
        self.s3, self.s4, self.s5 = stage(c1, c3, depths[0]), stage(c3, c4, depths[1]), stage(c4, c5, depths[2])
        self.features = {"stem": Feature(c1, 4), "s3": Feature(c3, 8), "s4": Feature(c4, 16), "s5": Feature(c5, 32)}
        kaiming_normal(self)

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        return in_line({"stem": self.stem, "s3": self.s3, "s4": self.s4, "s5": self.s5}, image, reads)


class Branches(Encoder):
    """The encoder: both branches on the same image, or the only one."""

    def __init__(self, detail: DetailBranch | None, semantic: SemanticBranch | None) -> None:
        super().__init__()
        self.detail, self.semantic = detail, semantic
        self.features = {**(detail.features if detail else {}), **(semantic.features if semantic else {})}

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        maps = self.detail(image, reads) if self.detail else {}
        return {**maps, **self.semantic(image, reads)} if self.semantic else maps


class ContextEmbedding(Context):
    """Context Embedding Block (Figure 4b) on the named feature; adds the feature ce, of the same shape."""

    def __init__(self, features: dict[str, Feature], source: str) -> None:
        super().__init__()
        self.source, self.reads = source, (source,)
        c = features[source].channels
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), batch_norm2d(c), conv_bn_relu(c, c, 1))
        self.conv = conv2d(c, c, 3, padding=1, bias=False)
        self.features = {**features, "ce": features[source]}
        kaiming_normal(self)

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        x = maps[self.source]
        return {**maps, "ce": self.conv(x + self.pool(x))}


class BilateralGuidedAggregation(Decoder):
    """BGA (Figure 6) of a detail feature and a semantic one at four times its stride; the result is like the former."""

    def __init__(self, features: dict[str, Feature], detail: str, semantic: str) -> None:
        super().__init__()
        self.detail, self.semantic, self.reads = detail, semantic, (detail, semantic)
        self.feature = features[detail]
        if features[semantic].stride != 4 * self.feature.stride:
            strides = f"{self.feature.stride} and {features[semantic].stride}"
            raise UserError(
                f"guided aggregation joins features of strides s and 4 s, got {strides}: choose other features"
            )
        c, c_semantic = self.feature.channels, features[semantic].channels
        self.detail_keep = nn.Sequential(*conv_bn(c, c, groups=c), conv2d(c, c, 1, bias=False))
        self.detail_down = nn.Sequential(*conv_bn(c, c, stride=2), nn.AvgPool2d(3, stride=2, padding=1))
        self.semantic_up = nn.Sequential(*conv_bn(c_semantic, c))
        self.semantic_keep = nn.Sequential(
            *conv_bn(c_semantic, c_semantic, groups=c_semantic), conv2d(c_semantic, c, 1, bias=False), nn.Sigmoid()
        )
        self.conv = nn.Sequential(*conv_bn(c, c))
        kaiming_normal(self)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        detail, semantic = maps[self.detail], maps[self.semantic]
        size = detail.shape[-2:]
        fine = self.detail_keep(detail) * torch.sigmoid(_resize(self.semantic_up(semantic), size))
        coarse = self.detail_down(detail) * self.semantic_keep(semantic)
        return self.conv(fine + _resize(coarse, size))


class PlainAggregation(Decoder):
    """The baselines of Table 2: a separable layer on each source, resized to the size of feature `at`.

    A single source goes on as it is. Several are summed or concatenated (mode: sum, concat), and a 3x3 Conv-BN gives
    them the channels of the first.
    """

    def __init__(
        self, features: dict[str, Feature], sources: tuple[str, ...], *, at: str, mode: str = "concat"
    ) -> None:
        super().__init__()
        self.sources, self.at, self.mode, self.reads = sources, at, mode, (*sources, at)
        widths = [features[source].channels for source in sources]
        outs = [widths[0]] * len(widths) if mode == "sum" else widths
        self.feature = Feature(widths[0], features[at].stride)
        self.resized = [features[source].stride != self.feature.stride for source in sources]
        self.separable = nn.ModuleList(nn.Sequential(*separable(c, out)) for c, out in zip(widths, outs, strict=True))
        joined = widths[0] if mode == "sum" else sum(outs)
        self.conv = nn.Sequential(*conv_bn(joined, widths[0])) if len(sources) > 1 else nn.Identity()
        kaiming_normal(self)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        size = maps[self.at].shape[-2:]
        inputs = [layer(maps[source]) for layer, source in zip(self.separable, self.sources, strict=True)]
        inputs = [_resize(x, size) if resized else x for x, resized in zip(inputs, self.resized, strict=True)]
        if len(inputs) == 1:
            return inputs[0]
        joined = sum(inputs[1:], inputs[0]) if self.mode == "sum" else torch.cat(inputs, dim=1)
        fused: Tensor = self.conv(joined)
        return fused


class Head(nn.Module):
    """Two GE layers and the segmentation head of Figure 7 before its upsampling: [B, c, H, W] -> [B, classes, H, W]."""

    def __init__(self, c: int, width: int, num_classes: int, *, gather: str = "3x3", expansion: int = 1) -> None:
        super().__init__()
        layers = [GatherExpansion(c, c, expansion=expansion, gather=gather) for _ in range(2)]
        self.layers = nn.Sequential(*layers, conv_bn_relu(c, width), conv2d(width, num_classes, 1))
        kaiming_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
