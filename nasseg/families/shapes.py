"""Output shapes of the operators that networks are made of, without torch's meta kernels.

Those kernels know every operator and cost up to a millisecond a call, most of it for batch_norm and sums. The rules
here are for the plain calls; for everything else `infer` gives None and the kernel is asked.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]


def infer(kind: str, arguments: Mapping[str, Any]) -> Tensor | None:
    """A meta tensor of the shape that a call gives, or None where no rule covers it. `arguments`: by name, complete.

    An activation in place gives its own input, as torch does.
    """
    rule = _RULES.get(kind)
    shape = rule(arguments) if rule else None
    if shape is None:
        return None
    if arguments.get("inplace"):
        changed: Tensor = arguments.get("input", arguments.get("arg0"))
        return changed
    return torch.empty(shape, device="meta")


def _same(arguments: Mapping[str, Any]) -> Shape | None:
    x = arguments.get("input", arguments.get("arg0"))
    return tuple(x.shape) if isinstance(x, Tensor) and x.is_floating_point() and "arg1" not in arguments else None


def _broadcast(arguments: Mapping[str, Any]) -> Shape | None:
    tensors = [value for value in arguments.values() if isinstance(value, Tensor)]
    if not tensors or "out" in arguments or not all(tensor.is_floating_point() for tensor in tensors):
        return None
    first = tuple(tensors[0].shape)
    return first if all(tensor.shape == first for tensor in tensors) else _widest(tensors)


def _widest(tensors: list[Tensor]) -> Shape | None:
    """The shape of tensors that differ in sides of 1 only."""
    tensors = [tensor for tensor in tensors if tensor.dim()]
    if len({tensor.dim() for tensor in tensors}) != 1:
        return None
    sides = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    fits = all(size in (1, side) for tensor in tensors for size, side in zip(tensor.shape, sides, strict=True))
    return tuple(sides) if fits else None


def _first(arguments: Mapping[str, Any]) -> Shape:
    return tuple(arguments["arg0"].shape)


def _input(arguments: Mapping[str, Any]) -> Shape:
    return tuple(arguments["input"].shape)


def _conv(arguments: Mapping[str, Any]) -> Shape | None:
    x, weight = arguments["input"], arguments["weight"]
    stride, padding, dilation = (arguments[name] for name in ("stride", "padding", "dilation"))
    if x.dim() != 4 or isinstance(padding, str) or x.shape[1] != weight.shape[1] * arguments["groups"]:
        return None
    sides = [
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(
            x.shape[2:], weight.shape[2:], _pair(stride), _pair(padding), _pair(dilation), strict=True
        )
    ]
    return (x.shape[0], weight.shape[0], *sides) if min(sides) > 0 else None


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _interpolate(arguments: Mapping[str, Any]) -> Shape | None:
    x, size = arguments["input"], arguments.get("size")
    if x.dim() != 4 or size is None or arguments.get("antialias"):
        return None
    return (*x.shape[:2], *_pair(size if isinstance(size, int) else [int(side) for side in size]))


def _cat(arguments: Mapping[str, Any]) -> Shape | None:
    tensors, dim = arguments["tensors"], arguments["dim"]
    first = tensors[0]
    if dim != 1 or any(t.dim() != 4 or t.shape[0] != first.shape[0] or t.shape[2:] != first.shape[2:] for t in tensors):
        return None
    return (first.shape[0], sum(t.shape[1] for t in tensors), *first.shape[2:])


_RULES: dict[str, Callable[[Mapping[str, Any]], Shape | None]] = {
    "batch_norm": _input, "prelu": _first, "relu": _same, "silu": _same, "sigmoid": _same,
    "add": _broadcast, "mul": _broadcast, "addcmul": _broadcast,
    "conv": _conv, "interpolate": _interpolate, "cat": _cat,
}  # fmt: skip


class NoInitialisation(TorchFunctionMode):
    """Skips what fills tensors in place: on the meta device there is nothing to fill."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__
        if getattr(func, "__module__", "") == "torch.nn.init" or (name in _FILLS):
            return args[0] if args else (kwargs or {}).get("tensor")
        return func(*args, **(kwargs or {}))


_FILLS = frozenset({"uniform_", "normal_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_", "copy_"})
