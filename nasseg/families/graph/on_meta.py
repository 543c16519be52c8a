"""Build networks on the meta device: no weights are filled, and a layer like an earlier one is a copy of it.

Earlier layers are those of this process, of whatever network: networks of a space share most of their layers.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode
from torch.utils._device import DeviceContext

MAX_BUILT = 4096  # layers remembered: some 4 KB each
_BUILT: dict[tuple[Any, ...], dict[str, Any]] = {}  # attributes of layers, by class, type of numbers and arguments


class OnMeta(DeviceContext):
    """`with torch.device("meta")`, but without initialisation: there is nothing to fill."""

    def __init__(self) -> None:
        super().__init__("meta")
        if len(_BUILT) > MAX_BUILT:
            _BUILT.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _initialises(func):
            return args[0] if args else kwargs["tensor"]
        return super().__torch_function__(torch.empty if func in _FILLED else func, types, args, kwargs)


@cache
def _initialises(func: Any) -> bool:
    return getattr(func, "__module__", "") == "torch.nn.init" or func.__name__ in _FILLS


_FILLS = frozenset({"uniform_", "normal_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_", "copy_"})
_FILLED = frozenset({torch.zeros, torch.ones})


M = TypeVar("M", bound=nn.Module)


def layer(kind: type[M], *args: Any, **kwargs: Any) -> M:
    """Return kind(*args, **kwargs). Within OnMeta, a layer like an earlier one is a copy of it.

    Building layers takes most of the time of costing a network.
    """
    if not isinstance(_get_current_function_mode(), OnMeta):
        return kind(*args, **kwargs)
    key = kind, torch.get_default_dtype(), args, tuple(kwargs.items())
    known = _BUILT.get(key)
    if known is None:
        built = kind(*args, **kwargs)
        _BUILT[key] = _copy(vars(built))
        return built
    copied = kind.__new__(kind)
    vars(copied).update(_copy(known))
    return copied


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the attributes of a layer on meta for another layer. The two share nothing that may change."""
    copied = dict(state)
    for name in _CONTAINERS:
        copied[name] = copied[name].copy()
    for tensors in (copied["_parameters"], copied["_buffers"]):
        for name, tensor in tensors.items():
            if tensor is not None:
                tensors[name] = Tensor._make_subclass(type(tensor), tensor, type(tensor) is nn.Parameter)
    return copied


_CONTAINERS = [name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set))]
