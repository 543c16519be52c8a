"""The rules for shapes say what torch's meta kernels say: call by call, and for whole networks."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasseg.families import FAMILIES, graph, make_arch, variants
from nasseg.families.graph import _arguments, _kind, record
from nasseg.families.shapes import infer


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
    (F.max_pool2d, (meta(*X), 3, 2, 1), {}),
    (F.avg_pool2d, (meta(*X), 2, 2), {"ceil_mode": True}),
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
        "mul",
        "addcmul",
        "cat",
        "interpolate",
    }
    assert {kind for kind, arguments in kinds if infer(kind, arguments) is not None} == with_rules


def test_an_activation_in_place_gives_its_input():
    x = meta(*X)
    assert infer("relu", {"input": x, "inplace": True}) is x


@pytest.mark.parametrize("channels", [11, 13])
def test_a_convolution_that_does_not_fit_is_left_to_torch(channels):
    conv = nn.Conv2d(channels, 4, 3, device="meta")
    with pytest.raises(RuntimeError):
        record(nn.Sequential(nn.Conv2d(3, 12, 3, device="meta"), conv), (32, 32))


def same_graph(name, size, monkeypatch):
    quick = record(make_arch(name).build_meta(3), size)
    monkeypatch.setattr(graph, "infer", lambda kind, arguments: None)
    assert record(make_arch(name).build_meta(3), size) == quick
    monkeypatch.undo()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_has_one_graph_with_rules_and_without(name, monkeypatch):
    same_graph(name, (97, 161), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", variants())
def test_a_published_network_has_one_graph_with_rules_and_without(name, monkeypatch):
    for size in ((97, 161), (1024, 2048)):
        same_graph(name, size, monkeypatch)
