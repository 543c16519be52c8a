"""BiSeNetV2 against every published number that depends on its architecture alone."""

import logging
from functools import cache
from math import ceil

import pytest
import torch
from torch import nn

from nasseg.errors import UserError
from nasseg.families import Variant, build_model, make_arch, variants
from nasseg.families.arch import Feature
from nasseg.families.bisenetv2 import BilateralGuidedAggregation
from nasseg.families.graph.recorder import record
from nasseg.families.layers import train_mode
from nasseg.measure.cost import bisenetv2_flops, fvcore_flops

RULE = "512 x 1024, 19 classes; conv multiply-adds with bias, BN 2 and ReLU or sigmoid 1 an element, pooling 1 an input"
# (table, row, variant, printed GFLOPs)
PRINTED = [
    ("Table 2", "Detail", "bisenetv2-t2-detail", 15.26),
    ("Table 2", "Semantic", "bisenetv2-t2-semantic", 7.63),
    ("Table 2", "Sum", "bisenetv2-t2-sum", 20.77),
    ("Table 2", "Concate", "bisenetv2-t2-concat", 21.98),
    ("Table 2", "BGA", "bisenetv2", 21.15),
    ("Table 3a", "Detail-only", "bisenetv2-t2-detail", 15.26),
    ("Table 3a", "lambda = 1/2", "bisenetv2-t3a-lambda-1-2", 25.84),
    ("Table 3a", "lambda = 1/4", "bisenetv2", 21.15),
    ("Table 3a", "lambda = 1/8", "bisenetv2-t3a-lambda-1-8", 19.93),
    ("Table 3a", "lambda = 1/16", "bisenetv2-t3a-lambda-1-16", 19.61),
    ("Table 3b", "row 1", "bisenetv2", 21.15),
    ("Table 3b", "row 2", "bisenetv2-t3b-no-context", 21.07),
    ("Table 3b", "row 3", "bisenetv2-t3b-depthwise-5x5", 21.15),
    ("Table 3b", "row 4", "bisenetv2-t3b-gather-1x1", 15.78),
    ("Table 3c", "Detail-only", "bisenetv2-t2-detail", 15.26),
    ("Table 3c", "epsilon = 1", "bisenetv2-t3c-epsilon-1", 17.78),
    ("Table 3c", "epsilon = 2", "bisenetv2-t3c-epsilon-2", 18.45),
    ("Table 3c", "epsilon = 4", "bisenetv2-t3c-epsilon-4", 19.8),
    ("Table 3c", "epsilon = 6", "bisenetv2", 21.15),
    ("Table 3c", "epsilon = 8", "bisenetv2-t3c-epsilon-8", 22.49),
    ("Table 5a", "alpha = 1.0", "bisenetv2", 21.15),
    ("Table 5a", "alpha = 1.25", "bisenetv2-t5a-alpha-1.25", 34.98),
    ("Table 5a", "alpha = 1.50", "bisenetv2-t5a-alpha-1.5", 49.46),
    ("Table 5a", "alpha = 1.75", "bisenetv2-t5a-alpha-1.75", 66.45),
    ("Table 5a", "alpha = 2.0", "bisenetv2-t5a-alpha-2", 85.94),
    ("Table 5b", "d = 1.0", "bisenetv2", 21.15),
    ("Table 5b", "d = 2.0", "bisenetv2-t5b-depth-2", 25.26),
    ("Table 5b", "d = 3.0", "bisenetv2-t5b-depth-3", 29.38),
    ("Table 5b", "d = 4.0", "bisenetv2-t5b-depth-4", 33.5),
    ("Table 6", "Ours (alpha = 2.0, d = 3.0)", "bisenetv2-large", 118.51),
]
NETWORKS = {variant: printed for _, _, variant, printed in PRINTED}
# Rows that miss the printed digits, though not the 0.05 %: variant -> (printed, computed, reason).
UNDECIDED = "BN and ReLU placements worth under 5 MFLOPs are not decided by the published numbers"
OFF_BY_A_DIGIT = {
    "bisenetv2-t3a-lambda-1-16": (19.61, 19.605, UNDECIDED),
    "bisenetv2-t3c-epsilon-1": (17.78, 17.773, UNDECIDED),
    "bisenetv2-t5a-alpha-2": (85.94, 85.935, UNDECIDED),
}
# What isolates a part: (what, variant, minus variant, units between them, printed G a unit, its uncertainty).
# Both prints are rounded, so their difference is known to 0.01 G.
BASE = "bisenetv2"
DIFFERENCES = [
    ("d, a unit", "bisenetv2-t5b-depth-4", BASE, 3, (33.5 - 21.15) / 3, 0.01 / 3),
    ("lambda 1/4 to 1/2", "bisenetv2-t3a-lambda-1-2", BASE, 1, 4.69, 0.01),
    ("lambda 1/16 to 1/4", BASE, "bisenetv2-t3a-lambda-1-16", 1, 1.54, 0.01),
    ("concat - sum", "bisenetv2-t2-concat", "bisenetv2-t2-sum", 1, 1.21, 0.01),
    ("BGA - sum", BASE, "bisenetv2-t2-sum", 1, 0.38, 0.01),
    ("1x1 gather", "bisenetv2-t3b-gather-1x1", BASE, 1, -5.37, 0.01),
    ("no context", "bisenetv2-t3b-no-context", BASE, 1, -0.08, 0.01),
    ("single 5x5 depthwise", "bisenetv2-t3b-depthwise-5x5", BASE, 1, 0.0, 0.01),
    # From epsilon = 1 the slope is printed as 0.6729 +- 0.0014 and computed as 0.6746: see OFF_BY_A_DIGIT.
    ("epsilon, a unit, 6 to 8", "bisenetv2-t3c-epsilon-8", BASE, 2, 0.67, 0.01 / 2),
    ("epsilon, a unit, 2 to 8", "bisenetv2-t3c-epsilon-8", "bisenetv2-t3c-epsilon-2", 6, (22.49 - 18.45) / 6, 0.01 / 6),
]


