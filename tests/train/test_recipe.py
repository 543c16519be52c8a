"""Recipes as data: printed settings, names and overrides, schedules, what decays, what is said to differ."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from nasseg.errors import UserError
from nasseg.families import FAMILIES, make_arch
from nasseg.files import parse_yaml
from nasseg.study.study_file import study_from
from nasseg.train.heads import TrainingHeads
from nasseg.train.optimizer import make_optimizer
from nasseg.train.recipe import Recipe, load_recipe, published_recipes

# As printed: BiSeNetV2 Section 5; STDC Section 4.2; ESeg Section 4.1; RegSeg Section 4.2; DABNet Section 4.1.
PRINTED = {
    "bisenetv2-cityscapes": (150_000, 16, 0.05, 5e-4, (1024, 2048), (0.75, 2.0)),
    "bisenetv2-camvid": (10_000, 16, 0.05, 5e-4, (720, 960), (0.75, 2.0)),
    "bisenetv2-coco-stuff": (20_000, 16, 0.05, 1e-4, (640, 640), (0.75, 2.0)),
    "stdc-cityscapes": (60_000, 48, 0.01, 5e-4, (512, 1024), (0.125, 1.5)),
    "stdc-camvid": (10_000, 24, 0.01, 5e-4, (720, 960), (0.5, 2.5)),
    "eseg-cityscapes": (90_000, 16, 0.08, 5e-5, (512, 1024), (0.5, 2.0)),
    "eseg-ade20k": (round(300 * 20_210 / 16 + 0.1), 16, 0.08, 5e-5, (520, 520), (0.5, 2.0)),
    "eseg-pretraining": (500 * 18_000 / 16, 16, 0.08, 5e-5, (1024, 1024), (0.5, 2.0)),
    "eseg-cityscapes-finetuning": (round(200 * 2975 / 16 + 0.5), 16, 0.01, 5e-5, (512, 1024), (0.5, 2.0)),
    "eseg-cityscapes-self-training": (round(1000 * 2975 / 64 + 0.5), 128, 0.16, 5e-5, (512, 1024), (0.5, 2.0)),
    "regseg-cityscapes": (1000 * 2975 / 8, 8, 0.05, 1e-4, (768, 768), (400 / 1024, 1600 / 1024)),
    "regseg-camvid": (200 * (367 + 101) / 12, 12, 0.005, 1e-4, (720, 960), (288 / 720, 1152 / 720)),
    "dabnet-cityscapes": (1000 * 2975 / 8, 8, 0.045, 1e-4, (512, 1024), (0.75, 2.0)),
    "dabnet-camvid": (1000 * (367 + 101) / 16, 16, 0.001, 2e-4, (360, 480), (0.75, 2.0)),  # as released
}


@pytest.mark.parametrize("name", PRINTED)
def test_printed_settings(name):
    recipe = load_recipe(name)
    assert (
        recipe.steps,
        recipe.batch_size,
        recipe.learning_rate,
        recipe.weight_decay,
        recipe.crop_size,
        recipe.scale_range,
    ) == PRINTED[name]
    optimizer = "adam" if name == "dabnet-camvid" else "sgd"
    assert (recipe.optimizer, recipe.momentum, recipe.flip) == (optimizer, 0.9, True)
    assert recipe.schedule == ("cosine" if name.startswith("eseg") else "poly")
    assert recipe.power == 0.9


def test_settings_of_views_and_batches_as_printed():
    """RegSeg: 2 operations of magnitude 0.2 and class-uniform 0.5, neither on CamVid. ESeg: half of a batch."""
    for name in ("regseg-cityscapes", "regseg-cityscapes-ablation", "regseg-cityscapes-test"):
        recipe = load_recipe(name)
        assert (recipe.rand_augment.operations, recipe.rand_augment.magnitude, recipe.class_uniform) == (2, 0.2, 0.5)
    assert (load_recipe("regseg-camvid").rand_augment, load_recipe("regseg-camvid").class_uniform) == (None, None)
    assert load_recipe("eseg-cityscapes-self-training").pseudo_count == 64


def test_losses_and_warm_ups_as_printed():
    """BiSeNetV2: Table 4's third row, boosters after stages 2, 3, 4 and before the context embedding, and its last.
    STDC: Sections 3.2.2 and 4.2. RegSeg: Section 4.2, with OHEM on the test server only. DABNet: as released."""
    for name in ("bisenetv2-cityscapes", "bisenetv2-camvid", "bisenetv2-coco-stuff"):
        (boosters,) = load_recipe(name).heads
        assert (boosters.kind, boosters.features) == ("booster", ("stem", "s3", "s4", "s5"))
        assert load_recipe(name).weight_decay_on == "convolutions"
    for name, warmup in (("stdc-cityscapes", 1000), ("stdc-camvid", 200)):
        recipe = load_recipe(name)
        detail = recipe.heads[1]
        assert (detail.feature, detail.strides, detail.fusion) == ("stage3", (1, 2, 4), "fixed")
        assert detail.form == "released"
        assert recipe.learning_rate_of == {"decoder": 10, "head": 10, "heads": 10}
        assert (recipe.warmup_steps, recipe.jitter > 0) == (warmup, True)
    for name in ("regseg-cityscapes", "regseg-cityscapes-ablation", "regseg-cityscapes-test", "regseg-camvid"):
        recipe = load_recipe(name)
        steps = 1000 if name == "regseg-camvid" else 3000  # as released, and as printed
        assert (recipe.warmup_steps, recipe.warmup_from, recipe.weight_decay_on) == (steps, 0.1, "not_batch_norm")
        assert (recipe.precision, recipe.heads) == ("fp16", ())
    server = load_recipe("regseg-cityscapes-test")
    assert (server.crop_size, server.ohem.threshold, server.ohem.at_least) == ((1024, 1024), 0.3, 1 / 16)
    assert load_recipe("regseg-cityscapes-ablation").steps == round(500 * 2975 / 8 + 0.1)
    mined = {name.split("-")[0] for name in PRINTED if load_recipe(name).ohem}
    assert mined == {"bisenetv2", "stdc", "eseg", "dabnet"}
    assert {name.split("-")[0] for name in published_recipes() if load_recipe(name).ema_decay} == {"eseg", "short"}
    city, camvid = load_recipe("dabnet-cityscapes"), load_recipe("dabnet-camvid")
    assert (city.heads, len(city.class_weights), city.ohem.share_of, city.ohem.at_least) == ((), 19, "all", 1 / 16)
    assert (camvid.ohem, camvid.class_weights) == (None, "inverse_log")


@pytest.mark.parametrize("name", published_recipes())
def test_every_recipe_is_cited_and_fits_its_papers_networks(name):
    recipe = load_recipe(name)
    assert recipe.citation
    family = name.split("-")[0]
    assert family in FAMILIES or family == "short"
    assert family == "short" or recipe.deviations
    if family in FAMILIES:
        TrainingHeads(recipe, make_arch(family, width=0.25).build(4), 4)
    assert load_recipe(recipe.model_dump(mode="json")).hash == recipe.hash
    assert pickle.loads(pickle.dumps(recipe)) == recipe


# (1 - 1/2)^0.9 = 0.535887; (1 + cos(pi/4)) / 2 = 0.853553; 3000 of 371,875 steps of warm-up leave 368,875.
@pytest.mark.parametrize(
    ("name", "step", "rate"),
    [
        ("bisenetv2-cityscapes", 0, 0.05),
        ("bisenetv2-cityscapes", 75_000, 0.0267943),
        ("bisenetv2-cityscapes", 135_000, 0.05 * 0.125893),
        ("eseg-cityscapes", 0, 0.08),
        ("eseg-cityscapes", 22_500, 0.0682843),
        ("eseg-cityscapes", 45_000, 0.04),
        ("regseg-cityscapes", 0, 0.005),  # a tenth, printed
        ("regseg-cityscapes", 1500, 0.0275),
        ("regseg-cityscapes", 3000, 0.05),
        ("regseg-cityscapes-ablation", 3000 + 182_938 // 2, 0.0267943),
        ("regseg-camvid", 0, 0.0005),
        ("stdc-cityscapes", 0, 1e-5),  # a factor of 1,000 over 1,000 steps
        ("stdc-cityscapes", 500, 0.01 * 0.0316228),
        ("stdc-cityscapes", 999, 0.01 / 1.006932),
        ("stdc-camvid", 100, 0.01 * 0.0316228),
        ("stdc-cityscapes", 1000, 0.01),
        ("stdc-cityscapes", 1000 + 29_500, 0.00535887),
        ("dabnet-cityscapes", 0, 0.015),  # a third
        ("dabnet-camvid", 250, 0.001 * 2 / 3),
        ("dabnet-camvid", 500, 0.001),
    ],
)
def test_learning_rates_by_hand(name, step, rate):
    assert load_recipe(name).learning_rate_at(step) == pytest.approx(rate, rel=1e-5)


def test_constant_schedule_after_a_warm_up_from_nothing():
    recipe = Recipe(steps=9, warmup_steps=4, warmup_from=0.0, schedule="constant", learning_rate=1.0)
    assert [recipe.learning_rate_at(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize(
    ("chosen", "family", "free"),
    [
        ("weights", "regseg", ("bias", "norm", "vector")),
        ("convolutions", "bisenetv2", ("norm",)),
        ("convolutions", "dabnet", ("norm", "vector")),
        ("not_batch_norm", "regseg", ("norm",)),
        ("not_batch_norm", "dabnet", ("norm",)),  # PReLU decays
        ("all", "dabnet", ()),
    ],
)
def test_what_decays(chosen, family, free):
    model = make_arch(family, width=0.25).build(4)
    decayed, others = make_optimizer(model, Recipe(weight_decay_on=chosen, weight_decay=0.01)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0)
    kinds = {}
    for layer in model.modules():
        for name, weight in layer.named_parameters(recurse=False):
            if isinstance(layer, torch.nn.BatchNorm2d):
                kinds[id(weight)] = "norm"
            elif weight.ndim > 1:
                kinds[id(weight)] = "kernel"
            else:
                kinds[id(weight)] = name if isinstance(layer, torch.nn.Conv2d) else "vector"
    assert {kinds[id(weight)] for weight in others["params"]} == {*free} & {*kinds.values()}
    assert not {kinds[id(weight)] for weight in decayed["params"]} & {*free}
    assert len(decayed["params"]) + len(others["params"]) == len(kinds)


def test_rates_by_part():
    """STDC's fusion module and heads: ten times the rate of the rest, with and without decay."""
    recipe, model = load_recipe("stdc-camvid"), make_arch("stdc", width=0.25).build(4)
    heads = TrainingHeads(recipe, model, 4)
    groups = make_optimizer(model, recipe, heads).param_groups
    assert [group.get("factor") for group in groups] == [None] * 2 + [10] * 6
    assert [group["weight_decay"] > 0 for group in groups] == [True, False] * 4
    found = [{id(weight) for group in part for weight in group["params"]} for part in (groups[:2], groups[2:])]
    parts = ((model.encoder, model.context), (model.decoder, model.head, heads))
    assert found == [{id(weight) for part in some for weight in part.parameters()} for some in parts]


