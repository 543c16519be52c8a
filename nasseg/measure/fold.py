"""Fold BatchNorm into the convolutions before it, wherever nothing else feeds it.

Folding follows what a network computes, not how its modules are nested: after one convolution, or after convolutions
whose maps are joined (RegSeg's dilated branches), if nothing else reads the result.
"""

from collections import Counter, defaultdict
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from nasseg.measure.latency.onnx_file import trace
from nasseg.records import Size

_CONVOLUTION, _JOIN = ("conv2d", "convolution"), "cat"


def fold_batch_norms(model: nn.Module, size: Size) -> tuple[nn.Module, int, dict[str, list[str]]]:
    """Return a copy of a model in eval mode with BatchNorms folded, the number folded, and the places of the others.

    size: of the images for tracing. The others are named by the operator before them: `add`, `cat`, ...
    """
    model = deepcopy(model)
    nodes = list(trace(model, size).graph.nodes)
    folded, left = 0, defaultdict[str, list[str]](list)
    for node in nodes:
        if _operator(node) not in ("batch_norm", "_native_batch_norm_legit_no_training"):
            continue
        before = node.args[0]
        sources = _convolutions(before)
        norm = _module(model, node)
        convs = [_module(model, source) for source in sources]
        own = isinstance(norm, nn.BatchNorm2d) and all(isinstance(conv, nn.Conv2d) for conv in convs)
        once = len({_path(source) for source in sources}) == len(sources) and _once(nodes, [node, *sources])
        if sources and own and once and norm is not None:
            _fold([conv for conv in convs if isinstance(conv, nn.Conv2d)], norm)
            model.set_submodule(_path(node), nn.Identity())
            folded += 1
        else:
            left[_operator(before) or "the input"].append(_path(node))
    return model, folded, dict(left)


def _fold(convs: list[nn.Conv2d], norm: nn.Module) -> None:
    """Fold a BatchNorm over maps joined in this order into the convolutions that made them."""
    assert isinstance(norm, nn.BatchNorm2d)
    first = 0
    for conv in convs:
        part = slice(first, first + conv.out_channels)
        first = part.stop
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        weight = None if norm.weight is None else norm.weight[part]
        bias = None if norm.bias is None else norm.bias[part]
        with torch.no_grad():
            conv.weight, folded = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean[part], variance[part], norm.eps, weight, bias
            )
        conv.bias = folded


def _convolutions(node: Any) -> list[Node]:
    """Return the convolutions that alone make a map, in order of its channels; empty if others take part."""
    if not isinstance(node, Node) or len(node.users) > 1:
        return []
    if _operator(node) in _CONVOLUTION:
        return [node]
    if _operator(node) != _JOIN or (len(node.args) > 1 and node.args[1] != 1):
        return []
    parts = [_convolutions(part) for part in node.args[0]]  # type: ignore[union-attr]
    return [part[0] for part in parts] if all(len(part) == 1 for part in parts) else []


def _once(nodes: list[Node], chosen: list[Node]) -> bool:
    """Return whether the modules of these nodes are used only once: shared ones cannot be changed for one use."""
    uses = Counter(_path(node) for node in nodes)
    return all(uses[_path(one)] == 1 for one in chosen)


def _operator(node: Any) -> str:
    """Return the name of a node's operator, such as `conv2d`; empty if it is none."""
    if not isinstance(node, Node) or node.op != "call_function":
        return ""
    return str(getattr(node.target, "_opname", getattr(node.target, "__name__", node.target)))


def _path(node: Node) -> str:
    """Return the path of the innermost module that a node belongs to."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _module(model: nn.Module, node: Node) -> nn.Module | None:
    try:
        return model.get_submodule(_path(node)) if _path(node) else None
    except AttributeError:
        return None
