"""What every family must do. A family that is added to FAMILIES is tested here without a new line.

Networks that run have a quarter of the width; every published one is recorded on the meta device.
"""

import dataclasses
import json
import os
from collections import defaultdict
from functools import cache
from math import ceil
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from nasseg.errors import UserError
from nasseg.families import FAMILIES, build_model, field_names, get_family, make_arch, variants
from nasseg.families.arch import ID_INPUT_SIZE, Arch
from nasseg.families.graph import fingerprint, record
from nasseg.study.measure import measure_address

CHEAP = {"width": 0.25}  # a field of every family
SIZES = [(32, 32), (33, 47), (97, 161), (360, 480), (33, 500)]
COMMITTED_IDS = Path(__file__).parent / "variant_ids.json"

every_family = pytest.mark.parametrize("family", FAMILIES)
every_variant = pytest.mark.parametrize("name", variants())


@cache
def ids():
    return {name: make_arch(name).id for name in variants()}


def cheap(family, **params):
    known = field_names(get_family(family))
    return make_arch(family, **{**{name: value for name, value in CHEAP.items() if name in known}, **params})


@every_family
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_logits_have_the_size_of_the_input(family, size, scale):
    model = build_model(cheap(family, input_scale=scale), num_classes=5)
    with torch.inference_mode():
        logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5, *size)
    assert logits.isfinite().all()


@every_family
@pytest.mark.parametrize(
    ("batch", "size", "scale"),
    [
        (2, (64, 96), 1.0), (1, (32, 32), 1.0), (1, (97, 161), 1.0), (1, (33, 47), 0.5), (1, (360, 480), 1.0),
        (2, (33, 500), 1.0),
    ],
)  # fmt: skip
def test_gradients_reach_every_weight(family, batch, size, scale):
    trains(cheap(family, input_scale=scale), batch, size)


def trains(arch, batch, size):
    torch.manual_seed(0)
    model = arch.build(3).train()
    logits = model(torch.randn(batch, 3, *size))
    logits.square().mean().backward()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not missing
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.slow
@every_variant
def test_gradients_reach_every_weight_of_what_is_published(name):
    """The published networks a quarter as wide, so that each option of a family is trained once."""
    if "width" in field_names(type(make_arch(name))):
        trains(make_arch(name, width=0.25 * make_arch(name).width), 2, (64, 64))


@every_variant
def test_a_published_network_on_an_odd_size(name):
    """Logits at input size, features as they are declared, and no weight that the logits do not depend on."""
    size, arch = (97, 161), make_arch(name)
    model = arch.build_meta(5)
    graph = record(model, size)
    logits, number = graph.outputs["logits"]
    shape = graph.operators[logits].output_shapes[number]
    assert shape == ((1, 5) if getattr(arch, "form", "") == "classifier" else (1, 5, *size))
    used = {
        weight.index for operator in graph.reachable() for weight in operator.weights if weight and weight.trainable
    }
    assert len(used) == len(list(model.parameters()))
    maps = model.forward_features(torch.empty(1, 3, *size, device="meta"))
    features = (model.context or model.encoder).features
    assert set(maps) == set(features)
    sides = [max(1, round(side * arch.input_scale)) for side in size]
    for feature, declared in features.items():
        assert maps[feature].shape == (1, declared.channels, *(ceil(side / declared.stride) for side in sides)), feature
    if hasattr(model.decoder, "feature"):
        decoded = model.decoder(maps).shape
        declared = model.decoder.feature
        assert decoded == (1, declared.channels, *(ceil(side / declared.stride) for side in sides))


@every_family
def test_training_heads_leave_the_main_output_alone(family):
    """A head on any feature trains beside the network; the logits of the inference form stay what they are."""
    torch.manual_seed(0)
    model, image = cheap(family).build(3), torch.randn(2, 3, 64, 96)
    features = (model.context or model.encoder).features
    heads = {name: nn.Conv2d(feature.channels, 3, 1) for name, feature in features.items()}
    maps = model.train().forward_features(image)
    extra = sum(head(maps[name]).square().mean() for name, head in heads.items())
    (model.resize(model.head(model.decoder(maps)), image.shape[-2:]).square().mean() + extra).backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]
    model.eval()
    with torch.inference_mode():
        maps = model.forward_features(image)
        for name, head in heads.items():
            head(maps[name])
        assert torch.equal(model.resize(model.head(model.decoder(maps)), image.shape[-2:]), model(image))