def test_a_part_that_is_not_there():
    with pytest.raises(UserError, match=r"learning_rate_of\) 'hed': did you mean 'head'"):
        make_optimizer(make_arch("regseg", width=0.25).build(4), Recipe(learning_rate_of={"hed": 10}))


def test_a_weight_that_two_layers_share_moves_once():
    first, second = torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)
    second.weight = first.bias
    groups = make_optimizer(torch.nn.Sequential(first, second), Recipe(weight_decay_on="convolutions")).param_groups
    assert [len(group["params"]) for group in groups] == [2, 1]


def test_a_name_with_overrides():
    recipe = load_recipe({"name": "bisenetv2-cityscapes", "steps": 500, "ohem": None, "eval_batch_size": 2})
    published = load_recipe("bisenetv2-cityscapes")
    assert (recipe.steps, recipe.ohem, recipe.heads) == (500, None, published.heads)
    assert recipe.hash != published.hash
    changes = [line for line in recipe.deviations if line not in published.deviations]
    assert len(changes) == 2
    assert changes[0] == "steps is 500 instead of 150000"
    assert changes[1].startswith("ohem is None instead of {")


def test_the_name_does_not_decide_the_weights():
    recipe = load_recipe("stdc-camvid")
    spelled_out = load_recipe({**recipe.model_dump(), "name": ""})
    assert (spelled_out.name, spelled_out.hash) == ("", recipe.hash)
    assert "name" not in recipe.compared()


