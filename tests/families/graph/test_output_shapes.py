"""The rules for shapes say what torch's meta kernels say: call by call, and for whole networks."""

from itertools import cycle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.families import FAMILIES, make_arch, variants
from nasseg.families.graph import recorder
from nasseg.families.graph.on_meta import OnMeta
from nasseg.families.graph.output_shapes import infer
from nasseg.families.graph.recorder import _arguments, _kind, record
from tests.slow import slow


def meta(*shape):
    return torch.empty(shape, device="meta")


X = (2, 12, 33, 47)
CALLS = [
    (F.conv2d, (meta(*X), meta(8, 12, 3, 3)), {}),
    (F.conv2d, (meta(*X), meta(8, 12, 3, 3), meta(8), 2, 1), {}),
    (F.conv2d, (meta(*X), meta(24, 3, 5, 3), None, (2, 1), (4, 1), (2, 1), 4), {}),
    (F.conv2d, (meta(*X), meta(8, 12, 3, 3)), {"stride": (2,), "padding": (1,)}),
    (F.conv2d, (meta(*X), meta(8, 12, 3, 3)), {"padding": "same"}),
    (F.conv_transpose2d, (meta(*X), meta(12, 4, 3, 3)), {"stride": 2, "padding": 1, "output_padding": 1}),
    (F.batch_norm, (meta(*X), meta(12), meta(12)), {}),
    (F.relu, (meta(*X),), {}),
    (F.silu, (meta(*X),), {}),
    (torch.sigmoid, (meta(*X),), {}),
    (F.prelu, (meta(*X), meta(12)), {}),
    (Tensor.add, (meta(*X), meta(*X)), {}),
    (Tensor.add, (meta(*X), meta(2, 12, 1, 1)), {}),
    (Tensor.add, (meta(*X), 1.5), {}),
    (Tensor.mul, (meta(2, 12, 1, 1), meta(*X)), {}),
    (Tensor.mul, (meta(*X), meta()), {}),
    (Tensor.mul, (meta(*X), meta(33, 47)), {}),
    (torch.addcmul, (meta(*X), meta(*X), meta()), {}),
    (torch.cat, ([meta(*X), meta(2, 5, 33, 47)], 1), {}),
    (torch.cat, ([meta(*X), meta(*X)],), {}),
    (torch.cat, ([meta(*X), meta(*X)],), {"dim": -1}),
    (F.interpolate, (meta(*X),), {"size": (7, 100), "mode": "bilinear", "align_corners": False}),
    (F.interpolate, (meta(*X),), {"size": 9}),
    (F.interpolate, (meta(*X),), {"scale_factor": 2.0}),
    (F.interpolate, (meta(*X),), {"scale_factor": 0.3, "mode": "bilinear", "recompute_scale_factor": True}),
    (F.interpolate, (meta(*X),), {"scale_factor": (0.7, 1.1), "mode": "bilinear", "align_corners": True}),
    (F.max_pool2d, (meta(*X), 3, 2, 1), {}),
    (F.max_pool2d, (meta(*X), 3), {"stride": 1, "dilation": 2}),
    (F.max_pool2d, (meta(*X), (3, 5)), {"stride": (2, 3), "padding": (0, 2), "ceil_mode": True}),
    (F.max_pool2d, (meta(*X), (3, 5)), {"stride": (2, 3), "padding": (0, 2)}),
    (F.max_pool2d, (meta(*X), 1, 3), {"ceil_mode": True}),  # the last would start behind the end
    (F.avg_pool2d, (meta(*X), 2), {}),
    (F.avg_pool2d, (meta(*X), 2, 2), {"ceil_mode": True}),
    (F.avg_pool2d, (meta(*X), 3, 2, 1), {"count_include_pad": False}),
    (F.adaptive_avg_pool2d, (meta(*X), 1), {}),
    (F.adaptive_avg_pool2d, (meta(*X), (3, 5)), {}),
    (F.adaptive_avg_pool2d, (meta(*X), (None, 5)), {}),
    (F.adaptive_avg_pool2d, (meta(*X[1:]), 1), {}),
    (F.grid_sample, (meta(*X), meta(2, 5, 7, 2)), {"align_corners": False}),
    (Tensor.sub, (meta(*X), 1.0), {}),
    (Tensor.div, (meta(4, 2), meta(4, 1)), {}),
    (Tensor.__itruediv__, (meta(*X), meta(12, 1, 1)), {}),
]


@pytest.mark.parametrize(("func", "args", "kwargs"), CALLS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_rule_agrees_with_torch_or_does_not_apply(func, args, kwargs):
    kind = _kind(func)
    guess = infer(kind, _arguments(kind, args, kwargs))
    assert guess is None or guess.shape == func(*args, **kwargs).shape


def test_the_usual_calls_have_rules():
    kinds = ((_kind(func), _arguments(_kind(func), args, kwargs)) for func, args, kwargs in CALLS)
    with_rules = {
        "conv",
        "batch_norm",
        "relu",
        "silu",
        "sigmoid",
        "prelu",
        "add",
        "sub",
        "mul",
        "div",
        "addcmul",
        "cat",
        "interpolate",
        "grid_sample",
        "max_pool2d",
        "avg_pool2d",
        "adaptive_avg_pool2d",
    }
    assert {kind for kind, arguments in kinds if infer(kind, arguments) is not None} == with_rules


def test_an_activation_in_place_gives_its_input():
    x = meta(*X)
    assert infer("relu", {"input": x, "inplace": True}) is x


def test_an_operator_in_place_gives_its_first_argument_if_it_fits():
    x = meta(*X)
    assert infer("add", {"arg0": x, "arg1": meta(1, 12, 1, 1)}, in_place=True) is x
    assert infer("add", {"arg0": meta(1, 12, 1, 1), "arg1": x}, in_place=True) is None


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (F.max_pool2d, (meta(*X), 3, 1, 2)),
        (F.avg_pool2d, (meta(*X), 3, 1, 2)),
        (F.max_pool2d, (meta(1, 3, 4, 4), 5)),
        (F.grid_sample, (meta(*X), meta(1, 5, 7, 2), "bilinear", "zeros", False)),
    ],
)
def test_what_torch_refuses_has_no_rule(func, args):
    with pytest.raises(RuntimeError):
        func(*args)
    assert infer(_kind(func), _arguments(_kind(func), args, {})) is None


