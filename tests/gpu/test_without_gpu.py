"""Networks, losses, views and steps on a GPU that is not there: nothing waits for it, or needs a tensor of the CPU.

So they can also be captured as a graph. What they compute is tested on the CPU, and on a GPU in `test_numerics.py`.
"""

from contextlib import nullcontext

import pytest
import torch

from nasseg.data.dataset import load_data
from nasseg.families import make_arch, variants
from nasseg.families.layers import train_mode
from nasseg.train import loop
from nasseg.train.losses import segmentation_loss
from nasseg.train.recipe import Recipe, published_recipes
from nasseg.train.views.ahead import Ahead
from nasseg.train.views.network_input import past_resize
from tests.fake_gpu import GPU, waits
from tests.families.cheap import CHEAP, SHALLOW
from tests.gpu.common import PUBLISHED
from tests.slow import slow

SIZE, CLASSES = (64, 128), 19
RECIPES = {
    "regseg": "regseg-cityscapes-test",  # RandAugment, class-uniform sampling, hard pixels of all
    "stdc": "stdc-cityscapes",  # heads, details
    "dabnet": "dabnet-camvid",  # weights of the classes
    "eseg": "eseg-cityscapes",  # an average of the weights
}


def forward_and_backward(arch, monkeypatch):
    """Run both forms, and find a gradient for each weight; return what was waited for."""
    model, images = arch.build_meta(CLASSES), torch.empty(2, 3, *SIZE, device=GPU)
    with waits(monkeypatch) as found:
        with torch.no_grad():
            logits = model(images)
        assert logits.shape == ((2, CLASSES) if getattr(arch, "form", "") == "classifier" else (2, CLASSES, *SIZE))
        with train_mode(model):
            logits = model(images)
            segmentation_loss(logits, torch.zeros(2, *logits.shape[2:], dtype=torch.int64, device=GPU)).backward()
    assert all(weight.grad is not None for weight in model.parameters())
    return found


@pytest.mark.parametrize("family", ["regseg", *map(slow, ("bisenetv2", "composed", "dabnet", "eseg", "stdc"))])
def test_a_network_of_each_family_waits_for_nothing(family, monkeypatch):
    assert forward_and_backward(make_arch(family, **{**CHEAP[family], **SHALLOW[family]}), monkeypatch) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", variants())
def test_each_published_network_waits_for_nothing(name, monkeypatch):
    assert forward_and_backward(make_arch(name), monkeypatch) == []


def plain_sgd(model, _recipe, heads):
    """The fused optimisers, which never look at a number, know no stand-in for a GPU."""
    return torch.optim.SGD([*model.parameters(), *heads.parameters()], lr=0.1, foreach=False)


def step(recipe, family, monkeypatch, fits=True):
    """Make two steps of a recipe; return what the second waited for. fits: the data, into the GPU."""
    data, published = load_data("scenes", size=SIZE, train=4, val=1), Recipe(name=recipe)
    settings = {"crop_size": SIZE, "batch_size": 4, "accumulation": 1, "init": None, "precision": "fp32"}
    settings |= {"pseudo": None, "label_smoothing": None, "class_weights": published.class_weights and "inverse_log"}
    chosen, read = published.model_copy(update=settings), []
    monkeypatch.setattr(Ahead, "read", lambda _ahead, loss, _more: read.append(loss) or 1.0)
    monkeypatch.setattr(loop, "make_optimizer", plain_sgd)
    monkeypatch.setattr(torch, "autocast", lambda *_given, **_settings: nullcontext())
    if not fits:
        monkeypatch.setattr("nasseg.data.split.Split.to", lambda split, _device: split)
    model = make_arch(PUBLISHED[family], **{**CHEAP[family], **SHALLOW[family]}).build(data.num_classes)
    training = loop.Training(model, data, chosen, 0, GPU)
    with (
        training.heads.reading(model),
        train_mode(model, training.heads),
        past_resize(model, chosen),
        waits(monkeypatch) as found,
    ):
        training._step()
        found.clear()
        training._step()
    assert [(loss.shape, loss.device.type) for loss in read] == [((), GPU)] * 2
    assert training.batches.split.images.device.type == (GPU if fits else "cpu")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", ["regseg", "stdc", "dabnet", "eseg"])
def test_a_step_of_training_waits_for_its_loss_alone(family, monkeypatch):
    assert step(RECIPES[family], family, monkeypatch) == []


@pytest.mark.slow
def test_data_that_do_not_fit_come_from_pinned_memory(monkeypatch):
    assert step(RECIPES["regseg"], "regseg", monkeypatch, fits=False) == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", published_recipes())
def test_each_published_recipe_waits_for_its_loss_alone(recipe, monkeypatch):
    family = recipe.partition("-")[0]
    assert step(recipe, family if family in PUBLISHED else "regseg", monkeypatch) == []


def test_what_is_waited_for_is_seen(monkeypatch):
    there, here = torch.zeros(3, device=GPU), torch.zeros(3)
    with waits(monkeypatch) as found:
        here.to(GPU)
        torch.where(there > 0, there, torch.tensor(1.0))
        there[torch.tensor([0, 1])]
    assert [one.partition(" ")[0] for one in found] == ["an", "aten.where.self", "aten.index.Tensor"]
    with waits(monkeypatch) as found:
        here.pin_memory().to(GPU, non_blocking=True)
        there + torch.tensor(1.0)
        assert found == []
        for look in (torch.Tensor.item, torch.nonzero, lambda x: x[x > 0]):
            with pytest.raises((RuntimeError, NotImplementedError)):
                look(there.sum() if look is torch.Tensor.item else there)
