"""The inference graph of a model, recorded operator by operator without computing anything.

One record serves everything that is known before training: arch.id (identity.py) and multiply-adds, parameters,
activations, their memory and field of view (nasseg.measure). The model runs once on meta tensors (shapes, no numbers),
and every torch function that it calls becomes a node. Names of modules and tensors leave no trace in the record.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, NamedTuple
from weakref import finalize, ref

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from nasseg.families.graph.multiply_adds import MultiplyAdds
from nasseg.families.graph.output_shapes import Shape, infer

Edge = tuple[int, int]  # (index of the producing operator, -1 for the image; which of its outputs)
IMAGE: Edge = (-1, 0)
WEIGHTS: Edge = (-2, 0)  # as an entry of `memory`
COMMUTATIVE = frozenset({"add", "mul"})
# Functions that are the same operator.
_SAME = {
    "conv2d": "conv",
    "conv_transpose2d": "conv_transpose",
    "iadd": "add",
    "imul": "mul",
    "radd": "add",
    "rmul": "mul",
}
_IDENTITIES = frozenset({"dropout", "dropout2d", "contiguous", "identity", "clone", "detach"})
_QUESTIONS = frozenset({"dim", "shape", "size", "is_floating_point"})  # the most frequent calls that give no tensor
# Frequent, and they multiply nothing: not worth a look at their kernels.
_COPIES = frozenset({"getitem", "unbind", "chunk", "split", "view", "reshape", "flatten", "transpose", "permute"})
_NOT_IN_INFERENCE = frozenset({"momentum", "training", "inplace"})


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or buffer, listed once even if it is used several times."""

    index: int
    shape: tuple[int, ...]
    trainable: bool


