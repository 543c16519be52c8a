"""The base of all families: an architecture is a frozen set of facts that builds a model and knows its identity."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from inspect import signature
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from torch import Tensor, fx, nn
from torch.nn import functional as F

from nasseg.errors import UserError, unknown
from nasseg.families.graph.identity import fingerprint
from nasseg.families.graph.on_meta import OnMeta
from nasseg.families.graph.recorder import Graph, every_module, record
from nasseg.processes.collection import no_collection

# arch.id is the hash of the network as it would run on a Cityscapes frame.
ID_INPUT_SIZE = (1024, 2048)
ID_CLASSES = 19


Reads = tuple[str, ...] | None  # names of feature maps; None: all


@dataclass(frozen=True)
class Feature:
    """A feature map's channels and stride, in input pixels a step."""

    channels: int
    stride: int


class Encoder(nn.Module):
    """Image [B, 3, H, W] -> {name: feature map}; `features` describes each map.

    If `forward` takes `reads`, the names of maps, it keeps and returns only those; None: all of them.
    """

    features: dict[str, Feature]
    _selects: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._selects = "reads" in signature(cls.forward).parameters

    def read(self, image: Tensor, reads: Reads) -> dict[str, Tensor]:
        """Return the maps named in `reads`, or more."""
        maps: dict[str, Tensor] = self(image, reads) if self._selects and reads is not None else self(image)
        return maps


def kept(name: str, x: Tensor, reads: Reads) -> dict[str, Tensor]:
    """Return {name: x} if that map is read, else {}."""
    return {name: x} if reads is None or name in reads else {}


class Context(nn.Module):
    """{name: map} -> {name: map} with maps added; `features` describes each.

    reads: names of the maps that it works on; None: all of them.
    """

    features: dict[str, Feature]
    reads: Reads = None


class Decoder(nn.Module):
    """{name: map} -> one map, described by `feature`. reads: names of the maps that it is given; None: all of them."""

    feature: Feature
    reads: Reads = None


class Segmenter(nn.Module):
    """Encoder -> (context) -> decoder -> head, then logits resized to the input: [B, 3, H, W] -> [B, classes, H, W].

    context: None if the family has none. head: map -> logits at the map's stride.
    input_scale: the image is resized by it first, so that cost, latency and accuracy all refer to the camera's size.
    The resize is plain bilinear, which every runtime has. An antialiased one (Pillow's) differs from it by 0.6 of 255
    on average at 0.75, by 1.1 at 0.5 and by 3.3 at 0.25 (procedural scenes of 256 x 512).
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        head: nn.Module,
        *,
        context: Context | None = None,
        input_scale: float = 1.0,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.context, self.decoder, self.head = encoder, context, decoder, head
        self.input_scale, self.align_corners = input_scale, align_corners
        # Derived from the parts: torch's tracers cannot branch on an image's size.
        self.ends_at_full_size = input_scale == 1.0 and decoder.feature.stride == 1
        self.may_end_at_full_size = isinstance(head, nn.ConvTranspose2d)  # where sides are even

    def forward(self, image: Tensor) -> Tensor:
        return self.fit(self.coarse_logits(image), image)

    def coarse_logits(self, image: Tensor) -> Tensor:
        """Return the logits at the head's own stride. Maps are freed as soon as nothing reads them any more."""
        logits: Tensor = self.head(self.decoder(self._read(self.forward_features(image, self._encoder_reads()))))
        return logits

    def _encoder_reads(self) -> Reads:
        """Return the names of the encoder's maps that decoder or context read. In training, heads may read any."""
        if self.training:
            return None
        read = self.decoder.reads, self.context.reads if self.context else ()
        return None if read[0] is None or read[1] is None else read[0] + read[1]

    def _read(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        reads = self.decoder.reads
        return maps if reads is None else {name: maps[name] for name in reads}

    def fit(self, logits: Tensor, image: Tensor) -> Tensor:
        """Resize logits to the image's size, unless the network ends at it."""
        if self.ends_at_full_size:
            return logits
        if self.may_end_at_full_size:
            return fit_size(logits, image, self.align_corners)
        return self.resize(logits, image.shape[-2:])

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what torch.jit.script compiles: torch.fx's trace, without `features`, which it cannot compile."""
        return fx.symbolic_trace(self)

    def forward_features(self, image: Tensor, reads: Reads = None) -> dict[str, Tensor]:
        """Return the features after the context: the input of decoders and training heads.

        reads: the names of the encoder's features that are needed; None: all of them.
        """
        if self.input_scale != 1.0:
            # Let torch compute the size: every tool can trace that. A size computed here becomes a constant or fails.
            image = F.interpolate(
                image,
                scale_factor=self.input_scale,
                mode="bilinear",
                align_corners=self.align_corners,
                recompute_scale_factor=True,
            )
        features = self.encoder.read(image, reads)
        return features if self.context is None else self.context(features)

    def resize(self, x: Tensor, size: Any) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=self.align_corners)


