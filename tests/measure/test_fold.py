"""BatchNorm folded into the convolutions before it: which, and that nothing else changes."""

import pytest
import torch
from torch import nn

from nasseg.families import make_arch
from nasseg.measure.fold import fold_batch_norms

# Address -> what the BatchNorms that stay stand behind; the module of each is named in the papers' own words there.
LEFT = {
    "regseg": {},  # also behind the joined branches of its dilated blocks
    "stdc1-seg": {},
    "bisenetv2": {"adaptive_avg_pool2d": 1},  # the Context Embedding Block
    "dabnet": {"add": 16, "cat": 4, "prelu": 2},  # before the convolutions
}


def trained(model):
    """Statistics and weights as after training."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.1)
    return model.eval()


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("address", ["regseg", "stdc1-seg", "bisenetv2", "dabnet"])
def test_what_stands_behind_convolutions_alone_is_folded(address):
    model = trained(make_arch(address, width=0.5).build(3))
    before = norms(model)
    found, folded, left = fold_batch_norms(model, (64, 64))
    assert {operator: len(names) for operator, names in left.items()} == LEFT[address]
    assert norms(found) == before - folded == sum(map(len, left.values()))
    assert all(isinstance(found.get_submodule(name), nn.BatchNorm2d) for names in left.values() for name in names)
    assert norms(model) == before
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, logits = model(image), found(image)
    assert float((logits - expected).abs().max()) < 1e-4 * float(expected.abs().max())


class Shared(nn.Module):
    """One convolution before two BatchNorms, and one whose map is read twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.other, self.third = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.other(x)
        return self.first(self.conv(x)) + self.second(self.conv(x)) + y + self.third(y)


def test_a_convolution_that_something_else_reads_is_left_alone():
    model = trained(Shared())
    found, folded, left = fold_batch_norms(model, (8, 8))
    assert (folded, left) == (0, {"conv2d": ["first", "second", "third"]})
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(found(image), model(image))
