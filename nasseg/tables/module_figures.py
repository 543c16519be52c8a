"""Figures of single modules, as in papers' layer tables, read from the built model."""

from collections.abc import Callable
from functools import lru_cache
from itertools import takewhile

from torch import Tensor, nn

from nasseg.errors import UserError, unknown
from nasseg.families import Arch, Segmenter
from nasseg.families.graph.recorder import record
from nasseg.families.stdc import STDCModule
from nasseg.measure.cost import field_of_view
from nasseg.records import Size

Shape = tuple[int, ...]


class Layers:
    """A model on the meta device, and its modules' input and output shapes in one run."""

    def __init__(self, model: Segmenter, size: Size) -> None:
        self.modules = dict(model.named_modules())
        self.shapes: dict[str, tuple[Shape, Shape]] = {}
        hooks = [module.register_forward_hook(self._hook(path)) for path, module in self.modules.items()]
        record(model, size)
        for hook in hooks:
            hook.remove()

    def _hook(self, path: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                self.shapes[path] = (tuple(inputs[0].shape), tuple(output.shape))

        return note

    def figure(self, path: str, rule: str, across_stride: bool = False) -> str:
        """Return a figure of the module at a dotted path ("" is the whole model), written as in the papers.

        Raises:
            UserError: the model has no such module, or it maps no tensor to a tensor.
        """
        if path not in self.shapes:
            raise unknown("module", path, self.shapes)
        if rule == "repeat":
            return str(self._run(path, across_stride))
        return RULES[rule](self.modules[path], *self.shapes[path])

    def _run(self, path: str, across_stride: bool) -> int:
        """Count the siblings from this one on that have the same kernel, channels, dilation and stride."""
        parent, _, name = path.rpartition(".")
        siblings = [child for child, _ in self.modules[parent].named_children()]
        paths = [f"{parent}.{child}" if parent else child for child in siblings[siblings.index(name) :]]
        rules = ("kernel", "channels", "dilations", *(() if across_stride else ("stride",)))

        def key(one: str) -> tuple[type, tuple[str, ...]]:
            shapes = self.shapes.get(one)
            return type(self.modules[one]), tuple(RULES[r](self.modules[one], *shapes) for r in rules) if shapes else ()

        first = key(path)
        return len(list(takewhile(lambda one: key(one) == first, paths)))


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _kernel(module: nn.Module, before: Shape, after: Shape) -> int:
    """Return the largest kernel of a block; for global pooling, the size of the map."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return before[-1]
    return max((max(conv.kernel_size) for conv in _convs(module)), default=1)


def _rates(module: nn.Module) -> list[int]:
    return sorted({max(conv.dilation) for conv in _convs(module) if max(conv.kernel_size) > 1})


def _dilations(module: nn.Module, before: Shape, after: Shape) -> str:
    """Return the rates of the block's widest convolutions: the grouped ones, if there are any.

    If a block is not split, one rate stands for both halves: `1, 1`.
    """
    grouped = [conv for conv in _convs(module) if conv.groups > 1 and max(conv.kernel_size) > 1]
    rates = [max(conv.dilation) for conv in grouped] or _rates(module)
    return ", ".join(map(str, rates * 2 if len(rates) == 1 else rates))


def _stride(module: nn.Module, before: Shape, after: Shape) -> int:
    return -(-before[-1] // after[-1])


def _expansion(module: nn.Module, before: Shape, after: Shape) -> int:
    convs = _convs(module)
    if not convs:
        raise UserError(f"an expansion belongs to a block's first convolution, got a {type(module).__name__}")
    return convs[0].out_channels // convs[0].in_channels


def _conv_weights(module: nn.Module, before: Shape, after: Shape) -> int:
    """Count the weights of the convolutions, without depthwise ones."""
    return sum(conv.weight.numel() for conv in _convs(module) if conv.groups == 1)


def _output_size(module: nn.Module, before: Shape, after: Shape) -> str:
    return f"{after[-2]}x{after[-1]}"


class _Block(nn.Module):
    """The network from an image to one block of an STDC module: the block's output, or its part of the module's."""

    def __init__(self, module: STDCModule, channels: int, index: int, joined: bool) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, channels, 1, device="meta")  # recording starts from an image
        self.module, self.index, self.joined = module, index, joined

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.image(image)
        own = self.index == 0 and not self.joined  # the other blocks already have the output's size
        return {"block": self.module.block1(x) if own else self.module.block_maps(x)[self.index]}


class _Probe(nn.Module):
    def __init__(self, block: _Block) -> None:
        super().__init__()
        self.encoder = block

    def forward(self, image: Tensor) -> Tensor:
        block: Tensor = self.encoder(image)["block"]
        return block


def _fields(module: nn.Module, before: Shape, *, joined: bool) -> list[str]:
    """Return the receptive fields of the blocks of an STDC module."""
    if not isinstance(module, STDCModule):
        raise UserError(f"receptive fields of blocks need an STDC module, got a {type(module).__name__}")
    probes = [_Probe(_Block(module, before[1], index, joined)).eval() for index in range(1 + len(module.blocks))]
    fields = [field_of_view(record(probe, (64, 64))) for probe in probes]
    return [f"{field}x{field}" for field in fields]


def _block_field(index: int) -> Callable[[nn.Module, Shape, Shape], str]:
    def field(module: nn.Module, before: Shape, after: Shape) -> str:
        fields = _fields(module, before, joined=False)
        if index >= len(fields):
            raise UserError(f"field_of_view_{index + 1} needs {index + 1} blocks, got a module of {len(fields)}")
        return fields[index]

    return field


def _joined_fields(module: nn.Module, before: Shape, after: Shape) -> str:
    return ", ".join(dict.fromkeys(_fields(module, before, joined=True)))


RULES: dict[str, Callable[[nn.Module, Shape, Shape], str]] = {
    "kernel": lambda *of: str(_kernel(*of)),
    "kernel_size": lambda *of: f"{_kernel(*of)}x{_kernel(*of)}",
    "channels": lambda module, before, after: str(after[1]),
    "expansion": lambda *of: str(_expansion(*of)),
    "stride": lambda *of: str(_stride(*of)),
    "dilation": lambda module, before, after: str(max(_rates(module), default=1)),
    "dilations": _dilations,
    "output_size": _output_size,
    "conv_weights": lambda *of: str(_conv_weights(*of)),
    **{f"field_of_view_{i}": _block_field(i - 1) for i in range(1, 5)},
    "fields_of_view": _joined_fields,
}


@lru_cache(maxsize=8)
def layers_of(arch: Arch, size: Size, classes: int) -> Layers:
    """Return the layers of an arch's inference form."""
    return Layers(arch.build_meta(classes), size)
