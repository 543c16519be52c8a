"""Every published variant and every recipe on a GPU, by the checks of the agenda's step `networks`."""

import gc

import pytest
import torch

from nasseg.data.dataset import load_data
from nasseg.families import make_arch, variants
from nasseg.train.recipe import Recipe
from tests.gpu.common import FAMILIES, Options
from tests.gpu.steps.networks import CHECKS, recipe_step, recipes_of

pytestmark = pytest.mark.slow


@pytest.fixture
def options(device):
    yield Options(device, tiny=False)
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.parametrize("name", variants())
def test_every_variant_runs(options, name):
    arch = make_arch(name)
    for check in CHECKS.values():
        check(arch, options)


@pytest.mark.parametrize(("family", "recipe"), [(family, name) for family in FAMILIES for name in recipes_of(family)])
def test_every_recipe_makes_a_step(options, family, recipe):
    data = load_data("scenes", size=(128, 256), train=48, val=1)
    settings = {"batch_size": 2, "accumulation": 1}  # at their own batch sizes: the agenda, which says what fits
    recipe_step(Recipe(name=recipe).model_copy(update=settings), family, options, data)
