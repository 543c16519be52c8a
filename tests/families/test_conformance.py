"""What every family must do. A family that is added to FAMILIES is tested here without a new line."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch

from nasseg.errors import UserError
from nasseg.families import FAMILIES, build_model, field_names, get_family, make_arch, variants

CHEAP = {"width": 0.25}  # a field of every family
SIZES = [(32, 32), (33, 47), (97, 161)]
COMMITTED_IDS = Path(__file__).parent / "variant_ids.json"

every_family = pytest.mark.parametrize("family", FAMILIES)


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
@pytest.mark.parametrize(("batch", "size"), [(2, (64, 96)), (1, (32, 32)), (1, (97, 161))])
def test_gradients_reach_every_weight(family, batch, size):
    torch.manual_seed(0)
    model = cheap(family).build(3).train()
    logits = model(torch.randn(batch, 3, *size))
    logits.square().mean().backward()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not missing
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@every_family
def test_eval_mode_does_not_mix_images(family):
    torch.manual_seed(0)
    model, images = build_model(cheap(family), 4), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        together = model(images)
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


@every_family
def test_the_id_is_of_the_network(family):
    arch = cheap(family)
    assert arch.id == make_arch(family, **arch.params()).id
    assert arch.id != make_arch(family, **{**arch.params(), "width": 0.5}).id
    assert arch.id != make_arch(family, **{**arch.params(), "input_scale": 0.5}).id


def test_ids_of_the_variants_are_as_committed():
    """A changed id says that a published network changed. On purpose? NASSEG_REFRESH_IDS=1 writes the list anew."""
    found = {name: make_arch(name).id for name in variants()}
    if os.environ.get("NASSEG_REFRESH_IDS"):
        COMMITTED_IDS.write_text(json.dumps(found, indent=1) + "\n")
    committed = json.loads(COMMITTED_IDS.read_text())
    changed = sorted(name for name in {*found, *committed} if found.get(name) != committed.get(name))
    assert not changed, f"{changed} differ; if that is meant, run this test once with NASSEG_REFRESH_IDS=1"


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UserError, match="did you mean 'bisenetv2'"):
        make_arch("bisenet2")
