"""Multiply-adds of whatever a block may compute, against torch's own counter, which has two FLOPs for each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nasseg.families.graph.recorder import record
from nasseg.measure.cost import cost_of
from nasseg.records import CostProtocol

SIZE = (6, 9)


class Block(nn.Module):
    """Functions of (map, weights) one after another; maps are [1, C, *SIZE]."""

    def __init__(self, *functions, **weights):
        super().__init__()
        self.functions, self.weights = functions, nn.ParameterDict(weights)
        self.layers = nn.ModuleList(f for f in functions if isinstance(f, nn.Module))

    def forward(self, x):
        for function in self.functions:
            x = function(x) if isinstance(function, nn.Module) else function(x, self.weights)
        return x


def rows(x):
    """A map as rows of pixels [1, H * W, C]."""
    return x.flatten(2).transpose(1, 2)


def as_map(x):
    return x.transpose(1, 2).unflatten(2, SIZE)


class Heads(nn.Module):
    def __init__(self, channels, need_weights, biased):
        super().__init__()
        self.heads = nn.MultiheadAttention(channels, 2, batch_first=True, bias=biased)
        self.need_weights = need_weights

    def forward(self, x):
        return as_map(self.heads(rows(x), rows(x), rows(x), need_weights=self.need_weights)[0])


class Recurrent(nn.Module):
    def __init__(self, kind, channels):
        super().__init__()
        self.layer = kind(channels, channels, batch_first=True)

    def forward(self, x):
        return as_map(self.layer(rows(x))[0])


class Volume(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layer = nn.Conv3d(1, 1, (depth, 3, 3), padding="same")

    def forward(self, x):
        return self.layer(x[:, None])[:, 0]


def block(draw):
    """Return a function that keeps a map's shape, and its weights by name."""
    channels = 4
    width = draw(st.integers(1, 5))
    weight = nn.Parameter(torch.ones(channels, channels))
    name = f"w{draw(st.integers(0, 2))}"  # may be that of another block: then it is shared
    return draw(
        st.sampled_from(
            [
                (nn.Conv2d(channels, channels, 3, padding="same", groups=2, dilation=width), {}),
                (nn.Sequential(nn.Conv2d(channels, width, 1), nn.ConvTranspose2d(width, channels, 1)), {}),
                (Volume(1 + 2 * (width % 2)), {}),
                (Heads(channels, draw(st.booleans()), draw(st.booleans())), {}),
                (Recurrent(nn.GRU, channels), {}),
                (nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels), nn.GroupNorm(2, channels)), {}),
                (lambda x, w: as_map(rows(x) @ w[name]), {name: weight}),
                (lambda x, w: (w[name] @ x.flatten(2)).unflatten(2, SIZE), {name: weight}),
                (lambda x, w: torch.einsum("kc,bchw->bkhw", w[name], x), {name: weight}),
                (lambda x, w: torch.einsum("bchw,kc,bkhw->bkhw", x, w[name], x), {name: weight}),
                (lambda x, w: as_map(F.linear(rows(x), w[name] @ w[name])), {name: weight}),
                (lambda x, w: as_map(torch.tensordot(rows(x), w[name], dims=([2], [0]))), {name: weight}),
                (lambda x, w: as_map(torch.addmm(w[name][0], rows(x)[0], w[name])[None]), {name: weight}),
                (lambda x, w: torch.baddbmm(x[0], x[0] @ x[0].mT, x[0])[None], {}),
                (lambda x, w: F.scaled_dot_product_attention(x, x[:, :, :width], x[:, :, :width]), {}),
                (lambda x, w: x * torch.sigmoid(x.mean((2, 3), keepdim=True)) + x.roll(1, 1), {}),
                (lambda x, w: torch.stack([x, x.sqrt()]).amax(0), {}),
            ]
        )
    )


def cost(model):
    return cost_of(record(model.to("meta").eval(), SIZE), CostProtocol(input_size=SIZE, num_classes=1))


@st.composite
def networks(draw):
    blocks = [block(draw) for _ in range(draw(st.integers(1, 4)))]
    weights = {name: weight for _, named in blocks for name, weight in named.items()}
    return Block(nn.Conv2d(3, 4, 1), *(function for function, _ in blocks), **weights)


@pytest.fixture(scope="module", autouse=True)
def _no_fast_path():
    """In which torch's counter sees nothing of attention."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@given(model=networks())
@settings(deadline=None, max_examples=8, derandomize=True)
def test_random_blocks_count_what_torch_counts(model):
    check_count(model)


@pytest.mark.slow
@given(model=networks())
@settings(deadline=None, max_examples=100)
def test_many_random_blocks_count_what_torch_counts(model):
    check_count(model)


def check_count(model):
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(torch.rand(1, 3, *SIZE))
    found = cost(model)
    assert 2 * found.macs == counter.get_total_flops()
    assert found.unknown == {}


def test_a_weight_times_a_map_counts_once():
    model = Block(lambda x, w: w["w"] @ x.flatten(2), w=nn.Parameter(torch.ones(5, 3)))
    assert cost(model).macs == 5 * 3 * 6 * 9


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x, w: torch.mv(x[0, 0], w["v"]), 6 * 9),
        (lambda x, w: x @ w["v"], 3 * 6 * 9),
        (lambda x, w: torch.addmv(x[0, 0, :, 0], x[0, 0], w["v"], beta=2), 6 * 9),
        (lambda x, w: torch.dot(x[0, 0, 0], w["v"]), 9),
        (lambda x, w: torch.vdot(x[0, 0, 0], w["v"]), 9),
        (lambda x, w: torch.inner(x, w["v"]), 3 * 6 * 9),
        (lambda x, w: torch.addbmm(x[0, 0, :, :6], x[0], x[0].mT, alpha=2), 3 * 6 * 6 * 9),
        (lambda x, w: torch.linalg.matrix_power(x[0, 0, :, :6], 2), 6**3),
    ],
    ids=["mv", "matmul", "addmv", "dot", "vdot", "inner", "addbmm", "power"],
)
def test_products_that_torchs_counter_leaves_out(function, macs):
    found = cost(Block(function, v=nn.Parameter(torch.ones(9))))
    assert (found.macs, found.unknown) == (macs, {})


@torch.library.custom_op("nasseg_tests::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


mystery.register_fake(torch.empty_like)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x, w: torch.cdist(x, x), {"cdist": 1}),
        (lambda x, w: F.bilinear(x, x, w["b"]) + F.bilinear(x, x, w["b"]), {"bilinear": 2}),
        (lambda x, w: mystery(x), {"nasseg_tests::mystery": 1}),
    ],
    ids=["two maps", "a weight", "not torch's"],
)
def test_what_has_no_rule_is_named(function, named):
    assert cost(Block(function, b=nn.Parameter(torch.ones(4, 9, 9)))).unknown == named


def test_inference_mode_counts_the_same():
    model = Block(nn.Conv2d(3, 4, 1), Heads(4, True, True), lambda x, w: torch.einsum("bchw,bdhw->bcd", x, x))
    expected = cost(model)
    with torch.inference_mode():
        assert cost(model).macs == expected.macs > 0