@every_family
def test_eval_mode_is_deterministic_and_does_not_mix_images(family):
    torch.manual_seed(0)
    model, images = build_model(cheap(family), 4), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        together = model(images)
        assert torch.equal(together, model(images))
        alone = torch.cat([model(images[:1]), model(images[1:])])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@every_family
def test_an_arch_is_its_params(family):
    arch = cheap(family)
    assert make_arch(family, **arch.params()) == arch
    assert make_arch(family, **json.loads(json.dumps(arch.params()))) == arch


@every_family
def test_an_arch_is_frozen(family):
    with pytest.raises(dataclasses.FrozenInstanceError):
        cheap(family).input_scale = 2.0


@every_family
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"input_scal": 1.0}, "did you mean 'input_scale'"),
        ({"input_scale": "big"}, "must be of type float"),
        ({"input_scale": True}, "must be of type float"),
        ({"input_scale": 0.0}, "above 0"),
        ({"input_scale": float("nan")}, "above 0"),
    ],
)
def test_bad_params_are_refused(family, params, message):
    with pytest.raises(UserError) as error:
        make_arch(family, **params)
    assert message in str(error.value)
    assert family in str(error.value)


def test_published_rows_that_are_one_network_say_so():
    """All rows but one of a network have a note that says "same network"; else a field that should matter does not."""
    rows = defaultdict(list)
    for name, identity in ids().items():
        rows[identity].append(name)
    for names in rows.values():
        silent = [name for name in names if "same network" not in variants()[name].note]
        assert len(silent) <= 1, f"{names} have one id; if that is meant, note it as the same network"


@pytest.mark.slow
def test_ids_are_equal_where_the_graphs_are():
    """Whatever the number of classes: the same rows are one network with 7 as with the 19 of the id."""
    graphs = {name: fingerprint(record(make_arch(name).build_meta(7), ID_INPUT_SIZE)) for name in variants()}
    for one in variants():
        for other in variants():
            assert (ids()[one] == ids()[other]) == (graphs[one] == graphs[other]), (one, other)


@every_family
def test_the_id_is_not_of_the_classes_or_of_a_build(family):
    arch, other = cheap(family), cheap(family)
    build_model(other, num_classes=3)
    torch.manual_seed(1)
    assert other.id == arch.id


@every_family
def test_the_id_is_of_the_network(family):
    arch = cheap(family)
    assert arch.id == make_arch(family, **arch.params()).id
    assert arch.id != make_arch(family, **{**arch.params(), "width": 0.5}).id
    assert arch.id != make_arch(family, **{**arch.params(), "input_scale": 0.5}).id


def test_ids_of_the_variants_are_as_committed():
    """A changed id says that a published network changed. On purpose? NASSEG_REFRESH_IDS=1 writes the list anew."""
    found = ids()
    if os.environ.get("NASSEG_REFRESH_IDS"):
        COMMITTED_IDS.write_text(json.dumps(found, indent=1) + "\n")
    committed = json.loads(COMMITTED_IDS.read_text())
    changed = sorted(name for name in {*found, *committed} if found.get(name) != committed.get(name))
    assert not changed, f"{changed} differ; if that is meant, run this test once with NASSEG_REFRESH_IDS=1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Typed(Arch):
    """A family whose annotations are text, as under `from __future__ import annotations`."""

    family: ClassVar[str] = "typed"
    widths: "tuple[int, ...]" = (1, 2)
    ratio: "float" = 1.0

    def build(self, num_classes):
        raise NotImplementedError


def test_items_and_textual_annotations_are_checked_too():
    assert Typed(widths=[3, 4], ratio=2).params() == {"input_scale": 1.0, "widths": (3, 4), "ratio": 2.0}
    with pytest.raises(UserError, match="an item of typed: widths must be of type int, got 'x'"):
        Typed(widths=[3, "x"])
    with pytest.raises(UserError, match="typed: ratio must be of type float, got 'x'"):
        Typed(ratio="x")
    with pytest.raises(UserError, match="typed: widths must be of type tuple, got 3"):
        Typed(widths=3)


@pytest.mark.slow
@every_variant
def test_every_variant_is_measured_by_name(name):
    figures = measure_address(name)
    assert figures["variant"]
    assert figures["params"] > 0
    assert figures["macs"] > 0
    assert figures["arch_id"] == ids()[name]


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UserError, match="did you mean 'bisenetv2'"):
        make_arch("bisenet2")
