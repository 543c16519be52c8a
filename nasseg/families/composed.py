"""Networks between the papers: the encoder of one, the context, decoder and head of others.

No paper has this family. Each part is a family's own module, and the parts are joined by rules that the five published
networks obey. So each of these is a point here (`variants/composed.yaml`), with the same id and, after renaming its
weights (`renamed`), the same output.

Parts find the features that they read by stride. c is the coarsest stride of the encoder. If an encoder has several
features of one stride, that of a detail branch or spatial path is taken, or else the last one, which is the deepest.

- detail_width: BiSeNetV2's Detail Branch beside an encoder that has none; its feature at stride 8 must be read.
- context: CE, SPP, ASPP or two convolutions on the feature at c; their output takes its place.
- decoder: bga reads strides c / 4 and c, each through an adapter: a 1x1 Conv-BN to decoder_width, or nothing if the
  width is right. ffm (STDC's Context Path and Feature Fusion Module) and regseg read c / 4, c / 2 and c. lraspp reads
  8 (c / 2 if c is 8) and c. bifpn and fpn read all strides from 2^lowest_level to c, and then ESeg's pooled levels
  down to 2^highest_level. deeplabv3+ reads 4 and c, and has the width of the latter. none takes c as it is.
- head: that of one of the five papers. RegSeg's classifies with bias, DABNet's without.

Widths that papers tie to one number stay tied: FFM has twice decoder_width; RegSeg's decoder has 1/16 of it for detail
and 1/2 for its result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from nasseg.errors import UserError, unknown
from nasseg.families import FAMILIES, bisenetv2, dabnet, eseg, get_family, regseg, stdc
from nasseg.families.arch import Arch, Context, Decoder, Encoder, Feature, Reads, Segmenter
from nasseg.families.backbones.backbone import ASPP, DeepLabV3PlusDecoder
from nasseg.families.graph.on_meta import OnMeta
from nasseg.families.layers import Select, conv2d, conv_bn, conv_bn_relu, conv_head
from nasseg.own_code import load_code

PYRAMIDS = ("bifpn", "fpn")
CHOICES = {
    "context": ("none", "ce", "spp", "aspp", "convs"),
    "decoder": ("bga", "ffm", *PYRAMIDS, "regseg", "lraspp", "deeplabv3+", "none"),
    "head": ("bisenetv2", "stdc", "eseg", "regseg", "dabnet"),
    "activation": tuple(eseg.ACTIVATIONS),
}
DETAIL = ("detail3", "spatial")  # features of a branch that only a decoder reads


@dataclass(frozen=True, kw_only=True)
class ComposedArch(Arch):
    """An encoder with its settings, and the parts that follow it; the defaults are BiSeNetV2.

    `encoder` is a family or a user's own class, `file.py:Class`. `decoder` may also be a user's class. It is called
    with the features, the names of those at strides from 2^lowest_level on (finest first), and decoder_width. A
    parameter `regseg.dilations` is the field `dilations` of a RegSeg encoder. Fields of parts that are not built have
    no effect.
    """

    family: ClassVar[str] = "composed"

    encoder: str = "bisenetv2"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    detail_width: int = 0  # of the Detail Branch at stride 8, half of it before; 0: none
    context: str = "ce"
    context_width: int = 512  # of SPP, ASPP and the two convolutions
    decoder: str = "bga"
    decoder_width: int = 128
    decoder_repeats: int = 4  # of the pyramids' cells
    lowest_level: int = 2  # of the pyramids: stride 4
    highest_level: int = 5  # of the pyramids
    activation: str = "silu"  # of the pyramids and ESeg's head
    head: str = "bisenetv2"
    head_width: int = 64  # of BiSeNetV2's and STDC's
    head_expansion: int = 1  # of BiSeNetV2's
    align_corners: bool = False  # in the last upsampling

    def check(self) -> None:
        for name, choices in CHOICES.items():
            own = name == "decoder" and ":" in self.decoder
            if getattr(self, name) not in choices and not own:
                raise unknown(f"{name} of {self.family}", getattr(self, name), choices)
        if self.encoder == self.family:
            raise UserError("composed: the encoder must be of another family, not composed")
        settings = {name: value for name, value in self.encoder_arch.params().items() if name != "input_scale"}
        object.__setattr__(self, "encoder_settings", settings)
        for name in ("context_width", "decoder_repeats", "head_width", "head_expansion"):
            self.require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        for name, low in (("decoder_width", 2), ("detail_width", 0)):
            value = getattr(self, name)
            self.require(value >= low and value % 2 == 0, f"{name} must be even and at least {low}", value)
        self.require(self.lowest_level in (2, 3), "lowest_level must be 2 or 3", self.lowest_level)
        self.require(5 <= self.highest_level <= 9, "highest_level must be from 5 to 9", self.highest_level)
        if ":" in self.decoder:
            _own_decoder(self.decoder)
        with OnMeta():
            self._sources(self.build_encoder().features)

    @cached_property
    def encoder_arch(self) -> Arch:
        return get_family(self.encoder).from_params(self.encoder_settings)

    def params(self) -> dict[str, Any]:
        params = super().params()
        prefix = self.encoder_arch.family
        return params | {f"{prefix}.{name}": value for name, value in params.pop("encoder_settings").items()}

    @classmethod
    def param_names(cls) -> list[str]:
        encoders = [get_family(family) for family in FAMILIES if family != cls.family]
        return _own_names() + [name for encoder in encoders for name in _encoder_names(encoder)]

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        encoder = get_family(str(params.get("encoder", cls.encoder)))
        known, of_encoder = _own_names(), _encoder_names(encoder)
        for name in params:
            if name not in known and name not in of_encoder:
                raise unknown(f"parameter of {cls.family} with the encoder {encoder.family}", name, known + of_encoder)
        settings = {name.partition(".")[2]: value for name, value in params.items() if name in of_encoder}
        return cls(**{name: value for name, value in params.items() if name in known}, encoder_settings=settings)

    def build_encoder(self) -> Encoder:
        encoder = self.encoder_arch.build_encoder()
        return BesideDetail(encoder, self.detail_width) if self.detail_width else encoder

    def build(self, num_classes: int) -> Segmenter:
        encoder = self.build_encoder()
        sources = self._sources(encoder.features)
        context = self._context(encoder.features, sources)
        features = (context or encoder).features
        decoder = self._decoder(features, sources)
        head = self._head(decoder.feature.channels, num_classes)
        return Segmenter(
            encoder, decoder, head, context=context, input_scale=self.input_scale, align_corners=self.align_corners
        )

    def _sources(self, features: Mapping[str, Feature]) -> list[str]:
        """Return the names of the features that the decoder reads, finest first; the last is the encoder's coarsest.

        Raises:
            UserError: the encoder's strides do not fit the decoder.
        """
        tapped = taps(features)
        last = max(tapped)
        strides = {
            "bga": [last // 4, last],
            "ffm": [last // 4, last // 2, last],
            "regseg": [last // 4, last // 2, last],
            "lraspp": [min(8, last // 2), last],
            "deeplabv3+": [4, last],
            "none": [last],
        }.get(self.decoder) or [2**level for level in range(self.lowest_level, last.bit_length())]
        has = f"{self.encoder} has strides {sorted(tapped)}"
        missing = sorted({*strides} - {*tapped})
        self.require(not missing, f"decoder {self.decoder} reads strides {strides}, {has}", self.encoder)
        if self.decoder in PYRAMIDS:
            levels = max(last.bit_length() - 1, self.highest_level) - self.lowest_level + 1
            self.require(levels >= 3, f"{self.decoder} joins three levels or more; {has}", levels)
        sources = [tapped[stride] for stride in strides]
        for name in DETAIL:
            if name in features:
                read = name in sources and features[name].stride < last  # else it would hide the encoder's own
                rule = f"the decoder must read {name}, at stride {features[name].stride}, as a finer feature"
                self.require(read, f"{rule}, or not be built; {has}", f"decoder {self.decoder}")
        return sources

    def _context(self, features: dict[str, Feature], sources: list[str]) -> Context | None:
        deep = sources[-1]
        context: Context | None = None
        if self.context == "ce":
            context, deep = bisenetv2.ContextEmbedding(features, deep), "ce"
        elif self.context == "spp":
            context, deep = dabnet.SpatialPyramidPooling(features, deep, self.context_width), "spp"
        elif self.context == "aspp":
            context, deep = ASPP(features, deep, self.context_width), "aspp"
        elif self.context == "convs":
            context, deep = TwoConvolutions(features, deep, self.context_width), "convs"
        sources[-1] = deep
        if self.decoder not in PYRAMIDS:
            return context
        levels = eseg.PooledLevels((context.features if context else features), deep, self.highest_level)
        sources += levels.pooled
        if not levels.pooled:
            return context
        return Chain(context, levels) if context else levels

    def _decoder(self, features: dict[str, Feature], sources: list[str]) -> Decoder:
        width, deep = self.decoder_width, sources[-1]
        if self.decoder == "bga":
            return AdaptedAggregation(features, sources[0], deep, width)
        if self.decoder == "ffm":
            return ContextFusion(features, sources[0], sources[1], deep, width)
        if self.decoder == "regseg":
            return regseg.RegSegDecoder(features, sources[0], sources[1], deep, width=width / 128)
        if self.decoder == "lraspp":
            return regseg.LRASPPDecoder(features, sources[0], deep, width=width / 128)
        if self.decoder == "none":
            return Select(features, deep)
        if self.decoder == "deeplabv3+":
            return DeepLabV3PlusDecoder(features, sources[0], deep)
        if ":" in self.decoder:
            return _own_decoder(self.decoder)(features, tuple(sources), width)
        return eseg.PyramidDecoder(
            features,
            tuple(sources),
            channels=width,
            repeats=self.decoder_repeats,
            fusion=self.decoder,
            activation=self.activation,
        )

    def _head(self, channels: int, num_classes: int) -> nn.Module:
        if self.head == "bisenetv2":
            return bisenetv2.Head(channels, self.head_width, num_classes, expansion=self.head_expansion)
        if self.head == "stdc":
            return conv_head(channels, self.head_width, num_classes)
        if self.head == "eseg":
            return eseg.Head(channels, num_classes, self.activation)
        return conv2d(channels, num_classes, 1, bias=self.head == "regseg")


def _own_names() -> list[str]:
    return [field.name for field in fields(ComposedArch) if field.name != "encoder_settings"]


def _encoder_names(encoder: type[Arch]) -> list[str]:
    return [f"{encoder.family}.{name}" for name in encoder.param_names() if name != "input_scale"]


def _own_decoder(source: str) -> type[Decoder]:
    decoder, _ = load_code(source)
    if not (isinstance(decoder, type) and issubclass(decoder, Decoder)):
        raise UserError(
            f"{source} is no decoder: it must be a subclass of nasseg.families.arch.Decoder; see "
            "docs/guide/extending.md"
        )
    return decoder


def taps(features: Mapping[str, Feature]) -> dict[int, str]:
    """Return the name of the feature to read at each stride."""
    found = {feature.stride: name for name, feature in features.items()}
    return found | {features[name].stride: name for name in DETAIL if name in features}


class Chain(Context):
    """Two contexts one after the other."""

    def __init__(self, first: Context, second: Context) -> None:
        super().__init__()
        self.first, self.second, self.features = first, second, second.features
        self.reads = None if first.reads is None or second.reads is None else first.reads + second.reads

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        chained: dict[str, Tensor] = self.second(self.first(maps))
        return chained


class BesideDetail(Encoder):
    """BiSeNetV2's Detail Branch, c channels at stride 8 and half of them before, beside an encoder of any family."""

    def __init__(self, encoder: Encoder, c: int) -> None:
        super().__init__()
        twice = {*DETAIL} & {*encoder.features}
        if twice:
            raise UserError(f"composed: detail_width must be 0, for the encoder has the feature {twice.pop()} already")
        self.detail, self.encoder = bisenetv2.DetailBranch((c // 2, c // 2, c)), encoder
        self.features = {**self.detail.features, **encoder.features}

    def forward(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        return {**self.detail(image, reads), **self.encoder.read(image, reads)}


class Adapter(Context):
    """Named features, each brought to c channels by a 1x1 Conv-BN; those that have c channels pass unchanged."""

    def __init__(self, features: dict[str, Feature], names: tuple[str, ...], c: int) -> None:
        super().__init__()
        self.reads = names
        other = [name for name in names if features[name].channels != c]
        self.convs = nn.ModuleDict({name: nn.Sequential(*conv_bn(features[name].channels, c, 1)) for name in other})
        self.features = {**features, **{name: Feature(c, features[name].stride) for name in other}}

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**maps, **{name: conv(maps[name]) for name, conv in self.convs.items()}}


class TwoConvolutions(Context):
    """Adds `convs`: two 3x3 Conv-BN-ReLU to c channels on the named feature, summed.

    It stands between the foreign backbones and the aggregation of BiSeNetV2's Table 6. The paper prints only costs: of
    17,100 forms tried, this one gives all three to 0.1 %. They do not decide how the two convolutions are joined.
    """

    def __init__(self, features: dict[str, Feature], source: str, c: int) -> None:
        super().__init__()
        self.source, self.reads = source, (source,)
        self.convs = nn.ModuleList(conv_bn_relu(features[source].channels, c) for _ in range(2))
        self.features = {**features, "convs": Feature(c, features[source].stride)}

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        first, second = (conv(maps[self.source]) for conv in self.convs)
        return {**maps, "convs": first + second}


class AdaptedAggregation(Decoder):
    """Guided aggregation of two features, after an adapter has brought both to c channels."""

    def __init__(self, features: dict[str, Feature], detail: str, semantic: str, c: int) -> None:
        super().__init__()
        self.reads = detail, semantic
        self.adapter = Adapter(features, self.reads, c)
        self.aggregation = bisenetv2.BilateralGuidedAggregation(self.adapter.features, detail, semantic)
        self.feature = self.aggregation.feature

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        joined: Tensor = self.aggregation(self.adapter(maps))
        return joined


class ContextFusion(Decoder):
    """STDC's Context Path with c channels over two features, fused with a third to 2 c channels."""

    def __init__(self, features: dict[str, Feature], detail: str, middle: str, deep: str, c: int) -> None:
        super().__init__()
        self.path = stdc.ContextPath(features, middle, deep, c)
        self.reads = detail, self.path.fine, middle, deep
        self.fusion = stdc.FeatureFusion(self.path.features, detail, "context8", 2 * c)
        self.feature = self.fusion.feature

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        fused: Tensor = self.fusion(self.path(maps))
        return fused


# Names of weights: the prefix in a published network -> the prefix in the composed one.
RENAMED: dict[str, dict[str, str]] = {
    "bisenetv2": {"encoder.semantic.": "encoder.encoder.semantic.", "decoder.": "decoder.aggregation."},
    "stdc": {"context.": "decoder.path.", "decoder.": "decoder.fusion."},
    "eseg": {"encoder.backbone.": "encoder."},
    "regseg": {},
    "dabnet": {},
}


def renamed(state: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """Rename the state_dict of a family's network to that of the same network in the composed family."""
    result = {}
    for name, tensor in state.items():
        prefix = next((old for old in RENAMED[family] if name.startswith(old)), "")
        result[RENAMED[family].get(prefix, "") + name.removeprefix(prefix)] = tensor
    return result