@pytest.mark.parametrize("channels", [11, 13])
def test_a_convolution_that_does_not_fit_is_left_to_torch(channels):
    conv = nn.Conv2d(channels, 4, 3, device="meta")
    with pytest.raises(RuntimeError):
        record(nn.Sequential(nn.Conv2d(3, 12, 3, device="meta"), conv), (32, 32))


def layers():
    return [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.PReLU(4), nn.Linear(4, 5)]


def test_layers_on_meta_are_the_real_ones_without_numbers_and_draw_nothing():
    before = torch.random.get_rng_state()
    with OnMeta():
        found = layers()
        loose = [torch.zeros(2, 3), torch.ones((2, 3)), torch.randn(2, 3), torch.tensor([[1.0, 2.0, 3.0]] * 2)]
    assert torch.equal(before, torch.random.get_rng_state())
    for layer, real in zip(found, layers(), strict=True):
        assert {name: (t.shape, t.dtype, t.is_meta) for name, t in layer.state_dict().items()} == {
            name: (t.shape, t.dtype, True) for name, t in real.state_dict().items()
        }
    assert all(tensor.is_meta and tensor.shape == (2, 3) for tensor in loose)


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)], ids=str)
def test_layers_with_numbers_are_reset_as_ever(layer):
    for tensor in layer.state_dict().values():
        tensor.fill_(7)
    layer.reset_parameters()
    assert not any((tensor == 7).any() for tensor in layer.state_dict().values())


LAYERS = {
    "conv": lambda: nn.Conv2d(3, 4, (3, 1), bias=True),
    "norm": lambda: nn.BatchNorm2d(4, eps=1e-3),
    "norm of numbers only": lambda: nn.BatchNorm2d(4, affine=False),
    "prelu": lambda: nn.PReLU(4),
    "relu": lambda: nn.ReLU(inplace=True),
}


@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_layers_built_alike_on_meta_are_alike_and_share_nothing_that_may_change(build):
    real = build()
    with OnMeta():
        first, second = build(), build()
        first.register_forward_hook(lambda *_: None)
        first.register_buffer("more", torch.zeros(1), persistent=False)
        first.eval()
        third = build()
    for layer in (second, third):
        assert vars(layer).keys() == vars(real).keys()
        assert repr(layer) == repr(real)
        assert layer.training
        assert not layer._forward_hooks
        tensors = {**layer._parameters, **layer._buffers}
        assert {name: (type(t), t.requires_grad) if t is not None else None for name, t in tensors.items()} == {
            name: (type(t), t.requires_grad) if t is not None else None
            for name, t in {**real._parameters, **real._buffers}.items()
        }
    tensors = [t for layer in (first, second, third) for t in (*layer.parameters(), *layer.buffers())]
    assert len({id(tensor) for tensor in tensors}) == len(tensors)
    assert all(tensor.is_meta for tensor in tensors)


def test_layers_that_differ_in_one_argument_or_their_class_differ_on_meta():
    class Own(nn.Conv2d):
        def __init__(self, tag):
            self.tag = tag
            super().__init__(3, 4, 3)

    class Kind(nn.Conv2d):
        pass

    with OnMeta():
        layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, dilation=2), Kind(3, 4, 3), Own("a"), Own("b")]
    assert [layer.dilation for layer in layers] == [(1, 1), (2, 2), (1, 1), (1, 1), (1, 1)]
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.Conv2d, Kind, Own, Own]
    assert [layer.tag for layer in layers[3:]] == ["a", "b"]


def test_a_model_on_meta_is_in_eval_mode_and_what_it_does_there_is_done(monkeypatch):
    class Switching(nn.Module):
        """Something else in eval mode, as networks with branches that are joined for inference are."""

        def train(self, mode=True):
            self.joined = not mode
            return super().train(mode)

    arch = make_arch("regseg")
    built = arch.build(3)
    built.more = Switching()
    monkeypatch.setattr(type(arch), "build", lambda self, classes: built)
    model = arch.build_meta(3)
    assert not any(module.training for module in model.modules())
    assert model.more.joined


def same_graph(name, size, monkeypatch):
    quick = record(make_arch(name).build_meta(3), size)
    monkeypatch.setattr(recorder, "infer", lambda kind, arguments, in_place: None)
    assert record(make_arch(name).build_meta(3), size) == quick
    monkeypatch.undo()


@pytest.mark.parametrize("name", [slow(name) if name == "eseg" else name for name in FAMILIES])
def test_a_network_has_one_graph_with_rules_and_without(name, monkeypatch):
    same_graph(name, (97, 161), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), zip(variants(), cycle([(97, 161), (1024, 2048)])))
def test_a_published_network_has_one_graph_with_rules_and_without(name, size, monkeypatch):
    """The rows of a family in turns at an odd size and at a large one."""
    same_graph(name, size, monkeypatch)
