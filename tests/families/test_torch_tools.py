"""The networks are ordinary modules to torch's own tools, and building them leaves torch as it is."""

import weakref

import pytest
import torch
from torch import nn
from torch.ao.quantization import fuse_modules

from nasseg.families import make_arch, variants
from nasseg.families.eseg import weighted_sum
from nasseg.families.layers import train_mode
from nasseg.measure.fvcore_counter import fvcore_count
from tests.families.cheap import OF_EACH, SHALLOW, SORTS
from tests.slow import slow

IMAGE = torch.randn(1, 3, 33, 47, generator=torch.Generator().manual_seed(0))
ORDINARY = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.PReLU)


each_sort = pytest.mark.parametrize("name", [name if name in OF_EACH else slow(name) for name in SORTS])


@pytest.mark.parametrize("name", [name if name in ("regseg-t4-1", "stdc1-seg") else slow(name) for name in SORTS])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_traced_networks_compute_the_same(name):
    model = make_arch(name, **small(name)).build(3).eval()
    with torch.inference_mode():
        expected = model(IMAGE)
        torch.testing.assert_close(torch.jit.trace(model, IMAGE, check_trace=False)(IMAGE), expected)
        torch.testing.assert_close(torch.fx.symbolic_trace(model)(IMAGE), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SORTS)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_networks_compute_the_same(name):
    model = make_arch(name, **small(name)).build(3).eval()
    with torch.inference_mode():
        expected = model(IMAGE)
        scripted, other = torch.jit.script(model), IMAGE[..., :32, :]
        torch.testing.assert_close(scripted(IMAGE), expected)
        torch.testing.assert_close(scripted(other), model(other))  # sides that ERFNet's decoder ends at


def small(name):
    return {"width": 0.25, **SHALLOW[variants()[name].family]} if "width" in make_arch(name).params() else {}


@pytest.mark.parametrize("name", SORTS)
def test_layers_are_torchs_own_classes(name):
    for module in make_arch(name).build_meta(3).modules():
        if isinstance(module, ORDINARY):
            assert type(module) in ORDINARY


def test_torchs_fuser_folds_batch_norm():
    model = make_arch("regseg", width=0.25).build(3).eval()
    layers = next(
        m for m in model.modules() if isinstance(m, nn.Sequential) and type(m[0]) is nn.Conv2d and len(m) == 3
    )
    fused = fuse_modules(layers, ["0", "1", "2"])
    assert [type(layer) for layer in fused][1:] == [nn.Identity, nn.Identity]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 0.75, 2.0])
def test_a_network_that_resizes_its_image_is_traced_and_counted(scale):
    arch = make_arch("regseg", width=0.25, input_scale=scale, **SHALLOW["regseg"])
    model = arch.build(3).eval()
    with torch.inference_mode():
        expected = model(IMAGE)
        torch.testing.assert_close(torch.jit.trace(model, IMAGE, check_trace=False)(IMAGE), expected)
    assert expected.shape == (1, 3, 33, 47)
    assert fvcore_count(arch, (64, 96), 3).total > 0


def test_one_value_a_channel_is_normalised_by_running_statistics():
    norm = nn.BatchNorm2d(4)
    model, x = nn.Sequential(norm), torch.randn(1, 4, 1, 1)
    with train_mode(model):
        assert torch.equal(model(x), (x - norm.running_mean[:, None, None]) / (1 + norm.eps) ** 0.5)
        assert norm.num_batches_tracked == 0
        model(torch.randn(2, 4, 1, 1))
        assert norm.num_batches_tracked == 1
    assert not norm._forward_pre_hooks


@each_sort
def test_maps_that_the_decoder_does_not_read_are_gone_when_it_runs(name):
    """Other heads may read every feature; inference holds no more than it needs."""
    model = make_arch(name, **small(name)).build_meta(3)
    made, alive = {}, []
    source = model.context or model.encoder
    source.register_forward_hook(
        lambda _module, _inputs, maps: made.update({name: weakref.ref(x) for name, x in maps.items()})
    )
    model.decoder.register_forward_pre_hook(
        lambda _module, _inputs: alive.extend(name for name, x in made.items() if x() is not None)
    )
    with torch.no_grad():
        model(IMAGE.to("meta"))
    assert set(alive) == set(model.decoder.reads)
    context = set(source.features) - set(model.encoder.features)
    assert set(made) >= set(model.decoder.reads) | context | set(model.context.reads if model.context else ())
    assert set(model.forward_features(IMAGE.to("meta"))) == set(source.features)


def test_levels_are_summed_one_after_the_other():
    made = []

    def level():
        assert all(x() is None for x in made)
        x = torch.ones(1, 2, 3, 3)
        made.append(weakref.ref(x))
        return x

    total = weighted_sum((level() for _ in range(4)), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert total.eq(10).all()
    assert len(made) == 4
