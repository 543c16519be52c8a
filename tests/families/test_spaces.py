"""Random samples of every space shipped: each builds, costs, keeps the rules, and is what its settings say."""

import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nasseg.families import make_arch
from nasseg.families.graph.identity import fingerprint
from nasseg.families.graph.recorder import record
from nasseg.files import list_files
from nasseg.measure.cost import cost_of, measure_cost
from nasseg.records import CostProtocol
from nasseg.space import load_space
from tests.slow import slow

SPACES = list(list_files("spaces"))
PAPERS = ("bisenetv2", "composed", "dabnet", "eseg", "papers", "regseg", "stdc")
SIZE, CLASSES = (512, 1024), 7  # neither those of an arch's id


def archs(space, count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        params = space.sample(rng)
        assert space.excluded_by(params) is None
        settings = space.settings(params)
        yield make_arch(settings.pop("family"), **settings)


def check_on_meta(name, count, seed):
    """Each sample builds and costs; equal ids, equal graphs, equal figures, at another size than that of the id."""
    space = load_space(name)
    graphs, ids = {}, {}
    for arch in archs(space, count, seed):
        graph = record(arch.build_meta(CLASSES), SIZE)
        index, number = graph.outputs["logits"]
        assert graph.operators[index].output_shapes[number] == (1, CLASSES, *SIZE)
        cost = cost_of(graph, CostProtocol(input_size=SIZE, num_classes=CLASSES))
        mark = fingerprint(graph)
        graphs.setdefault(arch.id, set()).add((mark, cost.params, cost.macs, cost.field_of_view))
        ids.setdefault(mark, set()).add(arch.id)
    assert all(len(found) == 1 for found in [*graphs.values(), *ids.values()])


def of_zeros(arch):
    """Build a network whose weights are all 0: it runs sooner than on the meta device, where torch computes shapes."""
    model = arch.build_meta(CLASSES).to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    return model


def check_prediction(name, count, seed):
    """What costing says is what torch counts on the built model, odd sizes too."""
    for arch, size in zip(archs(load_space(name), count, seed), [(97, 161), (128, 256)] * count, strict=False):
        cost, model = measure_cost(arch, size, CLASSES), of_zeros(arch)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            logits = model(torch.zeros(1, 3, *size))
        assert logits.shape == (1, CLASSES, *size)
        assert counter.get_total_flops() == 2 * cost.macs
        assert cost.params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", [slow(name) if name in PAPERS[2:] else name for name in SPACES])
def test_samples_build_on_meta(name):
    check_on_meta(name, 1, seed=0)
    check_prediction(name, 1, seed=0)


def share_of(name):
    """Return how many samples of a space are drawn for each one of a paper's own: its networks are those of papers."""
    return 1.0 if name in PAPERS and name != "papers" else 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_many_samples_build_on_meta(name):
    check_on_meta(name, round(100 * share_of(name)), seed=1)
    check_prediction(name, round(15 * share_of(name)), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_samples_run_forward_and_backward(name):
    for index, arch in enumerate(archs(load_space(name), round(10 * share_of(name)), seed=2)):
        torch.manual_seed(index)
        model = arch.build(3)
        model(torch.randn(2, 3, 64, 96)).square().mean().backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None], arch
        assert all(p.grad.isfinite().all() for p in model.parameters()), arch


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_space_is_limited_to_what_may_be_real_time(name):
    """The paper's fast published network keeps the limits at 1024 x 2048, BiSeNetV2-Large does not."""
    fast = {"composed": "composed-stdc2-seg", "eseg": "eseg-s", "papers": "stdc2-seg75", "stdc": "stdc2-seg75"}
    scale = {"bisenetv2": {"input_scale": 0.5}, "composed": {"input_scale": 0.75}}.get(name, {})
    assert within(load_space(name), make_arch(fast.get(name, name), **scale))
    assert not within(load_space(name), make_arch("bisenetv2-large"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_half_of_a_papers_space_keeps_its_limits(name):
    space = load_space(name)
    assert sum(within(space, arch) for arch in archs(space, 40, seed=3)) >= 20


def within(space, arch):
    cost = measure_cost(arch, (1024, 2048), 19)
    assert {*space.limits} == {"macs", "params"}
    return all(getattr(cost, figure) <= limit["max"] for figure, limit in space.limits.items())


def test_the_union_of_the_papers_is_sampled_evenly_over_families():
    space, rng = load_space("papers"), random.Random(0)
    drawn = [space.sample(rng)["family"] for _ in range(3000)]
    assert len(space.families) == 5
    assert all(abs(drawn.count(family) / 3000 - 0.2) < 0.04 for family in space.families)
