"""Fresh weights have the distribution that their paper names; where it names none, PyTorch's default.

BiSeNetV2, Section 5: 'trained from scratch with the "kaiming normal" initialization manner (He et al., 2015)'.
RegSeg, Section 4.2: "randomly initialized weights using PyTorch's default initialization".
STDC and DABNet name none. ESeg names that of the weights of its last sum only (Section 3.1: "initialized as 1.0").
"""

from dataclasses import dataclass
from functools import cache
from math import sqrt
from statistics import NormalDist

import pytest
import torch
from torch import nn

from nasseg.families import PAPERS, make_arch

# Beside the published network, forms that have the layers which it has not.
FORMS = {
    "bisenetv2": ({}, {"aggregation": "concat", "gather": "1x1", "depthwise": "single5x5"}, {"branches": "detail"}),
    "stdc": ({}, {"spatial_path": True, "module": "printed"}, {"form": "classifier"}),
    "eseg": ({}, {"fusion": "fpn", "block": "fused", "squeeze_excitation": False}),
    "regseg": ({}, {"decoder": "lraspp"}, {"decoder": "sfnet"}, {"decoder": "bisenet"}),
    "dabnet": ({}, {"context": "spp"}, {"decoder": "erfnet"}),
}
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
ERRORS = 6  # standard errors that a moment may be off
CHANCE = 2e-9  # of a normal variable beyond that; the largest value gets the same on either side
LARGE = 500  # values from which on a moment is nearly normal; smaller weights are pooled


@dataclass(frozen=True)
class Law:
    """A symmetric distribution of deviation 1."""

    kurtosis: float
    sixth: float
    eighth: float
    uniform: bool

    def errors(self):
        """sqrt(n) times the standard errors of the sample's mean, variance and kurtosis."""
        kurtosis = self.eighth - 4 * self.kurtosis * self.sixth + 4 * self.kurtosis**3 - self.kurtosis**2
        return 1.0, sqrt(self.kurtosis - 1), sqrt(kurtosis)

    def bound(self, chance):
        """What the absolute value stays below with that chance."""
        return sqrt(3) * chance if self.uniform else NormalDist().inv_cdf((1 + chance) / 2)


NORMAL = Law(kurtosis=3, sixth=15, eighth=105, uniform=False)
UNIFORM = Law(kurtosis=9 / 5, sixth=27 / 7, eighth=9, uniform=True)


def kaiming_normal(module):
    """He et al., 2015: variance 2 / fan_in, for ReLU."""
    return NORMAL, sqrt(2 / fan_in(module))


def pytorchs_default(module):
    """Uniform on +-1 / sqrt(fan_in), of weights and biases alike."""
    return UNIFORM, sqrt(1 / (3 * fan_in(module)))


STATED = dict.fromkeys(PAPERS, pytorchs_default) | {"bisenetv2": kaiming_normal}


def build(family, *, seed=0, **fields):
    torch.manual_seed(seed)
    return make_arch(family, width=0.5, **fields).build(19)


@cache
def built(family, form=0):
    """Of seed 0, to be looked at only."""
    return build(family, **FORMS[family][form])


def forms(*families):
    cases = [(family, form) for family in families for form in range(len(FORMS[family]))]
    return pytest.mark.parametrize(("family", "form"), cases)


def layers(model):
    return [(name, module) for name, module in model.named_modules() if isinstance(module, LAYERS)]


def fan_in(module):
    return module.weight[0].numel()  # of a group's inputs; of a transposed convolution, what PyTorch takes for it


def assert_follows(law, values, name):
    """Values, over their stated deviation, can be a sample of the law: by their ends, and if many, by their moments.

    The ends need no n: the largest of n values is below x with chance(below x)^n.
    """
    n, reach = values.numel(), float(values.abs().max())
    assert law.bound(CHANCE ** (1 / n)) < reach <= law.bound((1 - CHANCE) ** (1 / n)) * (1 + 1e-6), name
    if n < LARGE:
        return
    centred = values - values.mean()
    found = values.mean(), values.square().mean(), centred.pow(4).mean() / centred.square().mean() ** 2
    for moment, expected, error in zip(found, (0, 1, law.kurtosis), law.errors(), strict=True):
        assert abs(moment - expected) < ERRORS * error / sqrt(n), name


