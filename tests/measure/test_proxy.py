"""Zero-cost proxies, against small networks for which the figure is known."""

import math

import pytest
import torch
from torch import nn

from nasseg.families import make_arch
from nasseg.measure import proxy


def test_synflow_of_a_chain_is_the_sum_over_layers_of_the_same_flow():
    """Each layer of a linear chain carries the whole flow: layers x sum of the product of absolute weights."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0, 3.0], [0.0, 1.0, -1.0]]).reshape(2, 3, 1, 1))
        model[1].weight.copy_(torch.tensor([[-1.0, 4.0]]).reshape(1, 2, 1, 1))
    height, width = proxy.SIZE
    assert proxy.synflow(model, None) == pytest.approx(math.log(2 * (6 * 1 + 2 * 4) * height * width))
    assert model[0].weight.min() == -2


def test_naswot_counts_rectifiers_that_agree(monkeypatch):
    monkeypatch.setattr(proxy, "IMAGES", 2)
    images = torch.zeros(2, 3, 2, 2)
    images[0], images[1, :, 0] = 1.0, 1.0
    images[1, :, 1] = -1.0
    monkeypatch.setattr(proxy, "_noise", lambda n: images)
    # 12 rectifiers; the two images agree on the 6 of the first row: K = [[12, 6], [6, 12]]
    assert proxy.naswot(nn.ReLU(), None) == pytest.approx(math.log(12 * 12 - 6 * 6))


def test_naswot_hears_of_every_rectifier_of_the_families():
    for module in (nn.ReLU(inplace=True), nn.PReLU(3), nn.SiLU(), nn.Hardswish(), nn.ReLU6()):
        assert math.isfinite(proxy.naswot(nn.Sequential(nn.Conv2d(3, 3, 1), module), None)), module


def test_naswot_does_not_take_rectified_weights_for_maps():
    """BiFPN's fusion weights have no images."""
    assert math.isfinite(proxy.naswot(make_arch("eseg", width=0.25, decoder_width=16).build(2), None))


def test_the_norm_of_gradients_of_a_classifier_of_two(monkeypatch):
    """One bias per class and no image: the gradient is softmax minus the share of each label."""

    class Bias(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2))

        def forward(self, images):
            return self.bias[None, :, None, None].expand(len(images), 2, *images.shape[2:])

    labels = torch.randint(2, (8, *proxy.SIZE), generator=torch.Generator().manual_seed(1))
    off = abs(0.5 - labels.float().mean().item())
    assert proxy.gradient_norm(Bias(), None) == pytest.approx(math.log(off * math.sqrt(2)), rel=1e-4)


@pytest.mark.parametrize("name", ["naswot", "synflow", "gradient_norm"])
def test_the_model_stays_as_it_was_and_the_figure_is_repeatable(name):
    torch.manual_seed(0)
    model = make_arch("dabnet", width=0.25).build(5).eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    first = getattr(proxy, name)(model, None)
    assert math.isfinite(first)
    assert getattr(proxy, name)(model, None) == first
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
