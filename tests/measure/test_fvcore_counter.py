"""fvcore on meta tensors against fvcore on real ones, and our rule against both."""

import logging
import warnings
from itertools import cycle
from types import SimpleNamespace

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn import functional as F

from nasseg.families import make_arch, variants
from nasseg.families.graph.recorder import record
from nasseg.measure.cost import fvcore_flops, measure_cost
from nasseg.measure.fvcore_counter import fvcore_count
from tests.slow import slow

SIZE = (64, 96)


def on_real_tensors(model, size=SIZE):
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(model.eval(), torch.zeros(1, 3, *size)).unsupported_ops_warnings(False)
        return int(analysis.total()), {name: int(count) for name, count in analysis.by_operator().items()}


def family_of(model):
    """As much of an arch as the counter asks for."""
    return SimpleNamespace(build_meta=lambda _classes: model.to("meta").eval())


@pytest.mark.parametrize("name", ["stdc1-seg75", *[slow(name) for name in ("bisenetv2", "dabnet", "composed")]])
def test_our_figure_is_fvcores(name):
    arch = make_arch(name)
    assert fvcore_count(arch, (97, 161), 7).total == measure_cost(arch, (97, 161), 7).fvcore_flops


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), zip(variants(), cycle([(1024, 2048), (97, 161)])))
def test_our_figure_of_a_published_network_is_fvcores(name, size):
    """The rows of a family in turns at a large size and at an odd one."""
    arch = make_arch(name)
    assert fvcore_count(arch, size).total == measure_cost(arch, size).fvcore_flops


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regseg", "bisenetv2", "stdc", "eseg", "dabnet"])
def test_meta_tensors_give_the_integers_of_real_ones(name):
    arch = make_arch(name)
    total, by_operator = on_real_tensors(arch.build(5))
    found = fvcore_count(arch, SIZE, 5)
    assert (found.total, found.by_operator) == (total, by_operator)
    assert found.by_operator["conv"] > 0.9 * total


@pytest.mark.slow
def test_what_fvcore_has_no_rule_for_is_listed():
    unsupported = fvcore_count(make_arch("regseg"), SIZE).unsupported
    assert unsupported["aten::sigmoid"] == unsupported["aten::mul"] == 18  # one squeeze-and-excitation a block


def test_nothing_is_computed():
    """At this size one map alone would take hundreds of gigabytes."""
    small, large = (fvcore_count(make_arch("stdc1-seg50"), (side, side)).by_operator["conv"] for side in (2**10, 2**18))
    assert 0.99 < large / small / 2**16 < 1.01


class Layer(nn.Module):
    """function(x, layer) of an image, behind a convolution."""

    def __init__(self, function, layer=None, channels=8):
        super().__init__()
        self.conv, self.function, self.layer = nn.Conv2d(3, channels, 3, padding=1), function, layer

    def forward(self, x):
        return self.function(self.conv(x), self.layer)


def call(x, layer):
    return layer(x)


def sample(x, _):
    grid = torch.stack([x[:, 0], x[:, 1]], dim=-1)
    return F.grid_sample(x, grid, align_corners=False)


def tokens(x):
    """Queries, keys and values; where all are one tensor, torch takes a path of which fvcore sees nothing."""
    return [x[..., ::8, ::step].flatten(2).transpose(1, 2) for step in (8, 16, 16)]


LAYERS = {
    "transposed": Layer(call, nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2)),
    "grouped": Layer(call, nn.Conv2d(8, 4, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=4)),
    "batch norm": Layer(call, nn.BatchNorm2d(8)),
    "batch norm, not affine": Layer(call, nn.BatchNorm2d(8, affine=False)),
    "group norm": Layer(call, nn.GroupNorm(2, 8)),
    "group norm, not affine": Layer(call, nn.GroupNorm(2, 8, affine=False)),
    "layer norm": Layer(call, nn.LayerNorm([96])),
    "instance norm": Layer(call, nn.InstanceNorm2d(8)),
    "instance norm, affine": Layer(call, nn.InstanceNorm2d(8, affine=True)),
    "nearest": Layer(lambda x, _: F.interpolate(x, scale_factor=2.0)),
    "bilinear": Layer(lambda x, _: F.interpolate(x, size=(50, 70), mode="bilinear")),
    "bicubic": Layer(lambda x, _: F.interpolate(x, size=(50, 70), mode="bicubic")),
    "area": Layer(lambda x, _: F.interpolate(x, size=(5, 7), mode="area")),
    "antialias": Layer(lambda x, _: F.interpolate(x, size=(50, 70), mode="bilinear", antialias=True)),
    "adaptive pooling": Layer(call, nn.AdaptiveAvgPool2d((2, 3))),
    "max pooling": Layer(call, nn.MaxPool2d(2)),
    "linear": Layer(call, nn.Linear(96, 10)),
    "matmul": Layer(lambda x, _: x @ x.transpose(-1, -2)),
    "weight @ map": Layer(lambda x, layer: layer.weight @ x, nn.Linear(64, 10)),
    "weight @ rows": Layer(lambda x, layer: layer.weight @ x[0, 0], nn.Linear(64, 10)),
    "addmm": Layer(lambda x, layer: torch.addmm(layer.bias, x[0, 0], layer.weight.T), nn.Linear(96, 10)),
    "baddbmm": Layer(lambda x, _: torch.baddbmm(x[0], x[0, :, :, :64], x[0])),
    "einsum": Layer(lambda x, layer: torch.einsum("kc, bchw -> bkhw", layer.weight, x), nn.Linear(8, 10)),
    "einsum of three": Layer(lambda x, _: torch.einsum("bchw,bcij,bdij->bdhw", x, x[..., :3, :3], x[..., :3, :3])),
    "einsum, first rule": Layer(lambda x, _: torch.einsum("nct,ncp->ntp", x[0], x[0, :, :, :5])),
    "einsum, second rule": Layer(lambda x, _: torch.einsum("ntg,ncg->nct", x[0], x[0, :, :5])),
    "attention": Layer(lambda x, _: F.scaled_dot_product_attention(x, x, x)),
    "heads": Layer(lambda x, layer: layer(*tokens(x))[0], nn.MultiheadAttention(8, 2, batch_first=True)),
    "heads, no weights": Layer(
        lambda x, layer: layer(*tokens(x), need_weights=False)[0], nn.MultiheadAttention(8, 2, batch_first=True)
    ),
    "three dimensions": Layer(lambda x, layer: layer(x[:, None]), nn.Conv3d(1, 2, 3)),
    "one dimension": Layer(lambda x, layer: layer(x[0]), nn.Conv1d(64, 5, 3)),
    "grid sample": Layer(sample),
    "activations": Layer(lambda x, _: F.silu(x.relu()).sigmoid() * 2.0 + x),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_beyond_the_families_count_the_same(name):
    model = LAYERS[name]
    real, by_operator = on_real_tensors(model)
    found = fvcore_count(family_of(model), SIZE)
    assert (found.total, found.by_operator) == (real, by_operator)
    assert sum(map(fvcore_flops, record(model, SIZE).reachable())) == real


def test_fvcore_does_not_see_padding_by_name():
    model = Layer(call, nn.Conv2d(8, 4, 3, padding="same"))
    first = 8 * 27 * SIZE[0] * SIZE[1]
    assert on_real_tensors(model)[0] == first
    found = fvcore_count(family_of(model), SIZE)
    assert (found.total, found.unsupported) == (first, {"aten::_convolution_mode": 1})
    assert sum(map(fvcore_flops, record(model, SIZE).reachable())) == first + 4 * 72 * SIZE[0] * SIZE[1]
