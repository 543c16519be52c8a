"""ESeg against every published number that its architecture alone decides."""

import logging
from functools import cache
from math import ceil
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from nasseg.errors import UserError
from nasseg.families.arch import Feature
from nasseg.families.backbones.efficientnet import EfficientNet
from nasseg.families.eseg import ESegArch, PooledLevels, weighted_sum
from nasseg.families.graph.recorder import Graph, Operator, Weight, record
from nasseg.families.layers import train_mode
from nasseg.measure.cost import eseg_flops, fvcore_flops, macs
from nasseg.space import load_space
from tests import ROOT

ROWS: dict[str, Any] = yaml.safe_load((ROOT / "nasseg/families/variants/eseg.yaml").read_text())

# Trainable parameters in millions, 19 classes: (variant, printed, citation).
PARAMS = [
    ("eseg-t1-p2-p5", 6.4, "Table 1, P2 - P5"),
    ("eseg-t1-p2-p7", 6.6, "Table 1, P2 - P7"),
    ("eseg-s", 6.9, "Table 1, P2 - P9; Table 4, ESeg-S"),
    ("eseg-m", 20.0, "Table 4, ESeg-M"),
    ("eseg-l", 70.5, "Table 4, ESeg-L"),
]
RULE = "1024 x 2048, 19 classes; multiply-adds and half of the elementwise work that eseg_flops lists"
# FLOPs in billions: (variant, printed, half a printed digit, citation).
FLOPS = [
    ("eseg-t1-p2-p5", 34.3, 0.05, "Table 1, P2 - P5; Table 2, P2 - P5, BiFPN"),
    ("eseg-t1-p2-p7", 34.5, 0.05, "Table 1, P2 - P7"),
    (
        "eseg-s",
        34.5,
        0.05,
        "Table 1, P2 - P9; Table 2, P2 - P9, BiFPN; Table 4, ESeg-S; Table 8, B1, BiFPN",
    ),
    ("eseg-t2-p2-p5-fpn", 39.8, 0.05, "Table 2, P2 - P5, FPN"),
    ("eseg-t2-p2-p9-fpn", 40.0, 0.05, "Table 2, P2 - P9, FPN"),
    ("eseg-m", 112, 0.5, "Table 4, ESeg-M"),
    ("eseg-l", 342, 0.5, "Section 3.2, ESeg-L"),
]
# (variant, printed, computed, citation, reason)
NOT_REPRODUCED = [
    ("eseg-l", 343, 342.5, "Table 4, ESeg-L", "Section 3.2 prints 342 for the same network"),
    ("eseg-lite-s", 17, 17.8, "Section 3.2, ESeg-Lite-S", "the only number printed of a Lite network: nothing pins it"),
]
# EfficientNets as released, with the classifier of ImageNet: width, depth, parameters.
EFFICIENTNETS = {
    "B0": (1.0, 1.0, 5_288_548),
    "B1": (1.0, 1.1, 7_794_184),
    "B2": (1.1, 1.2, 9_109_994),
    "B3": (1.2, 1.4, 12_233_232),
    "B4": (1.4, 1.8, 19_341_616),
    "B5": (1.6, 2.2, 30_389_784),
    "B6": (1.8, 2.6, 43_040_704),
    "B7": (2.0, 3.1, 66_347_960),
}


def variant(name: str) -> ESegArch:
    arch = ESegArch.from_params(ROWS[name].get("params") or {})
    assert isinstance(arch, ESegArch)
    return arch


def params(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@cache
def graph(name: str) -> Graph:
    return record(variant(name).build_meta(19), (1024, 2048))


@cache
def flops(name: str) -> float:
    return sum(map(eseg_flops, graph(name).reachable())) / 1e9


@pytest.mark.parametrize(("name", "printed", "citation"), PARAMS, ids=[row[0] for row in PARAMS])
def test_parameters_are_the_printed_ones(name: str, printed: float, citation: str) -> None:
    assert abs(params(variant(name).build_meta(19)) / 1e6 - printed) <= 0.05, citation


@pytest.mark.parametrize(("name", "printed", "half_digit", "citation"), FLOPS, ids=[row[0] for row in FLOPS])
def test_flops_are_the_printed_ones(name: str, printed: float, half_digit: float, citation: str) -> None:
    assert flops(name) == pytest.approx(printed, rel=0.003), f"{citation}, {RULE}"
    assert abs(flops(name) - printed) <= half_digit, f"{citation}, {RULE}"


@pytest.mark.parametrize(("name", "printed", "computed", "citation", "reason"), NOT_REPRODUCED, ids=lambda v: str(v))
def test_flops_that_are_not_reproduced(name: str, printed: float, computed: float, citation: str, reason: str) -> None:
    assert round(flops(name), 1) == computed, f"{citation}: {reason}"
    assert round(flops(name)) != printed, f"{citation}: this row reproduces now; move it to FLOPS"


def test_the_rule_adds_little_to_multiply_adds() -> None:
    for name, least, most in [("eseg-s", 1.013, 1.017), ("eseg-m", 1.009, 1.017), ("eseg-l", 1.005, 1.01)]:
        assert least < flops(name) * 1e9 / sum(map(macs, graph(name).reachable())) < most


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_the_encoder_is_efficientnet(name: str) -> None:
    width, depth, released = EFFICIENTNETS[name]
    with torch.device("meta"):
        encoder = EfficientNet(width, depth)
    c = encoder.features["p5"].channels
    classifier = c * 4 * c + 2 * 4 * c + 4 * c * 1000 + 1000  # 1x1 to 4 c (1280 in B0), BatchNorm, linear
    assert params(encoder) + classifier == released


def test_every_row_differs_and_is_in_the_space() -> None:
    space = load_space("eseg")
    defaults = ESegArch().params()
    for name in ROWS:
        assert space.locate({"family": "eseg", **variant(name).params()}, defaults) is not None, name
    assert len({variant(name) for name in ROWS}) == len(ROWS)
    assert {name for name, *_ in [*PARAMS, *FLOPS]} | {
        "eseg-lite-s",
        "eseg-lite-m",
        "eseg-lite-l",
        "eseg-t6-lite-m-512x1024",
    } == set(ROWS)


def test_the_space_is_large() -> None:
    assert load_space("eseg").count() > 1e5


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (33, 500), (97, 161), (360, 480), (1, 1)])
def test_levels_have_their_sizes(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = ESegArch(width=0.25, depth=0.3).build(4).eval()
        maps = model.forward_features(torch.empty(2, 3, *size))
        assert model(torch.empty(2, 3, *size)).shape == (2, 4, *size)
    assert list(maps) == [f"p{level}" for level in range(1, 10)]
    for name, feature in model.encoder.features.items():
        assert feature.stride == 2 ** int(name[1:])
        assert maps[name].shape == (2, feature.channels, *(ceil(side / feature.stride) for side in size)), name
    assert {maps[f"p{level}"].shape[1] for level in range(5, 10)} == {model.encoder.features["p5"].channels}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lowest_level": 3, "highest_level": 5, "block": "fused", "squeeze_excitation": False, "activation": "relu"},
        {"fusion": "fpn", "block": "fused"},
        {"highest_level": 6, "squeeze_excitation": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(32, 32), (33, 61)])
