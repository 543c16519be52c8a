"""Output shapes of the operators that networks are made of, without torch's meta kernels.

Those kernels know every operator, but take up to a millisecond a call, the most for batch_norm and sums. The rules here
cover the plain calls. For everything else `infer` returns None, and the kernel is asked.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Shape = tuple[int, ...]
_META = torch.device("meta")


def infer(kind: str, arguments: Mapping[str, Any], *, in_place: bool = False) -> Tensor | None:
    """Return a meta tensor of the call's output shape, or None if no rule covers it. `arguments`: by name, complete.

    A call that works in place returns its input, as in torch.
    """
    rule = _RULES.get(kind)
    shape = rule(arguments) if rule else None
    if shape is None:
        return None
    if in_place or arguments.get("inplace"):
        changed: Tensor = arguments.get("input", arguments.get("arg0"))
        return changed if changed.shape == shape else None
    return torch.empty(shape, device=_META)


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
    """Return the common shape of tensors that differ only in sides of 1."""
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
    image, weight, padding = arguments["input"].shape, arguments["weight"].shape, arguments["padding"]
    if len(image) != 4 or isinstance(padding, str) or image[1] != weight[1] * arguments["groups"]:
        return None
    stride, padding, dilation = _pair(arguments["stride"]), _pair(padding), _pair(arguments["dilation"])
    height = _count(image[2], weight[2], stride[0], padding[0], dilation[0])
    width = _count(image[3], weight[3], stride[1], padding[1], dilation[1])
    return (image[0], weight[0], height, width) if height > 0 and width > 0 else None


def _count(side: int, kernel: int, stride: int, padding: int, dilation: int, *, up: bool = False) -> int:
    """Count how often a kernel fits on a side. up: also count one that starts inside and reaches beyond the end."""
    way = side + 2 * padding - dilation * (kernel - 1) - 1
    if not up:
        return way // stride + 1
    count = -(-way // stride) + 1
    return count - 1 if (count - 1) * stride >= side + padding else count


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _pool(arguments: Mapping[str, Any]) -> Shape | None:
    image, kernel, padding = arguments["input"].shape, _pair(arguments["kernel_size"]), _pair(arguments["padding"])
    if len(image) != 4 or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        return None
    stride, dilation = _pair(arguments.get("stride") or kernel), _pair(arguments.get("dilation", 1))
    steps = zip(image[2:], kernel, stride, padding, dilation, strict=True)
    sides = [_count(*step, up=arguments["ceil_mode"]) for step in steps]
    return (*image[:2], *sides) if min(sides) > 0 else None


def _adaptive_pool(arguments: Mapping[str, Any]) -> Shape | None:
    x, size = arguments.get("input", arguments.get("arg0")), arguments.get("output_size", arguments.get("arg1"))
    sides = size if isinstance(size, tuple) else (size, size)
    fits = x.dim() == 4 and len(sides) == 2 and all(isinstance(side, int) for side in sides)
    return (*x.shape[:2], *sides) if fits else None


def _grid_sample(arguments: Mapping[str, Any]) -> Shape | None:
    image, grid = arguments.get("arg0"), arguments.get("arg1")
    if image is None or grid is None or image.dim() != 4 or grid.dim() != 4 or image.shape[0] != grid.shape[0]:
        return None
    return (*image.shape[:2], *grid.shape[1:3]) if grid.shape[3] == 2 and min(image.shape) > 0 else None


def _interpolate(arguments: Mapping[str, Any]) -> Shape | None:
    x, size, scale = arguments["input"], arguments.get("size"), arguments.get("scale_factor")
    if x.dim() != 4 or (size is None) == (scale is None) or arguments.get("antialias"):
        return None
    if size is None:
        scales: Any = (scale, scale) if isinstance(scale, (int, float)) else scale
        return (*x.shape[:2], *(math.floor(float(side) * by) for side, by in zip(x.shape[2:], scales, strict=True)))
    return (*x.shape[:2], *_pair(size if isinstance(size, int) else [int(side) for side in size]))


def _cat(arguments: Mapping[str, Any]) -> Shape | None:
    tensors, dim = arguments["tensors"], arguments["dim"]
    first = tensors[0]
    if dim != 1 or any(t.dim() != 4 or t.shape[0] != first.shape[0] or t.shape[2:] != first.shape[2:] for t in tensors):
        return None
    return (first.shape[0], sum(t.shape[1] for t in tensors), *first.shape[2:])


_RULES: dict[str, Callable[[Mapping[str, Any]], Shape | None]] = {
    "batch_norm": _input,
    "prelu": _first,
    "relu": _same,
    "silu": _same,
    "sigmoid": _same,
    "add": _broadcast,
    "sub": _broadcast,
    "mul": _broadcast,
    "div": _broadcast,
    "addcmul": _broadcast,
    "conv": _conv,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "adaptive_avg_pool2d": _adaptive_pool,
    "interpolate": _interpolate,
    "grid_sample": _grid_sample,
    "cat": _cat,
}
