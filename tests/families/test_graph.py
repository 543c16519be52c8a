"""The recorded graph: what an identity depends on, and what it does not."""

import pytest
import torch
from torch import nn

from nasseg.families import make_arch
from nasseg.families.graph import fingerprint, record
from nasseg.measure.cost import field_of_view


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


def identity_of(model):
    return fingerprint(record(model.to("meta").eval(), (32, 32)))


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


@pytest.mark.parametrize("field", ["stride", "padding", "dilation"])
def test_attributes_of_a_convolution_count(field):
    def net(value):
        return nn.Sequential(nn.Conv2d(3, 4, 3, **{"padding": 2, field: value}), nn.AdaptiveAvgPool2d(1))

    assert identity_of(net(1)) != identity_of(net(2))


@pytest.mark.slow
def test_the_field_of_view_is_the_extent_of_the_input_gradient():
    """Positive weights, BN and activations as identity, no global pooling, in float64; input wider than the field."""
    arch = make_arch("regseg", dilations="(1,1)+2*(1,3)+(1,5)", width=0.25, se_ratio=0.0)
    expected = field_of_view(record(arch.build_meta(19), (1024, 2048)))
    encoder = arch.build(19).encoder.double()
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.ReLU):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1.0 / child.weight[0].numel())
    size = 2 * expected + 64
    image = torch.ones(1, 3, 16, size, dtype=torch.float64, requires_grad=True)
    out = encoder(image)["stage4"]
    out[0, 0, 0, out.shape[-1] // 2].backward()
    touched = image.grad[0].sum(dim=(0, 1)).nonzero()
    assert int(touched.max() - touched.min()) + 1 == expected
