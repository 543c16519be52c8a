"""Multiply-adds of one call of a torch function, whatever kernels it runs: convolutions, attention, einsum, recurrence.

The rules are torch's own (torch.utils.flop_counter, two FLOPs per multiply-add), and ours for products with vectors,
which torch lacks. An elementwise product counts 0: in every paper elementwise work is free.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
_VECTORS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda a, b: prod(a.shape),
    aten.addmv: lambda c, a, b, **_: prod(a.shape),
    aten.dot: lambda a, b: prod(a.shape),
    aten.vdot: lambda a, b: prod(a.shape),
    aten.addbmm: lambda c, a, b, **_: prod(a.shape) * b.shape[-1],
}
# Kernels with several operands that torch does not tag as pointwise, though they multiply nothing or only elementwise.
_FREE = frozenset(
    {
        *("cat", "stack", "copy", "embedding", "grid_sampler_2d", "grid_sampler_3d", "linalg_cross", "masked_scatter"),
        *("scatter", "scatter_add", "select_scatter", "slice_scatter", "index_add", "index_copy", "index_put"),
        *("native_batch_norm", "native_group_norm", "native_layer_norm", "_native_batch_norm_legit"),
        *("_native_batch_norm_legit_no_training", "_fused_rms_norm", "_prelu_kernel"),
    }
)


class MultiplyAdds(TorchDispatchMode):
    """A counter of the multiply-adds of the kernels that run while it is entered.

    unknown: True if a kernel without a rule ran that may multiply operands: one of torch's with two or more operands
    that is not elementwise, or any kernel that is not torch's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count, self.unknown = 0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry and packet not in _VECTORS:
            with self:
                result = func.decompose(*args, **kwargs)  # in inference mode, torch has not done it yet
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if packet in flop_registry:
            self.count += flop_registry[packet](*args, **kwargs, out_val=result) // 2
        elif packet in _VECTORS:
            self.count += _VECTORS[packet](*args, **kwargs)
        elif func._schema.name.removeprefix("aten::").rstrip("_") not in _FREE and torch.Tag.pointwise not in func.tags:
            operands = sum(isinstance(leaf, Tensor) and not _counts(leaf) for leaf in tree_leaves((args, kwargs)))
            self.unknown |= operands > 1 or func.namespace != "aten"
        return result


def _counts(tensor: Tensor) -> bool:
    """Return whether a tensor holds indices or a mask."""
    return not (tensor.is_floating_point() or tensor.is_complex())
