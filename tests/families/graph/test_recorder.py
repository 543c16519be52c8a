"""The recorded graph: what an identity depends on, and what it does not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasseg.families import make_arch
from nasseg.families.graph.identity import fingerprint
from nasseg.families.graph.recorder import IMAGE, WEIGHTS, record
from nasseg.measure.cost import field_of_view, macs


class Net(nn.Module):
    """Two convolutions whose outputs are joined by `join`."""

    def __init__(self, join, *, shared=False, swapped=False, **options):
        super().__init__()
        first, second = (
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.Conv2d(3, 4, 3, **{"padding": 1, **options}, bias=False),
        )
        self.one, self.two = (second, first) if swapped else (first, second)
        self.three = self.one if shared else None
        self.join = join

    def forward(self, x):
        y = self.three(x) if self.three is not None else self.two(x)
        return self.join(self.one(x), y)


class Function(nn.Module):
    """function(self, x), with parts that it may use."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def conv(**options):
    return nn.Conv2d(3, 4, 3, **{"padding": 1, "bias": False, **options})


def graph_of(model):
    return record(model.to("meta").eval(), (32, 32))


def identity_of(model):
    return fingerprint(graph_of(model))


def of(function, **parts):
    return identity_of(Function(function, **parts))


def add(a, b):
    return a + b


def test_names_and_the_order_of_sums_leave_no_trace():
    base = identity_of(Net(add, dilation=2, padding=2))
    assert base == identity_of(Net(add, dilation=2, padding=2))
    assert base == identity_of(Net(add, dilation=2, padding=2, swapped=True))
    assert base == identity_of(Net(lambda a, b: b.add(a), dilation=2, padding=2))
    assert base == identity_of(Net(lambda a, b: torch.add(a, b), dilation=2, padding=2))


def test_the_order_of_a_concatenation_matters():
    ahead, behind = (Net(lambda a, b: torch.cat([a, b], 1), dilation=2, padding=2, swapped=s) for s in (False, True))
    assert identity_of(ahead) != identity_of(behind)


@pytest.mark.parametrize(
    "changed",
    [
        Net(add, dilation=2, padding=2),
        Net(add, shared=True),
        Net(lambda a, b: a * b),
        Net(lambda a, b: a - b),
        Net(lambda a, b: a + b.relu()),
        Net(lambda a, b: torch.cat([a, b], 1)),
        Net(lambda a, b: a + a),
    ],
)
def test_what_computes_something_else_is_something_else(changed):
    assert identity_of(Net(add)) != identity_of(changed)


def test_a_shared_weight_differs_from_two_of_one_shape():
    assert identity_of(Net(add, shared=True)) != identity_of(Net(add))


def test_in_place_operators_and_modules_are_the_functions():
    class Block(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 4, 1), nn.ReLU(inplace=inplace)

        def forward(self, x):
            y = self.act(self.conv(x))
            y += 1.0
            return y

    assert identity_of(Block(True)) == identity_of(Block(False))


def test_what_the_logits_do_not_need_is_not_counted():
    class Dead(Net):
        def forward(self, x):
            self.two(x).relu()
            return self.one(x)

    class Alive(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)

        def forward(self, x):
            return self.conv(x)

    assert identity_of(Dead(add)) == identity_of(Alive())


@pytest.mark.parametrize("field", ["stride", "padding", "dilation", "groups"])
def test_attributes_of_a_convolution_count(field):
    def net(value):
        return nn.Sequential(nn.Conv2d(4, 4, 3, **{"padding": 2, field: value}), nn.AdaptiveAvgPool2d(1))

    def whole(value):
        return nn.Sequential(nn.Conv2d(3, 4, 1), net(value))

    assert identity_of(whole(1)) != identity_of(whole(2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda m, x: F.avg_pool2d(x, 2), lambda m, x: nn.AvgPool2d(2, 2)(x)),
        (lambda m, x: F.max_pool2d(x, 2), lambda m, x: F.max_pool2d(x, (2, 2), stride=2)),
        (lambda m, x: x.relu(), lambda m, x: F.relu(x, inplace=True)),
        (lambda m, x: torch.sigmoid(x), lambda m, x: nn.Sigmoid()(x)),
        (lambda m, x: F.dropout(x, 0.1, m.training).relu(), lambda m, x: x.contiguous().relu()),
        (lambda m, x: F.interpolate(x, scale_factor=2.0), lambda m, x: nn.Upsample(size=(64, 64))(x)),
        (lambda m, x: 2.0 * x, lambda m, x: x.mul_(2.0)),
    ],
    ids=["avg_pool", "max_pool", "relu", "sigmoid", "identities", "interpolate", "product"],
)
def test_two_ways_to_write_one_operator(one, other):
    assert of(one) == of(other)


