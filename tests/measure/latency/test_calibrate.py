"""BatchNorms of networks with random weights, so that fp16 can hold what they compute."""

import torch
from torch import nn

from nasseg.families import make_arch
from nasseg.measure.latency.backends import prepare
from nasseg.measure.latency.calibrate import calibrate_batch_norms
from nasseg.records import LatencyProtocol

FP16 = LatencyProtocol(device="cpu", input_size=(32, 64), num_classes=3, precision="fp16")


class Deep(nn.Module):
    """Each block adds to its input ten times its convolution: as built, a thousandfold every three blocks."""

    def __init__(self):
        super().__init__()
        convs = [nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(12)]
        self.blocks = nn.ModuleList(nn.Sequential(conv, nn.BatchNorm2d(3)) for conv in convs)
        for conv in convs:
            nn.init.constant_(conv.weight, 1.0)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


class DeepArch:
    def build(self, _num_classes):
        return Deep()


def test_deep_networks_stay_within_fp16():
    image = torch.randn(1, 3, 32, 64)
    with torch.inference_mode():
        assert not Deep().eval().half()(image.half()).isfinite().all()
        assert prepare(DeepArch(), FP16)(image.half()).isfinite().all()


def test_it_is_one_pass_that_leaves_the_modules_as_they_were():
    model, passes = Deep().eval(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    calibrate_batch_norms(model, (32, 64), "cpu")
    assert len(passes) == 1
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.training, norm.momentum, int(norm.num_batches_tracked)) for norm in norms} == {(False, 0.1, 1)}


def test_trained_statistics_and_maps_of_one_value_stay():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)).eval()
    model[0].running_mean.fill_(7.0)
    model[0].num_batches_tracked.fill_(100)
    calibrate_batch_norms(model, (32, 64), "cpu")
    assert model[0].running_mean.tolist() == [7.0] * 3
    assert model[2].running_var.tolist() == [1.0] * 3


def test_other_precisions_are_timed_as_they_are_built():
    arch = make_arch("dabnet", width=0.25)
    model = prepare(arch, LatencyProtocol(device="cpu", input_size=(32, 64), num_classes=3))
    assert all(not norm.num_batches_tracked for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))
