"""STDC against the paper: every printed number that the architecture alone decides."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from nasseg.errors import UserError
from nasseg.families.graph.recorder import record
from nasseg.families.layers import conv_head, train_mode
from nasseg.families.stdc import STDCArch, STDCModule
from nasseg.measure.cost import bisenetv2_flops, field_of_view, fvcore_flops, macs
from nasseg.space import load_space
from tests import ROOT
from tests.slow import slow

ROWS: dict[str, Any] = yaml.safe_load((ROOT / "nasseg/families/variants/stdc.yaml").read_text())
SEGMENTATION = [name for name, row in ROWS.items() if row["params"].get("form") != "classifier"]


def variant(name: str) -> STDCArch:
    arch = STDCArch.from_params(ROWS[name]["params"])
    assert isinstance(arch, STDCArch)
    return arch


def params(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def flops(model: nn.Module, size: tuple[int, int], rule: Callable[..., int]) -> int:
    return sum(rule(operator) for operator in record(model, size).reachable())


# Classifiers with 1000 classes at 224 x 224; printed in millions, with so many decimals. FLOPs: multiply-adds + 2 an
# element of BatchNorm + 1 of ReLU + pooling inputs.
PUBLISHED = [
    ("stdc1", "parameters", 8.44, 2, "Table 2"),
    ("stdc2", "parameters", 12.47, 2, "Table 2"),
    ("stdc1", "FLOPs", 813, 0, "Table 2"),
    ("stdc2", "FLOPs", 1446, 0, "Table 2"),
    ("stdc1", "parameters", 8.4, 1, "Table 5"),
    ("stdc2", "parameters", 12.5, 1, "Table 5"),
    ("stdc1", "FLOPs", 813, 0, "Table 5"),
    ("stdc2", "FLOPs", 1446, 0, "Table 5"),
]


@pytest.mark.parametrize(("name", "figure", "printed", "decimals", "citation"), PUBLISHED)
def test_published_cost(name: str, figure: str, printed: float, decimals: int, citation: str) -> None:
    model = variant(name).build_meta(1000)
    computed = params(model) if figure == "parameters" else flops(model, (224, 224), bisenetv2_flops)
    assert round(computed / 1e6, decimals) == printed, citation


@pytest.mark.parametrize("name", ["stdc1", "stdc2"])
def test_table_2_is_not_of_the_printed_module(name: str) -> None:
    printed = {figure: value for row, figure, value, _, table in PUBLISHED if row == name and table == "Table 2"}
    model = variant(f"{name}-t1-printed").build_meta(1000)
    assert round(params(model) / 1e6, 2) < printed["parameters"]
    assert round(flops(model, (224, 224), bisenetv2_flops) / 1e6) < printed["FLOPs"]


@pytest.mark.parametrize(("name", "low", "high"), [("stdc1", 0.008, 0.009), ("stdc2", 0.006, 0.007)])
def test_multiply_adds_alone_are_below_table_2(name: str, low: float, high: float) -> None:
    model = variant(name).build_meta(1000)
    assert low < 1 - flops(model, (224, 224), macs) / flops(model, (224, 224), bisenetv2_flops) < high


@pytest.mark.parametrize("name", ["stdc1", "stdc2"])
def test_stages_are_those_of_table_2(name: str) -> None:
    model = variant(name).build_meta(1000)
    maps = model.encoder(torch.empty(1, 3, 224, 224, device="meta"))
    table = {"stage1": (32, 112), "stage2": (64, 56), "stage3": (256, 28), "stage4": (512, 14), "stage5": (1024, 7)}
    assert {stage: (x.shape[1], x.shape[2]) for stage, x in maps.items()} == table
    assert {stage: (f.channels, 224 // f.stride) for stage, f in model.encoder.features.items()} == table
    assert model.decoder(maps).shape[1:] == (1024, 7, 7)
    assert model(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("blocks", range(2, 7))
@pytest.mark.parametrize(("m", "n"), [(64, 256), (256, 512), (512, 1024), (1024, 1024), (96, 160)])
def test_equation_3_counts_convolution_weights(blocks: int, m: int, n: int) -> None:
    printed = n * m / 2 + 3 * n**2 / 2 * (1 + 1 / 2 ** (2 * blocks - 3))
    depthwise = 9 * n // 2
    for stride, form, extra in [(1, "released", 0), (1, "printed", 0), (2, "printed", 0), (2, "released", depthwise)]:
        module = STDCModule(m, n, blocks=blocks, stride=stride, form=form).to("meta")
        convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        assert sum(conv.weight.numel() for conv in convs) == printed + extra
        assert all(conv.bias is None for conv in convs)


# form, stride, receptive fields of Block 1 to 4 in the module's output
RECEPTIVE_FIELDS = [
    ("printed", 1, [1, 3, 5, 7], "Table 1, RF(S=1)"),
    ("printed", 2, [3, 3, 7, 11], "Table 1, RF(S=2)"),
    ("released", 1, [1, 3, 5, 7], "Table 1, RF(S=1)"),
    ("released", 2, [3, 7, 11, 15], "the released module, which Table 1 does not describe"),
]


@pytest.mark.parametrize(("form", "stride", "printed", "citation"), RECEPTIVE_FIELDS)
def test_receptive_fields(form: str, stride: int, printed: list[int], citation: str) -> None:
    class Block(nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.module, self.index = STDCModule(3, 64, stride=stride, form=form), index

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"block": self.module.block_maps(x)[self.index]}

    class Probe(nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.encoder = Block(index)

        def forward(self, x: Tensor) -> Tensor:
            block: Tensor = self.encoder(x)["block"]
            return block

    fields = [field_of_view(record(Probe(index).to("meta").eval(), (64, 64))) for index in range(4)]
    assert fields == printed, citation


class Trained(nn.Module):
    """STDC-Seg with its two auxiliary heads, whose logits are resized too."""

    def __init__(self, arch: STDCArch, num_classes: int) -> None:
        super().__init__()
        self.segmenter = arch.build(num_classes)
        assert self.segmenter.context is not None
        features = self.segmenter.context.features
        self.heads = nn.ModuleDict(
            {name: conv_head(features[name].channels, 64, num_classes) for name in ("context8", "context16")}
        )

    def forward(self, image: Tensor) -> Tensor:
        model = self.segmenter
        maps = model.forward_features(image)
        logits = [model.head(model.decoder(maps)), *(head(maps[name]) for name, head in self.heads.items())]
        return torch.cat([model.resize(x, image.shape[-2:]) for x in logits], dim=1)


def test_what_regseg_quotes_of_stdc2_seg75() -> None:
    """RegSeg, Table 9: 16.1 M parameters, everything that is registered; 54.9 GFLOPs of fvcore with auxiliary heads."""
    with torch.device("meta"):
        trained = Trained(STDCArch(), 19).eval()
        details = [conv_head(trained.segmenter.encoder.features[f"stage{i}"].channels, 64, 1) for i in (1, 2, 3, 4)]
    classifier = variant("stdc2").build_meta(1000)
    unused_batch_norm = 2 * 1024
    registered = params(trained) + sum(map(params, details)) + unused_batch_norm
    registered += params(classifier.decoder) + params(classifier.head)
    assert round(registered / 1e6, 1) == 16.1
    assert round(flops(trained, (768, 1536), fvcore_flops) / 1e9, 1) == 54.9


# Widths that no printed total is fine enough to decide: convolutions as (inputs, outputs, kernel), as released.
PARTS = [
    ("context.arm_middle", [(512, 128, 3), (128, 128, 1)]),
    ("context.arm_deep", [(1024, 128, 3), (128, 128, 1)]),
    ("context.pool", [(1024, 128, 1)]),
    ("decoder", [(128 + 128, 256, 1), (256, 64, 1), (64, 256, 1)]),
    ("encoder.spatial", [(3, 64, 7), (64, 64, 3), (64, 64, 3), (64, 128, 1)]),
    ("head", [(256, 256, 3), (256, 19, 1)]),
]


@pytest.mark.parametrize(("part", "printed"), PARTS)
def test_parts_around_the_encoder(part: str, printed: list[tuple[int, int, int]]) -> None:
    module = variant("stdc2-t4-spatial-path").build_meta(19).get_submodule(part)
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels, conv.kernel_size[0]) for conv in convs] == printed
    assert all(conv.bias is None for conv in convs)


def test_figure_7_more_blocks_cost_less() -> None:
    costs = []
    for blocks in range(2, 7):
        model = STDCArch.from_params({"form": "classifier", "blocks": blocks}).build_meta(1000)
        costs.append((flops(model, (224, 224), bisenetv2_flops), params(model)))
    assert costs == sorted(costs, reverse=True)
    assert variant("stdc2").id == STDCArch.from_params({"form": "classifier", "blocks": 4}).id


def test_detail_guidance_is_free_and_the_spatial_path_is_not() -> None:
    """Table 4: the FPS of all Detail Guidance rows are those of the plain network, with Spatial Path they are lower."""
    plain, spatial = (variant(name).build_meta(19) for name in ("stdc2-seg50", "stdc2-t4-spatial-path"))
    assert flops(spatial, (1024, 2048), macs) > flops(plain, (1024, 2048), macs)
    # 50 and 75 say the input's size: 512 x 1024 and 768 x 1536 of 1024 x 2048.
    for name, size in [("stdc2-seg50", (512, 1024)), ("stdc2-seg75", (768, 1536))]:
        scaled = flops(variant(name).build_meta(19), (1024, 2048), macs)
        assert scaled == flops(STDCArch().build_meta(19), size, macs)


def test_variants_differ() -> None:
    ids = {variant(name).id for name in ROWS}
    assert len(ids) == len(ROWS)


@pytest.mark.parametrize("size", [(97, 161), *map(slow, [(32, 32), (33, 500), (360, 480)])])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_logits_have_the_input_size(name: str, size: tuple[int, int]) -> None:
    model = variant(name).build_meta(11)
    assert model(torch.empty(2, 3, *size, device="meta")).shape == (2, 11, *size)


@pytest.mark.parametrize("overrides", [{}, {"spatial_path": True, "module": "printed"}, {"form": "classifier"}])
def test_trains_at_a_quarter_of_the_width(overrides: dict[str, Any]) -> None:
    arch = STDCArch(width=0.25, blocks=6, **overrides)
    model = arch.build(5)
    with train_mode(model):
        logits = model(torch.randn(1, 3, 32, 32))  # one value a channel from Stage 5 on
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert [f.channels for f in model.encoder.features.values()][:5] == [8, 16, 64, 128, 256]


def test_width_keeps_modules_whole() -> None:
    model = STDCArch(width=0.3, blocks=6).build_meta(19)
    assert [model.encoder.features[f"stage{i}"].channels for i in (3, 4, 5)] == [64, 160, 320]
    assert math.isclose(model.context.features["context8"].channels, 128 * 0.3, abs_tol=0.5)


BAD = [
    ({"module": "relesed"}, "did you mean 'released'"),
    ({"form": "detector"}, "unknown stdc form"),
    ({"blocks": 1}, "blocks must be 2 to 6"),
    ({"blocks": 7}, "blocks must be 2 to 6"),
    ({"stage3_width": 260}, "stage3_width must be divisible by 8 with 4 blocks, got 260"),
    ({"stage5_width": 1040, "blocks": 6}, "stage5_width must be divisible by 32"),
    ({"stage4_modules": 0}, "stage4_modules must be at least 1"),
    ({"stage1_width": 0}, "stage1_width must be at least 1"),
    ({"fusion_width": 130}, "fusion_width must be divisible by 4"),
    ({"width": 0.0}, "width must be above 0"),
    ({"spatial_path": 1}, "spatial_path must be of type bool"),
    ({"stage3_modules": 2.5}, "stage3_modules must be of type int"),
    ({"stage3_widht": 256}, "did you mean 'stage3_width'"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_bad_values_are_user_errors(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        STDCArch.from_params(fields)


def test_the_space_holds_the_variants() -> None:
    space = load_space(ROOT / "spaces/stdc.yaml")
    assert space.count() > 10**4
    defaults = {"family": "stdc", **STDCArch().params()}
    for name in SEGMENTATION:
        assert space.locate({"family": "stdc", **ROWS[name]["params"]}, defaults) is not None, name