def family_variants() -> dict[str, Variant]:
    return {name: row for name, row in variants().items() if row.family == "bisenetv2"}


@cache
def flops(variant: str, rule: str = "bisenetv2") -> float:
    """GFLOPs at 512 x 1024 with 19 classes."""
    count = {"bisenetv2": bisenetv2_flops, "fvcore": fvcore_flops}[rule]
    return sum(map(count, operators(variant))) / 1e9


@cache
def operators(variant: str) -> list:
    return record(make_arch(variant).build_meta(19), (512, 1024)).reachable()


@pytest.mark.parametrize(("table", "row", "variant", "printed"), PRINTED, ids=[f"{t}, {r}" for t, r, _, _ in PRINTED])
def test_gflops_are_the_printed_ones(table: str, row: str, variant: str, printed: float) -> None:
    computed = flops(variant)
    assert computed == pytest.approx(printed, rel=5e-4), RULE
    if variant in OFF_BY_A_DIGIT:
        _, expected, reason = OFF_BY_A_DIGIT[variant]
        assert round(computed, 3) == expected, reason
    else:
        assert abs(computed - printed) <= 0.005, f"{table}, {row}, {RULE}"


@pytest.mark.parametrize(("what", "variant", "minus", "units", "printed", "unit"), DIFFERENCES, ids=lambda v: str(v))
def test_differences_are_the_printed_ones(
    what: str, variant: str, minus: str, units: int, printed: float, unit: float
) -> None:
    assert abs((flops(variant) - flops(minus)) / units - printed) <= unit + 1e-9, what


def test_fvcore_rule_stays_near_print() -> None:
    errors = sorted(abs(flops(name, "fvcore") / printed - 1) for name, printed in NETWORKS.items())
    assert errors[-1] <= 0.0030  # Semantic only
    assert errors[-2] <= 0.0009


def test_every_variant_has_a_printed_figure() -> None:
    assert set(family_variants()) == set(NETWORKS)
    assert {name for name in family_variants() if name.startswith("bisenetv2-t3b")} == {
        name for name, row in family_variants().items() if "text" in row.note
    }, "the rows that the paper's text misnumbers carry a note"


