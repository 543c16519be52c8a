"""STDC: Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021.

A single-stream encoder of Short-Term Dense Concatenate (STDC) modules with the Context Path and the Feature Fusion
Module of BiSeNetV1. In place of BiSeNetV1's Spatial Path, Stage 3 is trained to show image detail.

The text and the released network differ in places, and the text leaves others open:

- STDC module with stride 2 (`module`): in the text Block 2 itself strides, and Table 1's receptive fields 3, 7, 11 are
  those of that form (`printed`). As released, a depthwise 3x3 convolution with BatchNorm and no ReLU strides before
  Block 2, and the fields are 7, 11, 15. Only this form gives Table 2's parameters and FLOPs to the printed digit
  (`released`, the default). In both, the 3x3 average pooling of x1 takes Block 1's output at full resolution.
- Blocks (`blocks`): N/2, N/4, ... filters, the last number twice. Eq. 3 gives their convolution weights exactly,
  without BatchNorm and the depthwise convolution. There is no residual connection.
- FLOPs of Table 2 are multiply-adds, 2 per element of BatchNorm, 1 per element of ReLU, and the inputs of pooling, at
  224 x 224; multiply-adds alone are 0.6 to 0.9 % lower.
- Classifier: ConvX6's output is squared before the global pooling; no biases. The BatchNorm of FC1 that the released
  network registers without using it is left out (2,048 parameters, below the printed digit).
- Segmentation: Stage 5 enters the Context Path directly. The attention refinement module (ARM) starts with a 3x3
  convolution to 128 channels. Upsampling inside the Context Path is nearest, the final one bilinear, align_corners.
- Spatial Path (Table 4): that of BiSeNetV1: 7x7 64, 3x3 64, 3x3 64, each with stride 2, and 1x1 128. It takes Stage 3's
  place as the detail input of the fusion. No printed number decides its widths.
- Table 4's 1x, 2x and 4x are strides of the detail target, so all of its Detail Guidance rows are one architecture.

For STDC2-Seg75 RegSeg's paper prints 16.1 M parameters, which include everything that is registered (classifier layers,
two auxiliary heads, four detail heads), and 54.9 GFLOPs, which include the auxiliary heads.

Training heads: the auxiliary heads read `context8` and `context16`, the detail head `stage3`; each is a 3x3
Conv-BN-ReLU with 64 channels and a 1x1 convolution. The paper names no initialisation: it is torch's.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.errors import unknown
from nasseg.families.arch import Arch, Context, Decoder, Encoder, Feature, Reads, Segmenter
from nasseg.families.layers import (
    AttentionRefinement,
    conv2d,
    conv_bn,
    conv_bn_relu,
    conv_head,
    in_line,
    relu,
    scale_width,
)

CHOICES = {"form": ("segmentation", "classifier"), "module": ("released", "printed")}


@dataclass(frozen=True, kw_only=True)
class STDCArch(Arch):
    """STDC by Table 2 and Figure 4; the defaults are STDC2-Seg. Fields of a form that is not built have no effect."""

    family: ClassVar[str] = "stdc"

    form: str = "segmentation"  # or classifier: [B, 3, H, W] -> [B, classes]
    module: str = "released"  # how an STDC module strides
    blocks: int = 4  # n, Block 1 to n of every STDC module
    stage1_width: int = 32  # ConvX1
    stage2_width: int = 64  # ConvX2
    stage3_width: int = 256
    stage4_width: int = 512
    stage5_width: int = 1024
    stage3_modules: int = 4  # R of Table 2, strided module included
    stage4_modules: int = 5
    stage5_modules: int = 3
    spatial_path: bool = False  # Table 4: the detail input of the fusion
    context_width: int = 128
    fusion_width: int = 256  # of the Feature Fusion Module and the head
    classifier_width: int = 1024  # ConvX6 and FC1
    width: float = 1.0  # multiplies all of the above

    def check(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(f"{self.family} {name}", getattr(self, name), choices)
        self.require(2 <= self.blocks <= 6, "blocks must be 2 to 6", self.blocks)
        for name, value in self.params().items():
            if name.endswith(("_width", "_modules")):
                self.require(value >= 1, f"{name} must be at least 1", value)
        for name in ("stage3_width", "stage4_width", "stage5_width"):
            value, rule = getattr(self, name), f"must be divisible by {self._halvings} with {self.blocks} blocks"
            self.require(value % self._halvings == 0, f"{name} {rule}", value)
        self.require(self.fusion_width % 4 == 0, "fusion_width must be divisible by 4", self.fusion_width)
        self.require(0 < self.width <= 8, "width must be above 0 and at most 8", self.width)

    @property
    def _halvings(self) -> int:
        """The module's output channels over those of its last block: 2^(n - 1)."""
        return int(2 ** (self.blocks - 1))

    def build_encoder(self) -> "STDCNet":
        stage_widths = (self.stage3_width, self.stage4_width, self.stage5_width)
        return STDCNet(
            scale_width(self.stage1_width, self.width),
            scale_width(self.stage2_width, self.width),
            tuple(scale_width(c, self.width, self._halvings) for c in stage_widths),
            modules=(self.stage3_modules, self.stage4_modules, self.stage5_modules),
            blocks=self.blocks,
            form=self.module,
            spatial_path=scale_width(64, self.width) if self.spatial_path and self.form == "segmentation" else None,
        )

    def build(self, num_classes: int) -> Segmenter:
        encoder = self.build_encoder()
        if self.form == "classifier":
            c = scale_width(self.classifier_width, self.width)
            stage6 = ConvX6(encoder.features, "stage5", c)
            return Classifier(encoder, stage6, ClassifierHead(c, num_classes), input_scale=self.input_scale)
        context = ContextPath(encoder.features, "stage4", "stage5", scale_width(self.context_width, self.width))
        c = scale_width(self.fusion_width, self.width, 4)
        decoder = FeatureFusion(context.features, "spatial" if self.spatial_path else "stage3", "context8", c)
        head = conv_head(c, c, num_classes)
        return Segmenter(encoder, decoder, head, context=context, input_scale=self.input_scale, align_corners=True)