@pytest.mark.parametrize(
    "change",
    [
        {"accumulation": 2},
        {"views": "camera"},
        {"weight_decay_on": "all"},
        {"warmup_from": 0.5},
        {"ohem": {"probability_below": 0.6}},
        {"ohem": {"loss_above": 0.7}},
        {"heads": []},
        {"precision": "bf16"},
        {"class_weights": "inverse_log"},
        {"learning_rate_of": {"head": 10}},
        {"heads": [{"kind": "booster", "features": ["context8"]}]},
        {"heads": [{"kind": "booster", "features": ["context8"], "width": 32}]},
        {"heads": [{"kind": "detail", "feature": "stage3", "strides": [2, 4]}]},
        {"heads": [{"kind": "detail", "feature": "stage3", "fusion": "fixed"}]},
        {"heads": [{"kind": "detail", "feature": "stage3", "fusion": "fixed", "form": "released"}]},
    ],
)
def test_the_hash_covers_what_decides_the_weights(change):
    hashes = {
        load_recipe({"name": "stdc-camvid", **other}).hash for other in ({}, change, {"steps": 9, "warmup_steps": 0})
    }
    assert len(hashes) == 3


@pytest.mark.parametrize(
    "setting",
    [
        {"rand_augment": {}},
        {"class_uniform": 0.5},
        {"pseudo": 0.5},
        {"class_weights": [1, 2]},
        {"learning_rate_of": {"head": 2}},
    ],
)
def test_a_setting_that_is_not_made_is_no_part_of_a_recipe(setting):
    """What is on record under a recipe's hash stays so when recipes can do more."""
    assert load_recipe("short-scenes").hash == "adbf2885add5c863"
    (name,) = setting
    recipe = load_recipe({"name": "short-scenes", **setting})
    assert load_recipe({"name": "short-scenes", name: None}).hash == "adbf2885add5c863" != recipe.hash
    assert recipe.deviations == (f"{name} is {recipe.model_dump(mode='json')[name]} instead of None",)
    assert load_recipe(recipe.model_dump(mode="json")) == recipe
    assert name not in Recipe().compared()


