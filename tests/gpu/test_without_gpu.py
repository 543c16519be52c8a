"""Networks, losses, views and steps on a GPU that is not there: shapes and devices, and that nothing waits for it.

What neither waits nor uses a tensor of the CPU can also be captured as a graph.
"""

import pytest
import torch

from nasseg.data.dataset import load_data
from nasseg.families import build_model, make_arch, variants
from nasseg.families.layers import train_mode
from nasseg.train.loop import Training
from nasseg.train.losses import segmentation_loss
from nasseg.train.recipe import Recipe, published_recipes
from nasseg.train.views.ahead import Ahead
from nasseg.train.views.network_input import past_resize
from tests.fake_gpu import fake_gpu
from tests.families.cheap import CHEAP, SHALLOW
from tests.gpu.common import PUBLISHED

SIZE, CLASSES = (64, 128), 19
QUICK = {
    "regseg": "regseg-cityscapes-test",  # RandAugment, class-uniform sampling, hard pixels of all
    "stdc": "stdc-cityscapes",  # heads, details
    "dabnet": "dabnet-camvid",  # weights of the classes
    "eseg": "eseg-cityscapes",  # an average of the weights
}


def forward_and_backward(arch, monkeypatch):
    """Both forms on cuda:0, and a gradient for each weight; return what was waited for."""
    with fake_gpu(monkeypatch, computes=False) as gpu:
        model = build_model(arch, CLASSES).to("cuda:0").eval()
        images = torch.empty(2, 3, *SIZE, device="cuda:0").contiguous(memory_format=torch.channels_last)
        gpu.waits.clear()
        with torch.no_grad():
            logits = model(images)
        whole = (2, CLASSES) if getattr(arch, "form", "") == "classifier" else (2, CLASSES, *SIZE)
        assert logits.shape == whole
        with train_mode(model):
            logits = model(images)
            labels = torch.zeros(2, *logits.shape[2:], dtype=torch.int64, device="cuda:0")
            segmentation_loss(logits, labels).backward()
        assert all(weight.grad is not None and weight.grad.device.type == "cuda" for weight in model.parameters())
        return gpu.waits


@pytest.mark.parametrize("family", SHALLOW)
def test_a_network_of_each_family_waits_for_nothing(family, monkeypatch):
    assert forward_and_backward(make_arch(family, **{**CHEAP[family], **SHALLOW[family]}), monkeypatch) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", variants())
def test_each_published_network_waits_for_nothing(name, monkeypatch):
    assert forward_and_backward(make_arch(name), monkeypatch) == []


def step(recipe, family, monkeypatch, free_bytes=1 << 40):
    """Make two steps of a recipe; return what the second waited for."""
    data = load_data("scenes", size=SIZE, train=4, val=1)
    published = Recipe(name=recipe)
    settings = {"crop_size": SIZE, "batch_size": 4, "accumulation": 1, "init": None, "precision": "fp32"}
    settings |= {"pseudo": None, "label_smoothing": None, "class_weights": published.class_weights and "inverse_log"}
    chosen, read = published.model_copy(update=settings), []
    monkeypatch.setattr(Ahead, "read", lambda _ahead, loss, _more: read.append(loss) or 1.0)
    with fake_gpu(monkeypatch, free_bytes) as gpu:
        model = make_arch(PUBLISHED[family], width=0.25, **SHALLOW[family]).build(data.num_classes)
        training = Training(model, data, chosen, 0, "cuda:0")
        with training.heads.reading(model), train_mode(model, training.heads), past_resize(model, chosen):
            training._step()
            gpu.waits.clear()
            training._step()
    assert [(loss.shape, loss.device.type) for loss in read] == [((), "cuda")] * 2
    assert training.batches.split.images.device.type == ("cuda" if free_bytes else "cpu")
    return gpu.waits


@pytest.mark.parametrize(("family", "recipe"), QUICK.items())
def test_a_step_of_training_waits_for_its_loss_alone(family, recipe, monkeypatch):
    assert step(recipe, family, monkeypatch) == []


def test_data_that_do_not_fit_come_from_pinned_memory(monkeypatch):
    assert step(QUICK["regseg"], "regseg", monkeypatch, free_bytes=0) == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", published_recipes())
def test_each_published_recipe_waits_for_its_loss_alone(recipe, monkeypatch):
    family = recipe.partition("-")[0]
    assert step(recipe, family if family in PUBLISHED else "regseg", monkeypatch) == []
