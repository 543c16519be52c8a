"""Cost before any training: parameters, multiply-adds, FLOPs by each paper's rule, activations, memory, field of view.

Every figure is a small function over the operators of the built model's inference graph (nasseg.families.graph); there
is no formula for an architecture beside the code that builds it. All papers print multiply-adds as "FLOPs" but add
different elementwise work; the rules below are the papers' own.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from fractions import Fraction
from math import ceil, prod
from typing import NamedTuple

import numpy as np

from nasseg.families.arch import Arch
from nasseg.families.graph.recorder import IMAGE, WEIGHTS, Edge, Graph, Operator
from nasseg.measure.environment import environment
from nasseg.measure.topology import blocks
from nasseg.processes.collection import no_collection
from nasseg.records import Cost, CostProtocol, Size, Stage


def macs(operator: Operator) -> int:
    """Return an operator's multiply-adds, without bias. One multiply-add = 1; elementwise products are free."""
    return operator.macs


def _weight_shape(operator: Operator) -> tuple[int, ...]:
    """Return the shape of a convolution's weight, which may be the result of other operators."""
    return _operand_shapes(operator)[1]


def _operand_shapes(operator: Operator) -> list[tuple[int, ...]]:
    """Return the shapes of an operator's operands, tensors and weights, in the order of the call."""
    computed, weights = iter(operator.input_shapes), (weight.shape for weight in operator.weights if weight)
    order = dict(operator.attributes).get("operands") or "i" * len(operator.inputs) + "w" * len(operator.weights)
    return [next(computed if letter == "i" else weights) for letter in order]


_LIKE_FVCORE = frozenset(
    {
        *("conv", "conv1d", "conv3d", "conv_transpose", "conv_transpose1d", "conv_transpose3d"),
        *("linear", "mm", "bmm", "addmm"),
    }
)


def fvcore_flops(operator: Operator) -> int:
    """Return FLOPs as fvcore 0.1.5 counts them on an eval-mode model: 0 where it has no rule.

    The integers are the same, with two exceptions. fvcore counts 0 for padding="same", which it does not recognise as a
    convolution, and for self-attention, where torch's modules take a path that it cannot see. fvcore itself runs in
    nasseg.measure.fvcore_counter.
    """
    out, first = prod(operator.output_shapes[0]), prod(operator.input_shapes[0]) if operator.input_shapes else 0
    if operator.kind in _LIKE_FVCORE:
        return operator.macs
    if operator.kind == "batch_norm":
        return out * (2 if _affine(operator) else 1)
    if operator.kind in ("group_norm", "layer_norm", "instance_norm"):
        return first * (5 if _affine(operator) else 4)
    if operator.kind == "interpolate" and dict(operator.attributes).get("antialias") is not True:
        return {"nearest": out, "bilinear": 4 * out, "area": first}.get(operator.attribute("mode"), 0)
    if operator.kind == "adaptive_avg_pool2d":
        return first
    if operator.kind == "grid_sample":
        return 4 * out
    return _fvcore_product(operator) if operator.macs else 0


def _fvcore_product(operator: Operator) -> int:
    """Return fvcore's count for a product of several operands. It may differ from the multiply-adds."""
    shapes = _operand_shapes(operator)
    if operator.kind == "matmul":  # fvcore counts as if the first operand had all batch dimensions
        return prod(shapes[0]) * shapes[1][-1] if len(shapes[1]) > 1 else 0
    if operator.kind == "einsum":
        return _fvcore_einsum(str(operator.attribute("arg0")).replace(" ", ""), shapes)
    if operator.kind == "multi_head_attention_forward":
        if operator.attribute("need_weights"):
            return operator.macs
        query, key, value = map(prod, operator.input_shapes[:3])  # only the projections
        return (2 * query + key + value) * operator.input_shapes[0][-1]
    return 0


def _fvcore_einsum(equation: str, shapes: list[tuple[int, ...]]) -> int:
    """Return half the FLOPs that NumPy prints (four digits), as fvcore does; two equations have their own rules."""
    letters = {
        letter: chr(ord("a") + number) for number, letter in enumerate(dict.fromkeys(filter(str.isalpha, equation)))
    }
    renamed = "".join(letters.get(letter, letter) for letter in equation)
    if renamed == "abc,abd->acd":
        return prod(shapes[0]) * shapes[1][2]
    if renamed == "abc,adc->adb":
        return prod(shapes[0]) * shapes[1][1]
    arrays = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
    _, report = np.einsum_path(renamed, *arrays, optimize="optimal")
    line = next(line for line in report.split("\n") if "optimized flop" in line.lower())
    return int(float(line.rpartition(":")[2]) / 2)


def _affine(operator: Operator) -> bool:
    return any(weight and weight.trainable for weight in operator.weights)