def test_the_floor_of_ohem_is_part_of_a_recipe():
    labelled, every = (Recipe(ohem={"at_least": 0.1, "share_of": part}) for part in ("labelled", "all"))
    assert labelled.hash == Recipe(ohem={"at_least": 0.1}).hash != every.hash
    assert load_recipe(every.model_dump(mode="json")) == every


def test_accumulation_is_a_deviation():
    said = "BatchNorm and losses see 4 of a step's 16 images at a time"
    assert Recipe(batch_size=16, accumulation=4).deviations == (said,)
    assert load_recipe({"name": "bisenetv2-camvid", "accumulation": 4}).deviations[-1] == said
    assert Recipe(batch_size=16).deviations == ()


CITY = (1024, 2048)


def test_views_as_the_network_sees_them():
    recipe = load_recipe("stdc-cityscapes")
    half = recipe.on(CITY, 0.5)
    assert (half.crop_size, half.scale_range) == ((512, 1024), (0.125, 1.5))
    assert recipe.on(CITY, 0.75).crop_size == recipe.on(CITY, 1.0).crop_size == (512, 1024)
    whole = recipe.model_copy(update={"crop_size": None})
    assert (whole.on(CITY, 0.75).crop_size, whole.on(CITY, 1.0).crop_size) == ((768, 1536), None)
    assert whole.deviations_on(CITY, 0.75) == whole.deviations
    assert load_recipe("bisenetv2-cityscapes").on(CITY, 0.5).crop_size == (1024, 2048)  # the camera's


