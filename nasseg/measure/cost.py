"""Cost before any training: parameters, multiply-adds, FLOPs by each paper's rule, activations, field of view.

Every figure is a small function over the operators of the built model's inference graph (nasseg.families.graph); no
formula of an architecture is kept beside the code that builds it. The papers all print multiply-adds as "FLOPs" but
count different elementwise work besides; the rules below are those of the papers.
"""

from collections import Counter, defaultdict
from fractions import Fraction
from math import ceil, prod

from nasseg.families.arch import Arch
from nasseg.families.graph import Graph, Operator, record
from nasseg.measure.environment import environment
from nasseg.records import Cost, CostProtocol, Size, Stage


def macs(operator: Operator) -> int:
    """Multiply-adds of convolutions and linear layers, without bias. One multiply-add = 1."""
    if operator.kind in ("conv", "linear"):
        return prod(operator.output_shapes[0]) * prod(_weight_shape(operator)[1:])
    if operator.kind == "conv_transpose":
        return prod(operator.input_shapes[0]) * prod(_weight_shape(operator)[1:])
    if operator.kind in ("matmul", "bmm"):
        return prod(operator.output_shapes[0]) * operator.input_shapes[0][-1]
    return 0


def _weight_shape(operator: Operator) -> tuple[int, ...]:
    """Of a convolution or linear layer, whose weight may be the result of other operators."""
    if len(operator.input_shapes) > 1:
        return operator.input_shapes[1]
    weight = operator.weights[0]
    assert weight is not None
    return weight.shape


def fvcore_flops(operator: Operator) -> int:
    """FLOPs as fvcore 0.1.5 counts them on an eval-mode model; what it has no rule for counts 0."""
    out, first = prod(operator.output_shapes[0]), prod(operator.input_shapes[0]) if operator.input_shapes else 0
    if operator.kind == "batch_norm":
        return 2 * out
    if operator.kind == "interpolate":
        return out * (4 if operator.attribute("mode") == "bilinear" else 1)
    if operator.kind == "adaptive_avg_pool2d":
        return first
    if operator.kind == "grid_sample":
        return 4 * out
    return macs(operator)


