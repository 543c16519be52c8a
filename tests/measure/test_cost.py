"""Counting rules on networks small enough to count by hand, and against fvcore itself."""

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn import functional as F

from nasseg.families import build_model, make_arch
from nasseg.families.graph import record
from nasseg.measure.cost import bisenetv2_flops, cost_of, field_of_view, fvcore_flops, macs, measure_cost
from nasseg.records import CostProtocol


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)  # 4 x 8 x 8 outputs of 27
        self.norm = nn.BatchNorm2d(4)
        self.group = nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2, bias=False)  # 8 x 8 x 8 outputs of 18
        self.up = nn.ConvTranspose2d(8, 2, 2, stride=2, bias=False)  # 8 x 8 x 8 inputs of 2 x 4

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        x = self.group(x) * torch.sigmoid(F.adaptive_avg_pool2d(x, 1)[:, :1])
        x = F.interpolate(self.up(x), size=(32, 32), mode="bilinear")
        return F.max_pool2d(x, 2)


def graph():
    return record(Small().to("meta").eval(), (16, 16))


def test_multiply_adds():
    assert sum(map(macs, graph().reachable())) == 4 * 64 * 27 + 8 * 64 * 18 + 8 * 64 * 8


def test_fvcore_rule():
    expected = 4 * 64 * 27 + 8 * 64 * 18 + 8 * 64 * 8 + 2 * 4 * 64 + 4 * 64 + 4 * 2 * 32 * 32
    assert sum(map(fvcore_flops, graph().reachable())) == expected
    real = FlopCountAnalysis(Small().eval(), torch.zeros(1, 3, 16, 16)).unsupported_ops_warnings(False)
    assert expected == int(real.total())


def test_bisenetv2_rule():
    """Bias counts, BN 2, ReLU and sigmoid 1, pooling 1 an input element; sums, products and upsampling nothing."""
    expected = 4 * 64 * (27 + 1) + 8 * 64 * 18 + 8 * 64 * 8 + 2 * 4 * 64 + 4 * 64 + 1 + 4 * 64 + 2 * 32 * 32
    assert sum(map(bisenetv2_flops, graph().reachable())) == expected


def test_uncounted_operators_are_listed():
    cost = cost_of(record(build_model(make_arch("regseg", width=0.25)).to("meta"), (64, 64)), CostProtocol(
        input_size=(64, 64), num_classes=19))  # fmt: skip
    assert {"relu", "add", "cat"} <= set(cost.uncounted)
    assert "conv" not in cost.uncounted


@pytest.mark.parametrize("family", ["bisenetv2", "regseg"])
def test_parts_add_up_to_the_whole(family):
    arch = make_arch(family)
    cost = measure_cost(arch, (128, 256))
    assert sum(stage.macs for stage in cost.stages) == cost.macs
    assert sum(stage.params for stage in cost.stages) == cost.params
    assert cost.params == sum(p.numel() for p in arch.build_meta(19).parameters())


def test_cost_does_not_touch_the_models_numbers():
    before = torch.random.get_rng_state()
    measure_cost(make_arch("regseg"), (64, 64))
    assert torch.equal(before, torch.random.get_rng_state())


def test_field_of_view_by_equations_1_and_2():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.near = nn.Conv2d(3, 4, 3, stride=2, padding=1)  # k = 3, s = 2
            self.far = nn.Conv2d(4, 4, 3, padding=4, dilation=4)  # k = 3 + 8 x 2
            self.pool = nn.MaxPool2d(2)  # k = 19 + 1 x 2, s = 4

        def forward(self, x):
            x = self.near(x)
            return {"out": self.pool(x + self.far(x))}

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()

        def forward(self, x):
            return self.encoder(x)["out"]

    assert field_of_view(record(Whole().to("meta"), (64, 64))) == 21