@pytest.mark.parametrize(
    ("name", "size", "scale", "crop", "said"),
    [
        ("short-camvid", (64, 128), 1.0, (64, 128), "crops are 128 x 64, because images are smaller than 320 x 240"),
        ("short-camvid", (180, 400), 1.0, (180, 320), "crops are 320 x 180, because images are smaller than 320 x 240"),
        ("short-camvid", (360, 480), 0.5, (240, 320), None),
        ("stdc-cityscapes", CITY, 0.5, (512, 1024), None),
        ("stdc-cityscapes", CITY, 0.25, (256, 512), "crops are 512 x 256, because images are smaller than 1024 x 512"),
        (
            "regseg-camvid",
            (360, 480),
            1.0,
            (360, 480),
            "crops are 480 x 360, because images are smaller than 960 x 720",
        ),
        ("short-scenes", (32, 64), 1.0, None, None),
    ],
)
def test_crops_follow_the_size_of_the_images(name, size, scale, crop, said):
    recipe = load_recipe(name)
    assert recipe.on(size, scale).crop_size == crop
    assert recipe.deviations_on(size, scale) == (*recipe.deviations, *([said] if said else []))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("bisenetv2-cityscape", "unknown recipe 'bisenetv2-cityscape': did you mean 'bisenetv2-cityscapes'?"),
        ({"name": "stdc"}, "unknown recipe 'stdc': did you mean"),
        ({"name": ["x"]}, "unknown recipe"),
        ({"step": 3}, "unknown setting of a recipe 'step': did you mean 'steps'?"),
        ({"name": "stdc-camvid", "steps": 0}, "steps: Input should be greater than or equal to 1, got 0"),
        ({"name": "stdc-camvid", "steps": 100}, "warmup_steps must be below steps"),
        ({"warmup_curve": "exponential"}, "an exponential warm-up needs a warmup_from above 0"),
        ({"batch_size": 10, "accumulation": 4}, "batch_size must be divisible by accumulation"),
        ({"heads": [{"kind": "boost", "features": ["s3"]}]}, "heads.0: Input tag 'boost'"),
        ({"heads": [{"kind": "booster"}]}, "heads.0.booster.features"),
        ({"heads": [{"kind": "detail", "feature": "s3", "strides": [3]}]}, "strides"),
        ({"heads": [{"kind": "detail", "feature": "s3", "form": "released"}]}, "released fusion: set fusion to fixed"),
        ({"ohem": {"probability_below": 0.7, "loss_above": 1}}, "ohem: give one of probability_below and loss_above"),
        (5, "recipe: "),
        ({"class_weights": "enet"}, "class_weights"),
        ({"learning_rate_of": {"head": 0}}, "learning_rate_of.head: Input should be greater than 0, got 0"),
        ({"rand_augment": {"magnitude": 2}}, "rand_augment.magnitude: Input should be less than or equal to 1, got 2"),
        ({"rand_augment": {"operations": 8}}, "rand_augment.operations: Input should be less than or equal to 7"),
        ({"class_uniform": 0}, "class_uniform: Input should be greater than 0, got 0"),
        (
            {"batch_size": 2, "pseudo": 0.1},
            "pseudo must leave each step at least one image with and one without pseudo-labels",
        ),
    ],
)
def test_bad_recipes_say_what_is_wrong(value, said):
    with pytest.raises(UserError) as error:
        load_recipe(value)
    assert said in str(error.value)


STUDY = """\
question: q
expected: e
space: quickstart
data: {{name: scenes}}
objectives: [miou]
recipe: {}
"""


def study(recipe):
    return study_from(parse_yaml(STUDY.format(recipe), Path("x.yaml")), "x").file.recipe


def test_a_study_names_a_recipe():
    assert study("short-scenes") == load_recipe("short-scenes")
    assert study(json.dumps({"name": "short-scenes", "steps": 77})).steps == 77
    assert study("{steps: 77}").name == ""


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("short-scene", "x.yaml:6: recipe: unknown recipe 'short-scene': did you mean 'short-scenes'?"),
        ("{name: short-scenes, steps: 0}", "x.yaml:6: recipe.steps: Input should be greater"),
        ("{name: short-scenes, stepps: 5}", "x.yaml:6: unknown key 'stepps': did you mean 'steps'?"),
    ],
)
def test_a_study_that_names_a_wrong_recipe(recipe, said):
    with pytest.raises(UserError) as error:
        study(recipe)
    assert said in str(error.value)
