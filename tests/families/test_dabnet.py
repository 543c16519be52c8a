"""DABNet against the paper: every printed number that the architecture alone decides."""

from typing import Any

import pytest
import torch
import yaml
from torch import nn

from nasseg.errors import UserError
from nasseg.families.dabnet import DABNetArch
from nasseg.families.graph.recorder import record
from nasseg.families.layers import train_mode
from nasseg.space import load_space
from tests import ROOT
from tests.slow import slow

ROWS: dict[str, Any] = yaml.safe_load((ROOT / "nasseg/families/variants/dabnet.yaml").read_text())


def variant(name: str) -> DABNetArch:
    arch = DABNetArch.from_params(ROWS[name]["params"])
    assert isinstance(arch, DABNetArch)
    return arch


def params(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


# Parameters in millions of the whole network with 19 classes.
PUBLISHED = [
    ("dabnet", 0.76, "Table 2a, DABNet-baseline; Table 3"),
    ("dabnet-t2-r-4", 0.76, "Table 2a, DABNet-(r=4)"),
    ("dabnet-t2-r-3-3-7-7-13-13", 0.76, "Table 2a, DABNet-(r=3, 3, 7, 7, 13, 13)"),
    ("dabnet-t2-erfnet-decoder", 1.02, "Table 2a, DABNet-ERFdecoder"),
    ("dabnet-t2-spp", 3.22, "Table 2a, DABNet-SPP"),
    ("dabnet-t2-no-dilation", 0.76, "Table 2b, DABNet-w/o dilation"),
    ("dabnet-t2-first-conv-r-2", 0.76, "Table 2b, DABNet-First 3x3 conv(r=2)"),
]


def test_every_variant_has_its_printed_parameters() -> None:
    assert [name for name, _, _ in PUBLISHED] == list(ROWS)


@pytest.mark.parametrize(("name", "printed", "citation"), PUBLISHED)
def test_published_parameters(name: str, printed: float, citation: str) -> None:
    assert round(params(variant(name).build_meta(19)) / 1e6, 2) == printed, citation


def test_less_than_0_76_million() -> None:
    """Section 3.2: "we employ less than 0.76 million parameters"."""
    assert params(DABNetArch().build_meta(19)) < 0.76e6


# What the paper says in comparisons: figure, printed, decimals, citation.
CLAIMS = [("percent of ICNet's 7.8 M", 9.7, 1, "Section 4.3"), ("percent of PSPNet's 65.7 M", 1, 0, "Section 4.3")]
# figure, printed, computed, decimals, reason
MISPRINTS = [
    ("CamVid's parameters in M", 0.76, 0.75, 2, "Table 4 repeats the figure of 19 classes; CamVid has 11"),
    ("percent of DeepLab-v2's 44 M", 1, 2, 0, "Section 4.3 has one figure for PSPNet and DeepLab-v2"),
    ("SPP over baseline, printed figures", 0.042, 4.24, 2, 'Section 4.2 has "4.2% times more" for 4.2 times as many'),
]


def computed_figure(figure: str) -> float:
    count = params(DABNetArch().build_meta(19)) / 1e6
    if figure.startswith("percent of"):
        return 100 * count / float(figure.split()[-2])
    if figure.startswith("CamVid"):
        return params(DABNetArch().build_meta(11)) / 1e6
    return round(params(variant("dabnet-t2-spp").build_meta(19)) / 1e6, 2) / round(count, 2)


@pytest.mark.parametrize(("figure", "printed", "decimals", "citation"), CLAIMS)
def test_claims(figure: str, printed: float, decimals: int, citation: str) -> None:
    assert round(computed_figure(figure), decimals) == printed, citation


@pytest.mark.parametrize(("figure", "printed", "computed", "decimals", "reason"), MISPRINTS)
def test_misprints_stay_known(figure: str, printed: float, computed: float, decimals: int, reason: str) -> None:
    assert round(computed_figure(figure), decimals) == computed != printed, reason


def test_layers_are_those_of_table_1() -> None:
    """Layer by layer at 512 x 1024: channels and output size; a DAB module ends in its 1x1 convolution."""
    operators = record(DABNetArch().build_meta(19), (512, 1024)).reachable()
    convs = [o for o in operators if o.kind == "conv" and o.attribute("groups") == 1]
    shapes = [o.output_shapes[0][1:] for o in convs]
    stem, down1, block1, down2, block2, head = (
        shapes[:3],
        shapes[3],
        shapes[4:10],
        shapes[10],
        shapes[11:23],
        shapes[23:],
    )
    assert stem == [(32, 256, 512)] * 3
    assert down1 == (64 - (32 + 3), 128, 256)  # the max-pooled 35 make up the 64
    assert block1 == [(32, 128, 256), (64, 128, 256)] * 3
    assert down2 == (128, 64, 128)
    assert block2 == [(64, 64, 128), (128, 64, 128)] * 6
    assert head == [(19, 64, 128)]
    assert operators[-1].kind == "interpolate"
    assert operators[-1].output_shapes == ((1, 19, 512, 1024),)
    features = DABNetArch().build_meta(19).encoder.features
    assert {name: (f.channels, f.stride) for name, f in features.items()} == {
        "stem": (35, 2),
        "block1": (131, 4),
        "block2": (259, 8),
    }


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("dabnet", [2, 2, 2, 4, 4, 8, 8, 16, 16]),
        ("dabnet-t2-r-4", [2, 2, 2, 4, 4, 4, 4, 4, 4]),
        ("dabnet-t2-r-3-3-7-7-13-13", [2, 2, 2, 3, 3, 7, 7, 13, 13]),
        ("dabnet-t2-no-dilation", [1] * 9),
    ],
)
def test_dilations(name: str, rates: list[int]) -> None:
    operators = record(variant(name).build_meta(19), (64, 128)).reachable()
    depthwise = [max(o.attribute("dilation")) for o in operators if o.kind == "conv" and o.attribute("groups") > 1]
    assert depthwise == [rate for dilated in rates for rate in (1, 1, dilated, dilated)]