def block_widths(c: int, blocks: int) -> list[int]:
    """Return the filters of Blocks 1 to n of an STDC module with c outputs: c/2, c/4, ..., the last twice (3.1.1)."""
    halves = [c // 2**i for i in range(1, blocks)]
    return [*halves, halves[-1]]


class STDCModule(nn.Module):
    """Short-Term Dense Concatenate module (Figure 3b, c): [B, c_in, H, W] -> [B, c_out, ceil(H / s), ceil(W / s)]."""

    def __init__(self, c_in: int, c_out: int, *, blocks: int = 4, stride: int = 1, form: str = "released") -> None:
        super().__init__()
        widths = block_widths(c_out, blocks)
        self.block1 = conv_bn_relu(c_in, widths[0], 1)
        self.skip = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()
        self.down: nn.Module = nn.Identity()
        if stride > 1 and form == "released":
            self.down = nn.Sequential(*conv_bn(widths[0], widths[0], stride=stride, groups=widths[0]))
            stride = 1
        strides = [stride] + [1] * (blocks - 2)
        self.blocks = nn.ModuleList(
            conv_bn_relu(before, after, stride=s)
            for before, after, s in zip(widths[:-1], widths[1:], strides, strict=True)
        )

    def block_maps(self, x: Tensor) -> list[Tensor]:
        """Return x_1 to x_n of Eq. 2, all of the output's size."""
        x = self.block1(x)
        maps = [self.skip(x)]
        x = self.down(x)
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.block_maps(x), dim=1)


class SpatialPath(nn.Sequential):
    """Spatial Path of BiSeNetV1: [B, 3, H, W] -> [B, 2 c, ceil(H / 8), ceil(W / 8)]."""

    def __init__(self, c: int) -> None:
        super().__init__(
            conv_bn_relu(3, c, 7, stride=2),
            conv_bn_relu(c, c, stride=2),
            conv_bn_relu(c, c, stride=2),
            conv_bn_relu(c, 2 * c, 1),
        )