def bisenetv2_flops(operator: Operator) -> int:
    """BiSeNetV2's (and STDC's) rule: conv with its bias, BN 2 and ReLU or sigmoid 1 an element, pooling 1 an input."""
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
    """ESeg's rule, the halved float operations of TensorFlow's profiler: multiply-adds and half of some other work.

    That is bias and SiLU 1, the mean and the product of squeeze-and-excitation 1, weighted sums of n maps n - 1 and
    pooling its kernel's area, an output element; an input element for means. Plain sums, products with the weights of
    sums, BatchNorm, ReLU, sigmoid and resizing are free. An atrous convolution pays for its grid padded to a multiple
    of the dilation. Inferred: the paper states no rule.
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
        return prod(operator.attribute("kernel_size")) * out // 2
    return macs(operator)


def _padded_macs(operator: Operator) -> int:
    """Multiply-adds of a convolution run through SpaceToBatch, as TensorFlow runs atrous ones; else its own."""
    weight, dilation = _weight_shape(operator), operator.attribute("dilation")
    batch, channels, *sides = operator.output_shapes[0]
    grid = [
        (ceil((side + (k - 1) * d) / d) - (k - 1)) * d if d > 1 else side
        for side, k, d in zip(sides, weight[2:], dilation, strict=True)
    ]
    return batch * channels * prod(grid) * prod(weight[1:])


FVCORE_COUNTS = frozenset(
    {
        "conv",
        "conv_transpose",
        "linear",
        "matmul",
        "bmm",
        "batch_norm",
        "interpolate",
        "adaptive_avg_pool2d",
        "grid_sample",
    }
)


def field_of_view(graph: Graph) -> int:
    """RegSeg's Eqs 1-2, k <- k + (k' - 1) s and s <- s s', along the longest path to any feature of the encoder.

    In pixels of the image that the model is given: where it resizes it first (input_scale), that is a layer as well.
    What comes out of adaptive pooling is passed by: it sees everything and says nothing of the convolutions. Height and
    width are followed apart, for a 3x1 convolution widens one of them only; the larger field counts.
    """
    return max(_field_of_view(graph, axis) for axis in (0, 1))


def _field_of_view(graph: Graph, axis: int) -> int:
    extent: dict[int, tuple[Fraction, Fraction]] = {-1: (Fraction(1), Fraction(1))}  # operator -> (k, s)
    for index, operator in enumerate(graph.operators):
        sources = [extent[source] for source, _ in operator.inputs if source in extent]
        if sources and not operator.kind.startswith("adaptive_"):
            k, s = max(sources)
            kernel, stride = _kernel(operator, axis)
            extent[index] = (k + (kernel - 1) * s, s * stride)
    ends = [edge[0] for name, edge in graph.outputs.items() if name.startswith("encoder.")]
    return max(ceil(extent[end][0]) for end in ends if end in extent)


def _kernel(operator: Operator, axis: int) -> tuple[int, int | Fraction]:
    """The kernel along an axis, dilation included, and the stride."""
    if operator.kind == "conv":
        kernel, dilation = _weight_shape(operator)[2 + axis], operator.attribute("dilation")[axis]
        return (kernel - 1) * dilation + 1, operator.attribute("stride")[axis]
    if operator.kind in ("max_pool2d", "avg_pool2d"):
        return operator.attribute("kernel_size")[axis], operator.attribute("stride")[axis]
    if operator.kind == "interpolate":
        stride = Fraction(operator.input_shapes[0][-2 + axis], operator.output_shapes[0][-2 + axis])
        return 2 if operator.attribute("mode") == "bilinear" and stride != 1 else 1, stride
    return 1, 1


def stages(graph: Graph) -> tuple[Stage, ...]:
    """Cost by output stride: an operator belongs to the stride of its output, rounded to a power of two."""
    height = graph.image_shape[-2]
    rows: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    seen: set[int] = set()
    for operator in graph.reachable():
        shape = operator.output_shapes[0]
        stride = 2 ** round(height / max(1, shape[-2])).bit_length() // 2 if len(shape) == 4 and shape[-2] > 1 else 0
        weights = {w.index: prod(w.shape) for w in operator.weights if w and w.trainable and w.index not in seen}
        seen |= weights.keys()
        row = rows[stride]
        row[0] += 1
        row[1] += sum(weights.values())
        row[2] += macs(operator)
        row[3] += prod(shape) if macs(operator) else 0
    return tuple(
        Stage(stride=stride, operators=n, params=params, macs=count, activations=activations)
        for stride, (n, params, count, activations) in sorted(rows.items())
    )


def measure_cost(arch: Arch, input_size: Size, num_classes: int = 19) -> Cost:
    """Cost of an arch's inference form for one image [1, 3, *input_size], without running the model.

    macs, fvcore_flops: operations. activations: output elements of convolutions and linear layers.
    """
    graph = record(arch.build_meta(num_classes), input_size)
    return cost_of(graph, CostProtocol(input_size=input_size, num_classes=num_classes))


def cost_of(graph: Graph, protocol: CostProtocol) -> Cost:
    operators = graph.reachable()
    weights = {w.index: prod(w.shape) for operator in operators for w in operator.weights if w and w.trainable}
    uncounted = Counter(o.kind for o in operators if o.kind not in FVCORE_COUNTS)
    return Cost(
        protocol=protocol,
        environment=environment(),
        params=sum(weights.values()),
        macs=sum(map(macs, operators)),
        fvcore_flops=sum(map(fvcore_flops, operators)),
        activations=sum(prod(o.output_shapes[0]) for o in operators if macs(o)),
        field_of_view=field_of_view(graph),
        stages=stages(graph),
        uncounted=dict(sorted(uncounted.items())),
    )
