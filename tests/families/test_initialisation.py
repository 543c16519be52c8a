"""Fresh weights have the distribution that their paper names; where it names none, PyTorch's own."""

from math import sqrt

import pytest
import torch
from torch import nn

from nasseg.families import FAMILIES, make_arch

# "kaiming normal" (Section 5, "Training"): mean 0, variance 2 / fan_in. STDC and DABNet name none; ESeg loads
# ImageNet checkpoints, RegSeg trains from scratch and names none: torch's uniform on +-1 / sqrt(fan_in) for these.
NORMAL = {"bisenetv2"}
LARGE = 500  # values of a weight whose distribution is looked at
ERRORS = 6  # standard errors


def build(family, seed=0):
    torch.manual_seed(seed)
    return make_arch(family, width=0.5).build(19)


def convolutions(model):
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() >= LARGE
    ]


def fan_in(module):
    return module.weight[0].numel()


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_have_the_stated_mean_and_deviation(family):
    found = convolutions(build(family))
    assert len(found) > 10
    for name, module in found:
        values, n = module.weight.detach().double(), module.weight.numel()
        normal = family in NORMAL and isinstance(module, nn.Conv2d)
        deviation = sqrt((2 if normal else 1 / 3) / fan_in(module))
        kurtosis = 3.0 if normal else 1.8
        assert abs(values.mean()) < ERRORS * deviation / sqrt(n), name
        # The standard error of a sample's variance is variance * sqrt((kurtosis - 1) / n).
        assert abs(values.var() / deviation**2 - 1) < ERRORS * sqrt((kurtosis - 1) / n), name


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_have_the_stated_shape(family):
    """A uniform distribution ends at sqrt(3) deviations; a normal one of that many values does not."""
    for name, module in convolutions(build(family)):
        values = module.weight.detach().double()
        reach = float(values.abs().max()) * sqrt(fan_in(module))
        if family in NORMAL:
            assert reach > 2.5 * sqrt(2), name
        else:
            assert 0.95 < reach <= 1 + 1e-6, name


@pytest.mark.parametrize("family", FAMILIES)
def test_batchnorm_starts_as_the_identity(family):
    norms = [module for module in build(family).modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 10
    for norm in norms:
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert torch.equal(norm.bias, torch.zeros_like(norm.bias))
        assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))


@pytest.mark.parametrize("family", FAMILIES)
def test_biases_are_torchs_own(family):
    for name, module in build(family).named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            assert module.bias.abs().max() <= 1 / sqrt(fan_in(module)) + 1e-6, name


def test_prelus_start_at_a_quarter():
    slopes = [module.weight for module in build("dabnet").modules() if isinstance(module, nn.PReLU)]
    assert slopes
    assert all(torch.equal(slope, torch.full_like(slope, 0.25)) for slope in slopes)


def test_the_weighted_sum_of_eseg_starts_with_equal_weights():
    """Each w_i of the fusion is 1 ("initialized as 1.0")."""
    weights = build("eseg").decoder.level_weights
    assert torch.equal(weights, torch.ones_like(weights))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_decides_the_weights(family):
    one, again, other = (build(family, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