class STDCNet(Encoder):
    """The encoder, Stages 1 to 5 of Table 2: stage1 to stage5 at strides 2 to 32, and optionally `spatial` at stride 8.

    widths, modules: of Stages 3, 4, 5. spatial_path: channels of the Spatial Path's strided layers.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        widths: tuple[int, ...],
        *,
        modules: tuple[int, ...],
        blocks: int = 4,
        form: str = "released",
        spatial_path: int | None = None,
    ) -> None:
        super().__init__()

        def stage(c_in: int, c: int, count: int) -> nn.Sequential:
            first = STDCModule(c_in, c, blocks=blocks, stride=2, form=form)
            return nn.Sequential(first, *(STDCModule(c, c, blocks=blocks, form=form) for _ in range(count - 1)))

        self.stage1 = conv_bn_relu(3, c1, stride=2)
        self.stage2 = conv_bn_relu(c1, c2, stride=2)
        c3, c4, c5 = widths
        self.stage3, self.stage4, self.stage5 = (
            stage(c_in, c, count) for c_in, c, count in zip((c2, c3, c4), widths, modules, strict=True)
        )
        self.features = {f"stage{i}": Feature(c, 2**i) for i, c in enumerate((c1, c2, c3, c4, c5), start=1)}
        self.spatial = SpatialPath(spatial_path) if spatial_path else None
        if spatial_path:
            self.features["spatial"] = Feature(2 * spatial_path, 8)

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        stages = (self.stage1, self.stage2, self.stage3, self.stage4, self.stage5)
        maps = in_line({f"stage{i}": stage for i, stage in enumerate(stages, start=1)}, image, reads)
        if self.spatial:
            maps["spatial"] = self.spatial(image)
        return maps


class ContextPath(Context):
    """Context Path (Figure 4a) over a middle and a deep feature, at strides 16 and 32 in the paper.

    Adds `context16`, of the middle feature's size, and `context8`, of twice that size.
    """

    def __init__(self, features: dict[str, Feature], middle: str, deep: str, c: int) -> None:
        super().__init__()
        self.middle, self.deep = middle, deep
        stride = features[middle].stride // 2
        # Take the finer size from a feature of that stride: twice the middle one's size may be a pixel too many.
        self.fine = next(name for name, feature in features.items() if feature.stride == stride)
        self.reads = middle, deep, self.fine
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn_relu(features[deep].channels, c, 1))
        self.arm_deep = AttentionRefinement(features[deep].channels, c)
        self.arm_middle = AttentionRefinement(features[middle].channels, c)
        self.conv_deep = conv_bn_relu(c, c)
        self.conv_middle = conv_bn_relu(c, c)
        self.features = {**features, "context16": Feature(c, 2 * stride), "context8": Feature(c, stride)}

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        middle, deep = maps[self.middle], maps[self.deep]
        x = self.arm_deep(deep) + _nearest(self.pool(deep), deep)
        context16 = self.conv_deep(_nearest(x, middle))
        x = self.arm_middle(middle) + context16
        return {**maps, "context16": context16, "context8": self.conv_middle(_nearest(x, maps[self.fine]))}


class FeatureFusion(Decoder):
    """Feature Fusion Module (FFM) of a detail and a context feature of one stride; the result has c channels."""

    def __init__(self, features: dict[str, Feature], detail: str, context: str, c: int) -> None:
        super().__init__()
        self.detail, self.context, self.reads = detail, context, (detail, context)
        self.conv = conv_bn_relu(features[detail].channels + features[context].channels, c, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            conv2d(c, c // 4, 1, bias=False),
            relu(),
            conv2d(c // 4, c, 1, bias=False),
            nn.Sigmoid(),
        )
        self.feature = Feature(c, features[detail].stride)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        x: Tensor = self.conv(torch.cat([maps[self.detail], maps[self.context]], dim=1))
        return x * self.attention(x) + x


class Classifier(Segmenter):
    """The same parts for whole images: [B, 3, H, W] -> logits [B, classes]."""

    def forward(self, image: Tensor) -> Tensor:
        return self.coarse_logits(image)


class ConvX6(Decoder):
    """Stage 6's convolution on the named feature, before the pooling: c channels at its stride."""

    def __init__(self, features: dict[str, Feature], source: str, c: int) -> None:
        super().__init__()
        self.source, self.reads = source, (source,)
        self.conv = conv_bn_relu(features[source].channels, c, 1)
        self.feature = Feature(c, features[source].stride)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        x: Tensor = self.conv(maps[self.source])
        return x


class ClassifierHead(nn.Module):
    """Global pooling of the squared map, FC1 and FC2 (Table 2): [B, c, H, W] -> [B, classes]."""

    def __init__(self, c: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(c, c, bias=False), relu(), nn.Dropout(0.2), nn.Linear(c, num_classes, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(x.square()).flatten(1))
        return logits


def _nearest(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")