def test_first_convolution_dilated_in_every_module() -> None:
    def dilated(arch: DABNetArch) -> int:
        operators = record(arch.build_meta(19), (64, 128)).reachable()
        return sum(
            o.kind == "conv" and o.attribute("groups") == 1 and o.attribute("dilation") == (2, 2) for o in operators
        )

    assert dilated(variant("dabnet-t2-first-conv-r-2")) == 9
    assert dilated(DABNetArch()) == 0


# Widths that no printed total is fine enough to decide: convolutions as (inputs, outputs, kernel).
PARTS = [
    ({"decoder": "erfnet"}, "decoder.up4", [(259, 64, (3, 3))]),
    ({"decoder": "erfnet"}, "decoder.layers4.0", [(64, 64, (3, 1)), (64, 64, (1, 3))] * 2),
    ({"decoder": "erfnet"}, "decoder.up2", [(64, 16, (3, 3))]),
    ({"decoder": "erfnet"}, "decoder.layers2.1", [(16, 16, (3, 1)), (16, 16, (1, 3))] * 2),
    ({"decoder": "erfnet"}, "head", [(16, 19, (2, 2))]),
    ({"context": "spp"}, "context.bins", [(259, 65, (1, 1))] * 4),
    ({"context": "spp"}, "context.fuse", [(259 + 4 * 65, 512, (3, 3))]),
    ({"context": "spp"}, "head", [(512, 19, (1, 1))]),
]


@pytest.mark.parametrize(("fields", "part", "printed"), PARTS)
def test_context_and_decoder(fields: dict[str, Any], part: str, printed: list[Any]) -> None:
    module = DABNetArch.from_params(fields).build_meta(19).get_submodule(part)
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert [(conv.in_channels, conv.out_channels, conv.kernel_size) for conv in convs] == printed


@pytest.mark.parametrize("name", list(ROWS))
def test_biases_and_epsilon(name: str) -> None:
    """Only ERFNet's decoder has biases, all of its layers; every BatchNorm has epsilon 1e-3."""
    for path, layer in variant(name).build_meta(19).named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert (layer.bias is not None) == (name == "dabnet-t2-erfnet-decoder" and not path.startswith("encoder"))
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.eps == 1e-3


def test_variants_differ() -> None:
    assert len({variant(name).id for name in ROWS}) == len(ROWS)


@pytest.mark.parametrize("size", [(97, 161), *map(slow, [(32, 32), (33, 500), (360, 480)])])
@pytest.mark.parametrize(
    "fields",
    [{}, {"decoder": "erfnet"}, {"context": "spp"}, {"context": "spp", "decoder": "erfnet", "input_scale": 0.4}],
)
def test_logits_have_the_input_size(fields: dict[str, Any], size: tuple[int, int]) -> None:
    model = DABNetArch.from_params(fields).build_meta(11)
    assert model(torch.empty(2, 3, *size, device="meta")).shape == (2, 11, *size)


@pytest.mark.parametrize("fields", [{}, {"input_injection": False}, {"context": "spp", "decoder": "erfnet"}])
def test_trains_at_a_quarter_of_the_width(fields: dict[str, Any]) -> None:
    model = DABNetArch.from_params({"width": 0.25, **fields}).build(5)
    with train_mode(model):
        logits = model(torch.randn(1, 3, 33, 45))
    assert logits.shape == (1, 5, 33, 45)
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    image = 0 if fields.get("input_injection") is False else 3
    assert [f.channels for f in model.encoder.features.values()] == [8 + image, 32 + image, 64 + image]


def test_schedules_give_the_depth_and_are_normalised() -> None:
    arch = DABNetArch(block2_dilations="(4) + (4)+(8)+(8)+2*(16)")
    assert arch == DABNetArch()
    deeper = DABNetArch(block1_dilations="4*(2)")
    module = params(DABNetArch().build_meta(19).encoder.block1[0])
    assert params(deeper.build_meta(19)) - params(DABNetArch().build_meta(19)) == module


BAD = [
    ({"block1_dilations": "3*(1,2)"}, "block1_dilations has one rate an entry"),
    ({"block2_dilations": "4,4,8"}, "a schedule is a sum of terms"),
    ({"block2_dilations": "2*(0)"}, "dilation rates start at 1"),
    ({"decoder": "erf"}, "did you mean 'erfnet'"),
    ({"context": "psp"}, "did you mean 'spp'"),
    ({"first_dilation": 0}, "first_dilation must be at least 1"),
    ({"block1_width": 35}, "block1_width must be a multiple of 2"),
    ({"block1_width": 34}, "block1_width must be above the 35 channels"),
    ({"block2_width": 0}, "block2_width must be a multiple of 2"),
    ({"decoder_width": 30}, "decoder_width must be a multiple of 4"),
    ({"stem_width": 0}, "stem_width must be at least 1"),
    ({"width": 0.05}, "block1_width must be above"),
    ({"width": -1.0}, "width must be above 0"),
    ({"input_injection": 3}, "input_injection must be of type bool"),
    ({"dilations": "3*(2)"}, "did you mean 'block"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_bad_values_are_user_errors(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DABNetArch.from_params(fields)


def test_the_space_holds_the_variants() -> None:
    space = load_space(ROOT / "spaces/dabnet.yaml")
    assert space.count() > 10**4
    defaults = {"family": "dabnet", **DABNetArch().params()}
    for name in ROWS:
        assert space.locate({"family": "dabnet", **ROWS[name]["params"]}, defaults) is not None, name
