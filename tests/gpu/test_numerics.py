"""What precision, memory format, folding and graphs do to the logits on a GPU."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from nasseg.families import FAMILIES, make_arch
from nasseg.measure.latency.backends import example, fold_batch_norm, numerics, prepare, runner

ARCHS = {name: make_arch(name) for name in FAMILIES if name not in ("composed", "backbone")}
# Of the norm of the difference to fp64, relative to the norm of the logits.
CLOSE = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 2e-2, "bf16": 1e-1}


def logits(arch, protocol, image=None):
    """Of the seeded network and image of a protocol, in fp64 on the CPU."""
    with numerics(protocol), torch.inference_mode():
        model, given = prepare(arch, protocol), example(protocol) if image is None else image
        layout = torch.channels_last if protocol.memory_format == "channels_last" else torch.contiguous_format
        given = given.to(next(model.parameters()).dtype).contiguous(memory_format=layout)
        return model(given).double().cpu()


def exact(arch, protocol):
    """The same in fp64, and the image, for the generators of the devices differ."""
    with torch.inference_mode():
        plain = replace(protocol, cudnn_benchmark=False)
        image = example(plain)
        return prepare(arch, plain).double()(image.double()).cpu(), image


def apart(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("family", ARCHS)
@pytest.mark.parametrize("precision", CLOSE)
def test_each_precision_is_as_close_as_it_can_be(protocol, family, precision):
    torch.manual_seed(0)
    expected, image = exact(ARCHS[family], protocol)
    asked = replace(protocol, precision="fp32" if precision == "tf32" else precision, tf32=precision == "tf32")
    assert apart(logits(ARCHS[family], asked, image), expected) < CLOSE[precision]


def test_tf32_is_off_unless_asked_for(protocol):
    """Off, it is many times closer than on: who asks for fp32 gets fp32."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this device has no TF32")
    torch.manual_seed(0)
    expected, image = exact(ARCHS["regseg"], protocol)
    off, on = (apart(logits(ARCHS["regseg"], replace(protocol, tf32=tf32), image), expected) for tf32 in (False, True))
    assert off < on / 5


@pytest.mark.parametrize("family", ARCHS)
def test_the_memory_format_changes_the_order_and_not_the_numbers(protocol, family):
    torch.manual_seed(0)
    image = example(protocol)
    last, plain = (
        logits(ARCHS[family], replace(protocol, memory_format=m), image) for m in ("channels_last", "contiguous")
    )
    assert apart(last, plain) < CLOSE["fp32"]


@pytest.mark.parametrize("family", ARCHS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_gives_what_eager_gives(protocol, family, precision):
    eager = replace(protocol, precision=precision, cudnn_benchmark=False)
    with numerics(eager), torch.inference_mode():
        expected = runner(ARCHS[family], eager)().double()
        found = runner(ARCHS[family], replace(eager, backend="cuda-graph"))().double()
    assert apart(found, expected) < CLOSE[precision] / 10


@pytest.mark.parametrize("family", ARCHS)
def test_folding_changes_the_modules_and_not_the_logits(protocol, family):
    with numerics(protocol), torch.inference_mode():
        model, image = prepare(ARCHS[family], protocol), example(protocol)
        for module in model.modules():  # statistics as after training
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        before = model(image).double()
        assert fold_batch_norm(model) > 0
        assert apart(model(image).double(), before) < 10 * CLOSE["fp32"]


def test_what_is_outside_is_the_upsampling_alone(protocol):
    torch.manual_seed(0)
    image = example(protocol)
    inside, outside = (logits(ARCHS["regseg"], replace(protocol, upsampling=u), image) for u in ("inside", "outside"))
    resized = nn.functional.interpolate(outside, inside.shape[-2:], mode="bilinear", align_corners=False)
    assert apart(resized, inside) < CLOSE["fp32"]