def assert_distribution(named, rule):
    """Each tensor by itself, and all small ones together, of which one alone shows too little."""
    small = []
    for name, module, tensor in named:
        law, deviation = rule(module)
        values = tensor.detach().double().flatten() / deviation
        assert_follows(law, values, name)
        if values.numel() < LARGE:
            small.append(values)
    if small:
        assert_follows(law, torch.cat(small), "all small ones")


def assert_weights(family, form, rule):
    found = layers(built(family, form))
    assert sum(module.weight.numel() >= LARGE for _, module in found) > 10
    assert_distribution([(name, module, module.weight) for name, module in found], rule)


@forms("bisenetv2")
def test_weights_are_kaiming_normal_as_the_paper_says(family, form):
    assert_weights(family, form, kaiming_normal)


@forms("regseg")
def test_weights_are_pytorchs_default_as_the_paper_says(family, form):
    assert_weights(family, form, pytorchs_default)


@forms(*(family for family in PAPERS if family not in ("bisenetv2", "regseg")))
def test_weights_are_pytorchs_default_where_the_paper_says_nothing(family, form):
    assert_weights(family, form, pytorchs_default)


@pytest.mark.parametrize("family", PAPERS)
def test_the_classifier_starts_like_every_other_layer(family):
    """No paper excepts it: neither the small deviation nor the prior in the bias that detectors have."""
    name, last = layers(built(family).head)[-1]
    assert last.weight.shape[0] == 19
    assert last.weight.numel() >= LARGE
    assert_distribution([(name, last, last.weight)], STATED[family])
    if last.bias is not None:
        assert_distribution([(name, last, last.bias)], pytorchs_default)


@forms(*PAPERS)
def test_biases_are_pytorchs_default_where_the_paper_says_nothing(family, form):
    """RegSeg's says it; "kaiming normal" is of weights."""
    found = [(name, module, module.bias) for name, module in layers(built(family, form)) if module.bias is not None]
    assert bool(found) == (family in ("bisenetv2", "eseg", "regseg") or FORMS[family][form] == {"decoder": "erfnet"})
    assert_distribution(found, pytorchs_default)


@forms(*PAPERS)
def test_batchnorm_starts_as_the_identity_which_is_pytorchs_default(family, form):
    norms = [module for module in built(family, form).modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 10
    for norm in norms:
        for value, tensor in ((1, norm.weight), (0, norm.bias), (0, norm.running_mean), (1, norm.running_var)):
            assert torch.equal(tensor, torch.full_like(tensor, value))


def test_prelus_start_at_a_quarter_which_is_pytorchs_default():
    slopes = [module.weight for module in built("dabnet").modules() if isinstance(module, nn.PReLU)]
    assert slopes
    assert all(torch.equal(slope, torch.full_like(slope, 0.25)) for slope in slopes)


def test_the_weights_of_esegs_sums_start_at_one():
    """The paper says so of the last sum; of BiFPN's nodes it says nothing, EfficientDet's start at 1 as well."""
    sums = {name: p for name, p in built("eseg").named_parameters() if name.endswith(("two_weights", "three_weights"))}
    sums["last"] = built("eseg").decoder.level_weights
    assert len(sums) == 2 * 4 + 1
    assert all(torch.equal(weights, torch.ones_like(weights)) for weights in sums.values())


@forms(*PAPERS)
def test_the_tests_above_leave_no_parameter_out(family, form):
    model = built(family, form)
    known = (*LAYERS, nn.BatchNorm2d, nn.PReLU)
    covered = {id(p) for module in model.modules() if isinstance(module, known) for p in module.parameters()}
    left = [name.rpartition(".")[2] for name, p in model.named_parameters() if id(p) not in covered]
    assert set(left) <= ({"level_weights", "two_weights", "three_weights"} if family == "eseg" else set())


@pytest.mark.parametrize("family", PAPERS)
def test_no_layer_starts_as_a_copy_of_another(family):
    starts = [tuple(module.weight.flatten()[:16].tolist()) for _, module in layers(built(family))]
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("family", PAPERS)
def test_the_seed_and_nothing_else_decides_the_weights(family):
    one, again = build(family), build(family)
    unseeded, other = make_arch(family, width=0.5).build(19), build(family, seed=1)
    states = zip(one.state_dict().items(), again.state_dict().items(), strict=True)
    assert all(name == same and torch.equal(a, b) for (name, a), (same, b) in states)
    for model in (unseeded, other):  # a build that seeds for itself would repeat itself
        pairs = zip(layers(one), layers(model), strict=True)
        assert not any(torch.equal(a.weight, b.weight) for (_, a), (_, b) in pairs)