def test_one_image_trains_every_weight(settings: dict[str, Any], size: tuple[int, int]) -> None:
    """The coarse levels are single pixels, which have no batch statistics."""
    torch.manual_seed(0)
    model = ESegArch(width=0.25, depth=0.3, decoder_width=8, decoder_repeats=2, **settings).build(3)
    with train_mode(model):
        model(torch.randn(1, 3, *size)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_pooling_does_not_see_the_border() -> None:
    class Constant(nn.Module):
        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"p5": torch.ones(1, 2, 5, 7)}

    maps = PooledLevels({"p5": Feature(2, 32)}, "p5", 9)(Constant()(torch.empty(1, 3, 160, 224)))
    assert [tuple(maps[f"p{level}"].shape[2:]) for level in range(6, 10)] == [(3, 4), (2, 2), (1, 1), (1, 1)]
    assert all((x == 1).all() for x in maps.values())


def test_a_weighted_sum_is_one() -> None:
    maps, weights = list(torch.randn(3, 2, 4, 5, 6)), torch.tensor([0.2, 0.5, 0.3])
    torch.testing.assert_close(weighted_sum(maps, weights), sum(x * w for x, w in zip(maps, weights, strict=True)))


def test_all_levels_weigh_the_same_at_first() -> None:
    """Section 3.1: the level weights start at 1, so their softmax is even."""
    decoder = ESegArch(width=0.25, depth=0.3, decoder_width=8, decoder_repeats=1).build(3).decoder
    assert (decoder.level_weights == 1).all()
    assert decoder.level_weights.shape == (8,)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eseg-s", "eseg-lite-s", "eseg-t2-p2-p9-fpn"])
def test_fvcore_itself_counts_the_same(name: str) -> None:
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    arch = ESegArch.from_params({**variant(name).params(), "width": 0.25, "depth": 0.3, "decoder_repeats": 1})
    theirs = FlopCountAnalysis(arch.build(19).eval(), torch.zeros(1, 3, 64, 96)).unsupported_ops_warnings(False).total()
    assert sum(map(fvcore_flops, record(arch.build_meta(19), (64, 96)).reachable())) == theirs


def test_an_atrous_convolution_pays_for_its_padded_grid() -> None:
    def conv(dilation: int) -> Operator:
        return Operator(
            kind="conv",
            inputs=((-1, 0),),
            input_shapes=((1, 8, 64, 128),),
            weights=(Weight(0, (4, 8, 3, 3), True),),
            attributes=(("dilation", (dilation, dilation)),),
            output_shapes=((1, 4, 64, 128),),
            macs=4 * 8 * 9 * 64 * 128,
        )

    assert eseg_flops(conv(1)) == macs(conv(1)) == 4 * 8 * 9 * 64 * 128
    assert eseg_flops(conv(6)) == 4 * 8 * 9 * 66 * 132  # 64 and 128 rounded up to multiples of 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion": "bi-fpn"}, "unknown fusion of eseg 'bi-fpn': did you mean 'bifpn'"),
        ({"block": "mb"}, "unknown block of eseg"),
        ({"activation": "selu"}, "did you mean 'silu'"),
        ({"lowest_level": 1}, "lowest_level must be 2 or 3, got 1"),
        ({"lowest_level": 6}, "lowest_level must be 2 or 3, got 6"),
        ({"highest_level": 4}, "highest_level must be from 5 to 9, got 4"),
        ({"highest_level": 10}, "highest_level must be from 5 to 9, got 10"),
        ({"width": 0.0}, "width must be above 0 and at most 4, got 0.0"),
        ({"width": float("nan")}, "width must be above 0"),
        ({"depth": 5}, "depth must be above 0 and at most 4, got 5.0"),
        ({"decoder_width": 0}, "decoder_width must be at least 1, got 0"),
        ({"decoder_repeats": 0}, "decoder_repeats must be at least 1, got 0"),
        ({"decoder_repeats": 1.5}, "decoder_repeats must be of type int"),
        ({"squeeze_excitation": 1}, "squeeze_excitation must be of type bool"),
        ({"decoder_channels": 96}, "unknown parameter of eseg 'decoder_channels'"),
    ],
)
def test_bad_values_are_user_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ESegArch.from_params(settings)