def test_camera_size_at_half_scale_costs_the_same() -> None:
    """Section 5: frames of 1024 x 2048 are resized to 512 x 1024 in the model, and Table 2 speaks of the former."""
    graph = record(make_arch("bisenetv2", input_scale=0.5).build_meta(19), (1024, 2048))
    assert sum(map(bisenetv2_flops, graph.reachable())) / 1e9 == flops("bisenetv2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"aggregation": "concat", "depthwise": "single5x5", "width": 0.25, "channel_ratio": 1 / 16},
        {"branches": "semantic", "gather": "1x1"},
    ],
)
def test_fvcore_itself_counts_the_same(params: dict) -> None:
    from fvcore.nn import FlopCountAnalysis

    arch = make_arch("bisenetv2", **params)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    theirs = FlopCountAnalysis(build_model(arch), torch.zeros(1, 3, 64, 128)).unsupported_ops_warnings(False).total()
    assert sum(map(fvcore_flops, record(arch.build_meta(19), (64, 128)).reachable())) == theirs


def test_features_for_training_heads_have_their_channels_and_strides() -> None:
    arch = make_arch("bisenetv2")
    with torch.device("meta"):
        model = arch.build(19).eval()
        maps = model.forward_features(torch.empty(2, 3, 97, 161))
    assert model.context is not None
    assert model.context.features == {
        "detail1": Feature(64, 2),
        "detail2": Feature(64, 4),
        "detail3": Feature(128, 8),
        "stem": Feature(16, 4),
        "s3": Feature(32, 8),
        "s4": Feature(64, 16),
        "s5": Feature(128, 32),
        "ce": Feature(128, 32),
    }
    for name, feature in model.context.features.items():
        assert maps[name].shape == (2, feature.channels, ceil(97 / feature.stride), ceil(161 / feature.stride)), name


def test_smallest_network_trains_on_the_smallest_image() -> None:
    """One channel in the stem, one pixel in S5, one image: nowhere may a width or a batch statistic vanish."""
    model = make_arch("bisenetv2", width=0.25, channel_ratio=1 / 16).build(19)
    assert model.encoder.features["stem"].channels == 1
    with train_mode(model):
        model(torch.randn(1, 3, 32, 32)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_fields_of_an_absent_branch_change_nothing() -> None:
    detail = make_arch("bisenetv2-t2-detail")
    assert make_arch("bisenetv2-t2-detail", expansion=2, depth=3, context=False, aggregation="sum").id == detail.id


def test_convolutions_start_kaiming_normal() -> None:
    torch.manual_seed(0)
    convs = [m for m in make_arch("bisenetv2").build(19).modules() if isinstance(m, nn.Conv2d)]
    for conv in convs:
        fan_in = conv.weight[0].numel()
        if conv.weight.numel() > 4000:
            assert conv.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.06)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"aggregation": "bag"}, "unknown aggregation of bisenetv2 'bag': did you mean 'bga'"),
        ({"branches": "semantics"}, "did you mean 'semantic'"),
        ({"gather": "5x5"}, "unknown gather of bisenetv2 '5x5'"),
        ({"depthwise": "double5x5"}, "unknown depthwise of bisenetv2"),
        ({"channel_ratio": 0.0}, "channel_ratio must be above 0 and at most 1, got 0.0"),
        ({"channel_ratio": 4}, "channel_ratio must be above 0 and at most 1, got 4.0"),
        ({"width": -1.0}, "width must be above 0"),
        ({"width": float("nan")}, "width must be above 0"),
        ({"expansion": 0}, "expansion must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"depth": 1.5}, "depth must be of type int"),
        ({"head_width": 0}, "head_width must be at least 1, got 0"),
        ({"lambda": 0.25}, "unknown parameter of bisenetv2 'lambda'"),
    ],
)
def test_bad_values_are_user_errors(params: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_arch("bisenetv2", **params)


def test_guided_aggregation_refuses_other_strides() -> None:
    with pytest.raises(UserError, match="strides s and 4 s, got 8 and 16"):
        BilateralGuidedAggregation({"fine": Feature(8, 8), "coarse": Feature(8, 16)}, "fine", "coarse")