class Operator(NamedTuple):
    """One call of a torch function. Shapes include the batch: [1, C, H, W].

    memory: for each output the edge that its memory was allocated for; for views and calls in place that is another
    edge. macs: multiply-adds, without bias; one multiply-add = 1. unknown: a kernel without a rule may have more.
    """

    kind: str
    inputs: tuple[Edge, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    weights: tuple[Weight | None, ...]
    attributes: tuple[tuple[str, Any], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    memory: tuple[Edge, ...] = ()
    macs: int = 0
    unknown: bool = False

    def attribute(self, name: str) -> Any:
        return dict(self.attributes)[name]


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators in the order of the run; `outputs` names the requested edges.

    eager_bytes: the most bytes that Python and torch held at once during the run, with the image and the outputs.
    """

    image_shape: tuple[int, ...]
    operators: tuple[Operator, ...]
    outputs: dict[str, Edge]
    eager_bytes: int

    def needed(self, name: str = "logits") -> list[int]:
        """Return the indices of the operators that the named output depends on, in order."""
        needed, stack = set(), [self.outputs[name][0]]
        while stack:
            index = stack.pop()
            if index >= 0 and index not in needed:
                needed.add(index)
                stack += [source for source, _ in self.operators[index].inputs]
        return sorted(needed)

    def reachable(self, name: str = "logits") -> list[Operator]:
        """Return the operators that the named output depends on, in order."""
        return [self.operators[index] for index in self.needed(name)]


# Argument names of the common functions, so that positional and keyword calls agree.
_SIGNATURES: dict[str, tuple[str, ...]] = {
    "conv": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose": ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "linear": ("input", "weight", "bias"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "interpolate": ("input", "size", "scale_factor", "mode", "align_corners"),
    "cat": ("tensors", "dim"),
}
# Torch's defaults for arguments left out.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "conv": {"stride": 1, "padding": 0, "dilation": 1, "groups": 1},
    "conv_transpose": {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1},
    "batch_norm": {"eps": 1e-5},
    "max_pool2d": {"padding": 0, "dilation": 1, "ceil_mode": False},
    "avg_pool2d": {"padding": 0, "ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    "interpolate": {"mode": "nearest", "align_corners": None},
    "cat": {"dim": 0},
}
_POOLS = frozenset({"max_pool2d", "avg_pool2d"})
_PAIRS = frozenset({"stride", "padding", "dilation", "output_padding", "kernel_size"})
_SCALARS = frozenset({int, float, bool, str, type(None)})  # most arguments are one of these
_WITH_INDICES = frozenset({"max_pool2d", "adaptive_max_pool2d"})  # torch makes them, int64, even if nobody asks
_NAMED = (torch.dtype, torch.device, torch.memory_format, slice)


def _plain(name: str, value: Any) -> Any:
    """Convert an argument to hashable plain data; an int that stands for a pair becomes the pair."""
    if type(value) in _SCALARS:
        return (value, value) if name in _PAIRS and isinstance(value, int) else value
    if isinstance(value, (list, tuple)):
        return tuple(value if _scalars(value) else [_plain("", item) for item in value])
    return str(value) if isinstance(value, _NAMED) else value


def _tensors(value: Any) -> Sequence[Tensor]:
    """Return the tensors in an argument or a result, in order."""
    if type(value) in _SCALARS:
        return ()
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)) or _scalars(value):
        return ()
    return [tensor for item in value for tensor in _tensors(item)]


def _scalars(values: Iterable[Any]) -> bool:
    """Return whether all values are numbers or words, so that none has to be looked into."""
    return _SCALARS.issuperset(map(type, values))


_UNKNOWN: tuple[Any, Edge, Shape] = (lambda: None, IMAGE, ())


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self.weights: dict[int, Weight] = {}
        # By the id of a tensor; another tensor may get it once this one is dead. No tensor is kept alive, because the
        # memory that is held is measured.
        self.edges: dict[int, tuple[ref[Tensor], Edge, Shape]] = {}
        self.memory: dict[int, Edge] = {}  # storage -> the first edge in it
        self.held: dict[int, int] = {}  # storage -> bytes
        self.now = self.peak = 0  # bytes held
        self._hold([image])
        self._name(image, IMAGE)
        self.memory[_storage(image)] = IMAGE
        for module in every_module(model):
            for named, trainable in ((module._parameters, True), (module._buffers, False)):
                for tensor in named.values():
                    if tensor is not None and id(tensor) not in self.weights:
                        self.weights[id(tensor)] = Weight(len(self.weights), tuple(tensor.shape), trainable)
                        self.memory[_storage(tensor)] = WEIGHTS
                        self.held[_storage(tensor)] = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = _kind(func)
        if kind in _QUESTIONS:
            return func(*args, **kwargs)
        arguments = _arguments(kind, args, kwargs)
        result, macs, unknown = infer(kind, arguments, in_place=_in_place(func)), 0, False
        if result is None and kind in _COPIES:
            result = func(*args, **kwargs)
        elif result is None:
            with MultiplyAdds() as kernels:
                result = func(*args, **kwargs)
            macs, unknown = kernels.count, kernels.unknown
        elif kind == "conv":
            macs = prod(result.shape) * prod(arguments["weight"].shape[1:])
        # Writing to a part of a tensor returns nothing: its output is the tensor written to.
        outputs = _tensors(args[0] if func is Tensor.__setitem__ else result)
        self._hold(outputs, 8 * prod(outputs[0].shape) if kind in _WITH_INDICES and len(outputs) == 1 else 0)
        if outputs:
            self._record(kind, args, arguments, outputs, macs, unknown)
        return result

    def _record(
        self, kind: str, args: Any, arguments: dict[str, Any], outputs: Sequence[Tensor], macs: int, unknown: bool
    ) -> None:
        inputs: list[Edge] = []
        input_shapes: list[Shape] = []
        weights: list[Weight | None] = []
        attributes: list[tuple[str, Any]] = []
        operands = ""
        if kind in _POOLS and arguments.get("stride") is None:
            arguments["stride"] = arguments["kernel_size"]
        for name, value in arguments.items():
            tensors = _tensors(value)
            for tensor in tensors:
                if found := self.edge(tensor):
                    inputs.append(found[0])
                    input_shapes.append(found[1])
                    operands += "i"
                elif id(tensor) in self.weights:
                    weights.append(self.weights[id(tensor)])
                    operands += "w"
            if not tensors and name not in _NOT_IN_INFERENCE:
                attributes.append((name, _plain(name, value)))
        if kind in _IDENTITIES and len(inputs) == 1:
            self.edges[id(outputs[0])] = ref(outputs[0]), inputs[0], input_shapes[0]
            return
        if "wi" in operands and kind not in COMMUTATIVE:  # p - x, not x - p
            attributes.append(("operands", operands))
        if kind == "interpolate":  # size and scale_factor are two ways to ask for the output shape, which is recorded
            attributes = [item for item in attributes if item[0] in ("mode", "align_corners", "antialias")]
        index, output_shapes, memory = len(self.operators), [], []
        for number, output in enumerate(outputs):
            edge = index, number
            output_shapes.append(self._name(output, edge))
            memory.append(self.memory.setdefault(_storage(output), edge))
        operator = Operator(
            kind=kind,
            inputs=tuple(inputs),
            input_shapes=tuple(input_shapes),
            weights=tuple(weights),
            attributes=tuple(sorted(attributes)),
            output_shapes=tuple(output_shapes),
            memory=tuple(memory),
            macs=macs,
            unknown=unknown,
        )
        self.operators.append(operator)
        if args and outputs[0] is args[0] and outputs[0]._base is not None:  # in place on a view: its base changes too
            self._name(outputs[0]._base, (index, 0))

    def _name(self, tensor: Tensor, edge: Edge) -> Shape:
        """Give a tensor its edge, and return its shape."""
        shape = tuple(tensor.shape)
        self.edges[id(tensor)] = ref(tensor), edge, shape
        return shape

    def edge(self, tensor: Tensor) -> tuple[Edge, Shape] | None:
        """Return the edge and the shape of a tensor; None if no operator gave it."""
        known, edge, shape = self.edges.get(id(tensor), _UNKNOWN)
        return (edge, shape) if known() is tensor else None

    def _hold(self, tensors: Iterable[Tensor], scratch: int = 0) -> None:
        """Count the memory of tensors until it is released. scratch: bytes that only the call itself takes."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.held:
                self.held[key] = storage.nbytes()
                self.now += self.held[key]
                finalize(storage, self._release, key)
        self.peak = max(self.peak, self.now + scratch)

    def _release(self, storage: int) -> None:
        self.now -= self.held.pop(storage)
        self.memory.pop(storage, None)


def _storage(tensor: Tensor) -> int:
    """Return a key of the tensor's memory: the same for tensors that share it, while one of them lives."""
    return tensor.untyped_storage()._cdata


def _arguments(kind: str, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name; those left out have torch's defaults."""
    names = _SIGNATURES.get(kind, ())
    arguments = dict(_DEFAULTS.get(kind, ()))
    arguments.update(zip(names, args, strict=False))
    for position in range(len(names), len(args)):
        arguments[f"arg{position}"] = args[position]
    arguments.update(kwargs)
    return arguments


@cache
def _kind(func: Any) -> str:
    if isinstance(func, torch._ops.OpOverload):  # torch.ops.aten.relu.default, or an operator that is not torch's
        name = func._schema.name.removeprefix("aten::")
        return _SAME.get(name, name)
    path = resolve_name(func) or getattr(func, "__name__", str(func))
    name = path.removesuffix(".__get__").rsplit(".", 1)[-1].strip("_")  # x.mT is a property
    return _SAME.get(name, name)


@cache
def _in_place(func: Any) -> bool:
    """Return whether a function returns its first argument changed, like x.relu_() and x += y."""
    name: str = getattr(func, "__name__", "")
    return name.endswith("_") and (not name.endswith("__") or name.startswith("__i"))


def every_module(model: nn.Module) -> list[nn.Module]:
    """Return the model's modules, each as often as it is used. model.modules() is six times slower."""
    found = [model]
    for module in found:
        found += [child for child in module._modules.values() if child is not None]
    return found


@torch.no_grad()
def record(model: nn.Module, input_size: tuple[int, int]) -> Graph:
    """Return the graph of a model on the meta device in eval mode, for an image [1, 3, *input_size]."""
    modules = len(sys.modules)
    image = torch.empty(1, 3, *input_size, device="meta")
    recorder = _Recorder(model, image)
    with recorder:
        logits = model(image)
    if len(sys.modules) > modules:  # a kernel's first call; what is loaded may keep the frames below it, and their maps
        return record(model, input_size)
    found = recorder.edge(logits)
    assert found is not None, "the logits are not the result of a torch function"
    return Graph(tuple(image.shape), tuple(recorder.operators), {"logits": found[0]}, recorder.peak)
