"""Random samples of every space shipped: each builds, costs, keeps the rules, and is what its settings say."""

import random

import pytest
import torch

from nasseg.families import make_arch
from nasseg.files import list_files
from nasseg.measure.cost import measure_cost
from nasseg.space import load_space

SPACES = list(list_files("spaces"))
SIZE = (97, 161)


def archs(space, count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        params = space.sample(rng)
        assert space.excluded_by(params) is None
        settings = space.settings(params)
        yield make_arch(settings.pop("family"), **settings)


def check_on_meta(name, count, seed):
    space, ids = load_space(name), {}
    for arch in archs(space, count, seed):
        cost = measure_cost(arch, SIZE, 5)
        model = arch.build_meta(5)
        assert model(torch.empty(1, 3, *SIZE, device="meta")).shape == (1, 5, *SIZE)
        assert cost.params == sum(p.numel() for p in model.parameters())
        assert cost.macs > 0
        ids.setdefault(arch.id, set()).add((cost.params, cost.macs, cost.field_of_view))
    assert all(len(figures) == 1 for figures in ids.values())


@pytest.mark.parametrize("name", SPACES)
def test_samples_build_on_meta(name):
    check_on_meta(name, 12, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_many_samples_build_on_meta(name):
    check_on_meta(name, 100, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_samples_run_forward_and_backward(name):
    for index, arch in enumerate(archs(load_space(name), 4, seed=2)):
        torch.manual_seed(index)
        model = arch.build(3)
        model(torch.randn(2, 3, 64, 96)).square().mean().backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None], arch


def test_the_union_of_the_papers_is_sampled_evenly_over_families():
    space, rng = load_space("papers"), random.Random(0)
    drawn = [space.sample(rng)["family"] for _ in range(3000)]
    assert len(space.families) == 5
    assert all(abs(drawn.count(family) / 3000 - 0.2) < 0.04 for family in space.families)