def pair(join):
    """`join` of two branches that look alike, both 3x3 convolutions of the image."""
    return of(lambda m, x: join(m.a(x), m.b(x)), a=conv(), b=conv())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda a, b: torch.cat([a + b, a], 1), lambda a, b: torch.cat([b + a, a], 1)),
        (lambda a, b: torch.cat([a, a * b], 1), lambda a, b: torch.cat([a, b * a], 1)),
        (lambda a, b: (a + b) * a.relu(), lambda a, b: a.relu() * (b + a)),
    ],
)
def test_the_order_of_a_sum_leaves_no_trace_where_only_later_use_tells_its_inputs_apart(one, other):
    assert pair(one) == pair(other)


def test_later_use_still_matters():
    assert pair(lambda a, b: torch.cat([a + b, a, a], 1)) != pair(lambda a, b: torch.cat([a + b, a, b], 1))


def test_the_order_of_a_sum_leaves_no_trace_where_only_sharing_tells_its_inputs_apart():
    def net(swapped):
        def function(m, x):
            a, b = m.a(x), m.b(x)
            return torch.cat([b + a if swapped else a + b, m.a(x.relu())], 1)

        return of(function, a=conv(), b=conv())

    assert net(False) == net(True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda m, x: torch.add(x, x.relu(), alpha=2), lambda m, x: torch.add(x.relu(), x, alpha=2)),
        (lambda m, x: x - m.p, lambda m, x: m.p - x),
        (lambda m, x: torch.cat([x, m.p], 1), lambda m, x: torch.cat([m.p, x], 1)),
        (lambda m, x: x.split([1, 2], 1)[0], lambda m, x: x.split([1, 2], 1)[1][:, :1]),
        (lambda m, x: x.max(1).values, lambda m, x: x.max(1).indices),
        (lambda m, x: x.mT, lambda m, x: x.mH),
        (lambda m, x: x[:, :1], lambda m, x: x[:, 1:2]),
        (lambda m, x: F.interpolate(x, (8, 8)), lambda m, x: F.interpolate(x, (8, 8), mode="bilinear")),
    ],
    ids=["alpha", "minus", "cat", "split", "max", "property", "slice", "mode"],
)
def test_what_looks_alike_and_is_not(one, other):
    parts = {"p": nn.Parameter(torch.zeros(1, 3, 32, 32))}
    assert of(one, **parts) != of(other, **parts)


def test_writing_to_a_part_of_a_tensor_is_seen():
    def slice_assigned(m, x):
        y = m.a(x)
        y[:, :2] = y[:, 2:].relu()
        return y

    def view_changed(m, x):
        y = m.a(x)
        y[:, :2].relu_()
        return y

    plain = of(lambda m, x: m.a(x), a=conv())
    assert len({plain, of(slice_assigned, a=conv()), of(view_changed, a=conv())}) == 3


@pytest.mark.parametrize(
    ("function", "last"),
    [
        (lambda m, y: y.relu(), (1, 0)),  # its own
        (lambda m, y: F.relu(y, inplace=True), (0, 0)),
        (lambda m, y: y.mul_(2.0), (0, 0)),
        (lambda m, y: y.sub_(m.p), (0, 0)),
        (lambda m, y: y.chunk(2, 1)[1], (0, 0)),
        (lambda m, y: y[:, :2].flatten(2), (0, 0)),  # a view of a view
        (lambda m, y: y.detach().permute(0, 2, 3, 1), (0, 0)),
        (lambda m, y: y.permute(0, 2, 3, 1).reshape(-1), (2, 0)),  # cannot be a view
        (lambda m, y: y.max(1).indices, (1, 1)),
        (lambda m, y: y.relu()[:, :1], (1, 0)),
        (lambda m, y: y.relu().add_(y)[:, :1].relu_(), (1, 0)),
        (lambda m, y: m.p.expand_as(y), WEIGHTS),
        (lambda m, y: m.p.detach()[0], WEIGHTS),
    ],
)
def test_memory_is_that_of_the_edge_that_it_was_allocated_for(function, last):
    model = Function(lambda m, x: function(m, m.a(x)), a=conv(), p=nn.Parameter(torch.zeros(1, 4, 1, 1)))
    graph = graph_of(model)
    index, number = graph.outputs["logits"]
    assert graph.operators[index].memory[number] == last


def test_the_image_may_be_written_to():
    assert graph_of(Function(lambda m, x: x.mul_(2.0))).operators[-1].memory == (IMAGE,)