@fx.wrap
def fit_size(logits: Tensor, image: Tensor, align_corners: bool) -> Tensor:
    """Resize logits to the image's size if theirs differs. It is a function so that torch.fx does not trace into it."""
    if logits.shape[-2:] == image.shape[-2:]:
        return logits
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=align_corners)


@dataclass(frozen=True, kw_only=True)
class Arch(ABC):
    """A validated architecture. Its fields are primary facts; their defaults are the published network.

    A family is a frozen, keyword-only dataclass that inherits from it. It names itself in `family`, checks its fields
    in `check` and builds the model in `build`.
    """

    family: ClassVar[str]

    input_scale: float = 1.0

    def __post_init__(self) -> None:
        kinds = _kinds(type(self))
        for field in dataclasses.fields(self):
            value = _coerce(f"{self.family}: {field.name}", kinds[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        self.require(0 < self.input_scale <= 4, "input_scale must be above 0 and at most 4", self.input_scale)
        self.check()

    def check(self) -> None:  # noqa: B027  (optional)
        """Raise UserError (through `require`) if fields contradict each other."""

    @abstractmethod
    def build(self, num_classes: int) -> Segmenter:
        """Build the model in its inference form, initialised as in the paper."""

    def build_encoder(self) -> Encoder:
        """Build the encoder alone, for `composed`."""
        encoder: Encoder = self.build(1).encoder
        return encoder

    def require(self, holds: bool, rule: str, value: object) -> None:
        if not holds:
            raise UserError(f"{self.family}: {rule}, got {value}")

    def params(self) -> dict[str, Any]:
        """Return the parameters as plain data: `make_arch(arch.family, **arch.params())` gives the same arch."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def param_names(cls) -> list[str]:
        """Return the names that `params` may have: the fields."""
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Build the arch from `params`; fields left out take their defaults.

        Raises:
            UserError: a parameter does not exist (the nearest name is offered), or its value is refused.
        """
        for name in params:
            if name not in cls.param_names():
                raise unknown(f"parameter of {cls.family}", name, cls.param_names())
        return cls(**params)

    def build_meta(self, num_classes: int) -> Segmenter:
        """Build the model in eval mode on the meta device: shapes without numbers."""
        with OnMeta():
            model = self.build(num_classes)
        for module in every_module(model):  # model.eval() is ten times slower
            if type(module).train is nn.Module.train:
                module.__dict__["training"] = False
            else:
                module.eval()
        return model

    def graph(self, num_classes: int, input_size: tuple[int, int]) -> Graph:
        """Record the inference graph for one image [1, 3, *input_size], anew at each call. Nothing is computed."""
        graph = self._record(num_classes, input_size)
        if (num_classes, input_size) == (ID_CLASSES, ID_INPUT_SIZE):
            self.__dict__.setdefault("id", fingerprint(graph))  # an arch that is costed is asked for its id as well
        return graph

    @cached_property
    def id(self) -> str:
        """A hash of the inference graph: the same for equal networks, whatever family or fields built them."""
        return fingerprint(self._record(ID_CLASSES, ID_INPUT_SIZE))

    def _record(self, num_classes: int, input_size: tuple[int, int]) -> Graph:
        with no_collection():  # a model and its graph are tens of thousands of objects without a cycle
            return record(self.build_meta(num_classes), input_size)


@cache
def _kinds(arch_class: type[Arch]) -> dict[str, Any]:
    """Return the declared types of the fields; annotations kept as text are resolved."""
    return get_type_hints(arch_class)


def _coerce(name: str, kind: Any, value: Any) -> Any:
    """Convert a value to its declared type: YAML's lists become tuples and 1 becomes 1.0. Refuse anything else."""
    plain = get_origin(kind) or kind
    if plain is tuple and isinstance(value, list | tuple):
        return tuple(_coerce(f"an item of {name}", get_args(kind)[0], item) for item in value)
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is not bool and isinstance(value, bool)):
        raise UserError(f"{name} must be of type {plain.__name__}, got {value!r}")
    return value