def bisenetv2_flops(operator: Operator) -> int:
    """Count FLOPs by BiSeNetV2's rule, which is also STDC's.

    Convolutions count multiply-adds and the bias. BatchNorm counts 2, ReLU and sigmoid 1 per output element; pooling
    counts 1 per input element.
    """
    out, first = prod(operator.output_shapes[0]), prod(operator.input_shapes[0]) if operator.input_shapes else 0
    if operator.kind == "conv" and len(operator.weights) > 1:
        return macs(operator) + out
    if operator.kind == "batch_norm":
        return 2 * out
    if operator.kind in ("relu", "sigmoid"):
        return out
    if operator.kind in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"):
        return first
    return macs(operator)


def eseg_flops(operator: Operator) -> int:
    """Count FLOPs by ESeg's rule: the halved float operations of TensorFlow's profiler.

    These are the multiply-adds and half of some other operations. Per output element, a bias, a SiLU and the product of
    squeeze-and-excitation take 1, a weighted sum of n maps n - 1, and pooling its kernel's area. A mean takes 1 per
    input element. Plain sums, products with the weights of sums, BatchNorm, ReLU, sigmoid and resizing are free. An
    atrous convolution counts its grid padded to a multiple of the dilation. Inferred: the paper states no rule.
    """
    out = prod(operator.output_shapes[0])
    if operator.kind == "conv":
        return _padded_macs(operator) + (out // 2 if len(operator.weights) > 1 else 0)
    if operator.kind in ("silu", "addcmul"):
        return out // 2
    if operator.kind == "mul" and all(len(shape) == 4 for shape in operator.input_shapes):
        return out // 2
    if operator.kind == "adaptive_avg_pool2d":
        return prod(operator.input_shapes[0]) // 2
    if operator.kind in ("max_pool2d", "avg_pool2d"):
        return int(prod(operator.attribute("kernel_size"))) * out // 2
    return macs(operator)


def _padded_macs(operator: Operator) -> int:
    """Count the multiply-adds of a convolution. An atrous one runs as SpaceToBatch, as in TensorFlow."""
    weight, dilation = _weight_shape(operator), operator.attribute("dilation")
    batch, channels, *sides = operator.output_shapes[0]
    grid = [
        (ceil((side + (k - 1) * d) / d) - (k - 1)) * d if d > 1 else side
        for side, k, d in zip(sides, weight[2:], dilation, strict=True)
    ]
    return batch * channels * prod(grid) * prod(weight[1:])


Step = int | Fraction  # in pixels; a fraction if an image was resized


def field_of_view(graph: Graph) -> int:
    """Return the largest field of view on the way down, in pixels of the image.

    RegSeg's Eqs 1-2: each layer makes k <- k + (k' - 1) s and s <- s s'. A path ends where a map is upsampled, so equal
    graphs have equal fields, whatever their modules are called. If the network resizes its image (input_scale), that is
    a layer, too. Outputs of adaptive pooling are skipped: they see the whole image, whatever the convolutions are.
    Height and width are followed separately, because a 3x1 convolution widens only one of them. The larger field
    counts.
    """
    return max(_field_of_view(graph, axis) for axis in (0, 1))


def _field_of_view(graph: Graph, axis: int) -> int:
    extent: dict[int, tuple[Step, Step] | None] = {-1: (1, 1)}  # operator -> (k, s); None: it sees the whole image
    for index in graph.needed():
        operator = graph.operators[index]
        sources = [source for source, _ in operator.inputs]
        kernel, stride = _kernel(operator, axis)
        if not all(source in extent for source in sources):
            continue
        known = [field for field in (extent[source] for source in sources) if field is not None]
        if known and _upsamples(operator):
            continue
        if known and not operator.kind.startswith("adaptive_"):
            k, s = max(known)
            extent[index] = (k + (kernel - 1) * s, s * stride)
        else:
            extent[index] = None
    return max(ceil(field[0]) for field in extent.values() if field is not None)


def _upsamples(operator: Operator) -> bool:
    """Return whether an operator enlarges a map. Enlarging the image itself does not count."""
    if operator.kind == "conv_transpose":
        return True
    if operator.kind != "interpolate" or operator.inputs[0] == IMAGE:
        return False
    return prod(operator.output_shapes[0][-2:]) > prod(operator.input_shapes[0][-2:])


def _kernel(operator: Operator, axis: int) -> tuple[int, Step]:
    """Return the kernel along an axis, dilation included, and the stride."""
    if operator.kind == "conv":
        kernel, dilation = _weight_shape(operator)[2 + axis], operator.attribute("dilation")[axis]
        return (kernel - 1) * dilation + 1, operator.attribute("stride")[axis]
    if operator.kind in ("max_pool2d", "avg_pool2d"):
        return operator.attribute("kernel_size")[axis], operator.attribute("stride")[axis]
    if operator.kind == "interpolate":
        stride = Fraction(operator.input_shapes[0][-2 + axis], operator.output_shapes[0][-2 + axis])
        return 2 if operator.attribute("mode") == "bilinear" and stride != 1 else 1, stride
    return 1, 1


class OperatorCost(NamedTuple):
    """The cost of one operator. A weight counts where it is first used."""

    kind: str
    stride: int  # of the output, rounded to a power of two; 0: no map, or a map one pixel high
    output_shape: tuple[int, ...]  # [1, C, H, W]
    params: int
    macs: int
    fvcore_flops: int
    activations: int  # output elements of convolutions and linear layers
    unknown: bool  # may need more macs than counted: it has several operands and no rule
    live_bytes: int  # of fp32 activations, while it runs: see `peak_activation_bytes`


def operators(graph: Graph) -> list[OperatorCost]:
    """Return the cost of each operator that the logits depend on, in the order in which they run."""
    height, counted, rows = graph.image_shape[-2], set[int](), []
    needed = graph.reachable()
    for operator, live in zip(needed, _live_elements(graph, needed), strict=True):
        shape, count = operator.output_shapes[0], macs(operator)
        on_map = len(shape) == 4 and shape[-2] > 1
        weights = {w.index: prod(w.shape) for w in operator.weights if w and w.trainable and w.index not in counted}
        counted.update(weights)
        row = OperatorCost(
            kind=operator.kind,
            stride=2 ** round(height / shape[-2]).bit_length() // 2 if on_map else 0,
            output_shape=shape,
            params=sum(weights.values()),
            macs=count,
            fvcore_flops=fvcore_flops(operator),
            activations=prod(shape) if count else 0,
            unknown=operator.unknown,
            live_bytes=4 * live,
        )
        rows.append(row)
    return rows


def peak_activation_bytes(graph: Graph) -> int:
    """Return the peak memory of the inference form's activations, in bytes of fp32 at batch 1.

    An activation lives from the operator that makes it (the image: from its first reader) to its last reader, in the
    order in which they run. While an operator runs, its inputs and outputs both exist. Views and in-place operations
    share memory and add none. Weights, the scratch memory of kernels, and Python variables that outlive their use do
    not count.
    """
    return 4 * max(_live_elements(graph, graph.reachable()))


def eager_memory_bytes(graph: Graph) -> int:
    """Return the peak memory of activations when eager torch runs the network, in bytes at batch 1.

    An activation lives until Python drops it. So unread maps count, variables that outlive their use, the arguments of
    every call that has not returned, and the image throughout. The indices of max pooling count while it runs. Weights
    and the scratch memory of other kernels do not count, nor does what an allocator adds by rounding up or by keeping
    freed memory.
    """
    return graph.eager_bytes


def _live_elements(graph: Graph, needed: list[Operator]) -> list[int]:
    """Return how many activation elements are live while each operator runs. needed: those that run, in order."""

    def memory(edge: Edge) -> Edge:
        index, number = edge
        return graph.operators[index].memory[number] if index >= 0 else edge

    touched = []  # the memory that each operator reads or writes
    for operator in needed:
        touched.append({*map(memory, operator.inputs), *operator.memory} - {WEIGHTS})
    last = {edge: step for step, edges in enumerate(touched) for edge in edges}
    live: dict[Edge, int] = {}
    elements = []
    for step, edges in enumerate(touched):
        for edge in edges - live.keys():
            index, number = edge
            live[edge] = prod(graph.operators[index].output_shapes[number] if index >= 0 else graph.image_shape)
        elements.append(sum(live.values()))
        for edge in edges:
            if last[edge] == step:
                del live[edge]
    return elements


def stages(rows: Iterable[OperatorCost]) -> tuple[Stage, ...]:
    """Sum cost by output stride: an operator belongs to the stride of its output."""
    found: dict[int, list[OperatorCost]] = defaultdict(list)
    for row in rows:
        found[row.stride].append(row)
    return tuple(
        Stage(
            stride=stride,
            operators=len(rows),
            params=sum(row.params for row in rows),
            macs=sum(row.macs for row in rows),
            activations=sum(row.activations for row in rows),
            width=max((row.output_shape[1] for row in rows if row.macs and len(row.output_shape) == 4), default=0),
        )
        for stride, rows in sorted(found.items())
    )


@no_collection()
def measure_cost(arch: Arch, input_size: Size, num_classes: int = 19) -> Cost:
    """Return the cost of an arch's inference form for one image [1, 3, *input_size], without running the model.

    input_size: height and width. See Cost for the figures and their units.
    """
    graph = arch.graph(num_classes, input_size)
    return cost_of(graph, CostProtocol(input_size=input_size, num_classes=num_classes))


def cost_of(graph: Graph, protocol: CostProtocol) -> Cost:
    """Return the cost of a graph: sums over its operators, and the kinds of operators that a figure does not count."""
    rows = operators(graph)
    return Cost(
        protocol=protocol,
        environment=environment(),
        params=sum(row.params for row in rows),
        macs=sum(row.macs for row in rows),
        fvcore_flops=sum(row.fvcore_flops for row in rows),
        activations=sum(row.activations for row in rows),
        peak_activation_bytes=max(row.live_bytes for row in rows),
        eager_memory_bytes=eager_memory_bytes(graph),
        field_of_view=field_of_view(graph),
        stages=stages(rows),
        blocks=blocks(graph, rows),
        uncounted=_by_kind(row for row in rows if not row.fvcore_flops),
        unknown=_by_kind(row for row in rows if row.unknown),
    )


def _by_kind(rows: Iterable[OperatorCost]) -> dict[str, int]:
    return dict(sorted(Counter(row.kind for row in rows).items()))