def test_what_is_done_in_place_counts_also_where_the_first_name_goes_on():
    def goes_on(m, x):
        y = m.a(x)
        y.mul_(2.0)
        return y

    assert of(goes_on, a=conv()) == of(lambda m, x: m.a(x) * 2.0, a=conv())


def test_a_weight_may_be_computed():
    """As standardised weights are: the convolution costs what it always does, and the parameter is found."""
    graph = graph_of(
        Function(
            lambda m, x: F.conv2d(x, m.w * 2.0, m.b),
            w=nn.Parameter(torch.zeros(4, 3, 1, 1)),
            b=nn.Parameter(torch.zeros(4)),
        )
    )
    assert sum(map(macs, graph.reachable())) == 4 * 3 * 32 * 32
    assert len({weight.index for operator in graph.reachable() for weight in operator.weights}) == 2


def test_buffers_are_no_trainable_weights():
    graph = graph_of(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)))
    assert [[weight.trainable for weight in operator.weights] for operator in graph.operators] == [
        [True],
        [False, False, True, True],
    ]


class Encoder(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.conv, self.run = conv(stride=2), forward

    def forward(self, x):
        return {"out": self.run(self.conv(x))}


class Whole(nn.Module):
    """encoder -> decode, on an image resized by `scale`."""

    def __init__(self, encode=lambda x: x, decode=lambda x: x, scale=1.0):
        super().__init__()
        self.encoder, self.decode, self.scale = Encoder(encode), decode, scale

    def forward(self, x):
        x = x if self.scale == 1 else F.interpolate(x, scale_factor=self.scale, mode="bilinear")
        return self.decode(self.encoder(x)["out"])


def test_the_field_of_view_ends_where_a_map_is_upsampled():
    decode = lambda x: F.max_pool2d(F.interpolate(x, scale_factor=2.0), 5, 1, 2)  # noqa: E731
    assert field_of_view(graph_of(Whole(decode=decode))) == 3
    assert field_of_view(graph_of(Whole(decode=lambda x: F.max_pool2d(x, 5, 1, 2)))) == 3 + 4 * 2


def test_a_global_branch_is_passed_by_in_the_field_of_view():
    def gate(x):
        pooled = F.interpolate(F.adaptive_avg_pool2d(x, 2), size=x.shape[-2:], mode="bilinear")
        return F.max_pool2d(x * pooled * F.adaptive_avg_pool2d(x, 1).sigmoid(), 3, 1, 1)

    assert field_of_view(graph_of(Whole(gate))) == 3 + 2 * 2


def extent(model, image):
    """Width of what the middle of the encoder's last feature sees, by the gradient of a network of positive weights."""
    model.double()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.ReLU):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1.0 / child.weight[0].numel())
    image = torch.ones(1, 3, *image, dtype=torch.float64, requires_grad=True)
    seen = []
    handle = model.encoder.register_forward_hook(lambda _m, _i, maps: seen.append(list(maps.values())[-1]))
    with torch.enable_grad():
        model(image)
    handle.remove()
    last = seen[0]
    last[0, 0, last.shape[-2] // 2, last.shape[-1] // 2].backward()
    touched = image.grad[0].sum(dim=(0, 1)).nonzero()
    assert touched.min() > 0
    assert touched.max() < image.shape[-1] - 1
    return int(touched.max() - touched.min()) + 1


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_the_field_of_view_is_in_pixels_of_the_camera(scale):
    """Where the model resizes inside, a pixel of the encoder's image is 1 / scale pixels of the camera's."""
    model = Whole(scale=scale)
    expected = {0.5: 6, 0.25: 2 + 2 * 4}[scale]  # 2 pixels are blended into one, which are 1 / scale apart
    assert extent(Whole(scale=scale), (64, 64)) == expected
    assert field_of_view(graph_of(model)) == expected


@pytest.mark.parametrize(
    "params",
    [
        {"dilations": "(1,1)+2*(1,3)+(1,5)"},
        {"dilations": "(2,2)+(1,2,4,1)"},
        {"dilations": "(1,4)", "stage2_depth": 2, "stage3_depth": 1, "shortcut": "stride"},
        {"dilations": "(1,2)", "input_scale": 0.5},
    ],
    ids=lambda params: " ".join(map(str, params.values())),
)
def test_the_field_of_view_is_the_extent_of_the_input_gradient(params):
    """Positive weights, BN and activations as identity, no global pooling, in float64; input wider than the field."""
    arch = make_arch("regseg", width=0.25, se_ratio=0.0, **params)
    expected = field_of_view(record(arch.build_meta(19), (1024, 2048)))
    assert extent(arch.build(19), (64, 2 * expected + 64)) == expected
