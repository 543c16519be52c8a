"""Building networks on the meta device: nothing is filled, and a layer like one built before is a copy of it."""

from collections.abc import Mapping
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode
from torch.utils._device import DeviceContext


class OnMeta(DeviceContext):
    """`with torch.device("meta")`, in which moreover nothing is initialised: there is nothing to fill."""

    def __init__(self) -> None:
        super().__init__("meta")
        self.built: dict[tuple[type, str, str], dict[str, Any]] = {}  # attributes of layers, by class and arguments

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


def _build_once(layer: Any) -> None:
    """Within one OnMeta, a layer like one that was built before is a copy of it: to build one takes far longer.

    Classes with an __init__ of their own are built as ever. The layer is changed for good and not only within OnMeta,
    since Python's method caches do not survive a class that changes all the time.
    """
    build = layer.__init__

    @wraps(build)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        mode = _get_current_function_mode()
        if not isinstance(mode, OnMeta) or type(self).__init__ is not init:
            build(self, *args, **kwargs)
            return
        key = type(self), str(args), str(kwargs)
        if key not in mode.built:
            vars(self)["reset_parameters"] = lambda: None  # only numbers need it
            build(self, *args, **kwargs)
            del vars(self)["reset_parameters"]
            mode.built[key] = _copy(vars(self))
        else:
            vars(self).update(_copy(mode.built[key]))

    layer.__init__ = init


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a layer on meta for another one, which shares nothing that may change."""
    copied = dict(state)
    for name in _CONTAINERS:
        copied[name] = copied[name].copy()
    for tensors in (copied["_parameters"], copied["_buffers"]):
        for name, tensor in tensors.items():
            if tensor is not None:
                tensors[name] = Tensor._make_subclass(type(tensor), tensor, type(tensor) is nn.Parameter)
    return copied


_CONTAINERS = [name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set))]


for _layer in (nn.Conv2d, nn.modules.batchnorm._BatchNorm, nn.PReLU, nn.ReLU):
    _build_once(_layer)
