"""Count with fvcore itself, the reference for `fvcore_flops`, without running the network.

fvcore traces a model with torch.jit, which runs it: seconds and gigabytes at 1024 x 2048. Meta tensors alone do not
work, because their convolutions leave no node in the trace. Here a convolution goes to the operator that fvcore sees in
a trace of real tensors, and the count is the same integer. A trace also turns sizes into tensors. Here sizes stay
numbers, because a network that rounds them (`input_scale`) fails otherwise; with plain fvcore it fails even on real
tensors.
"""

import warnings
from typing import Any, NamedTuple

import torch
from fvcore.nn import FlopCountAnalysis
from torch.overrides import TorchFunctionMode

from nasseg.families.arch import Arch
from nasseg.records import Size


class FvcoreCount(NamedTuple):
    """A count by fvcore. by_operator: FLOPs; unsupported: calls of operators without a rule; by fvcore's names."""

    total: int
    by_operator: dict[str, int]
    unsupported: dict[str, int]


def fvcore_count(arch: Arch, input_size: Size, num_classes: int = 19) -> FvcoreCount:
    """Return fvcore's FLOPs of an arch's inference form for one image [1, 3, *input_size].

    Convolutions with padding="same" count 0: to fvcore they are an unknown operator.
    """
    image = torch.empty(1, 3, *input_size, device="meta")
    analysis = FlopCountAnalysis(arch.build_meta(num_classes), image).tracer_warnings("none")
    analysis = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad(), _Traceable(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; fvcore has nothing else
        by_operator = {name: int(count) for name, count in sorted(analysis.by_operator().items())}
        unsupported = {name: int(count) for name, count in sorted(analysis.unsupported_ops().items())}
    return FvcoreCount(sum(by_operator.values()), by_operator, unsupported)


class _Traceable(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = _CONVOLUTIONS.get(func, func)(*args, **(kwargs or {}))
        return torch.Size(map(int, result)) if isinstance(result, torch.Size) else result


def _conv(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    if isinstance(padding, str):
        steps = _each(stride, weight), padding, _each(dilation, weight)
        return torch._convolution_mode(input, weight, bias, *steps, groups)
    return _convolution(input, weight, bias, stride, padding, dilation, False, 0, groups)


def _conv_transpose(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    return _convolution(input, weight, bias, stride, padding, dilation, True, output_padding, groups)


def _convolution(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    extra: Any,
    groups: int,
) -> Any:
    steps = _each(stride, weight), _each(padding, weight), _each(dilation, weight)
    cudnn = (False, False, False, False)  # benchmark, deterministic, enabled, TF32: nothing to compute
    return torch._convolution(input, weight, bias, *steps, transposed, _each(extra, weight), groups, *cudnn)


def _each(value: Any, weight: torch.Tensor) -> list[int]:
    """Return an int once for each dimension that the kernel moves along."""
    return [value] * (weight.dim() - 2) if isinstance(value, int) else list(value)


_CONVOLUTIONS: dict[Any, Any] = {
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _conv),
    **dict.fromkeys((torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d), _conv_transpose),
}
