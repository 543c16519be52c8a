"""Trainings in turns: all work on the device is done while its lock is held."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasseg.data.dataset import load_data
from nasseg.families import make_arch
from nasseg.train import loop
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.loop import train
from nasseg.train.recipe import Recipe
from tests.families.cheap import CHEAP, SHALLOW

DEVICE = "meta"  # stands in for a GPU: shapes without numbers


class Turns(TorchDispatchMode):
    """Notes each operator on the device that runs while nobody holds it. A copy of it to the CPU is of ones."""

    def __init__(self):
        super().__init__()
        self.held, self.inside, self.outside = False, 0, []

    @contextmanager
    def guard(self):
        assert not self.held, "the inner turn would give the lock of the outer one back"
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = any(one.device.type == DEVICE for one in tensors)
        asked = kwargs.get("device")
        if there or (asked is not None and torch.device(asked).type == DEVICE):
            self.inside += self.held
            if not self.held and func.overloadpacket.__name__ not in (
                "detach",
                "alias",
                "view",
            ):  # which only rename it
                self.outside.append(func.overloadpacket.__name__)
        if there and asked is not None and torch.device(asked).type == "cpu":
            return torch.ones(args[0].shape, dtype=args[0].dtype)
        return func(*args, **kwargs)


class Matrix(loop.ConfusionMatrix):
    """A confusion matrix that counts nothing, where there are no numbers."""

    def update(self, logits, labels):
        self.counts = self.counts.to(labels.device) + 1


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.setattr("nasseg.train.views.ahead.Ahead.read", lambda _ahead, loss, _more: loss.sum() is not None)
    monkeypatch.setattr(loop, "ConfusionMatrix", Matrix)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch, "autocast", lambda *_given, **_settings: nullcontext())
    monkeypatch.setattr(
        loop,
        "make_optimizer",  # the fused ones know no device without numbers
        lambda model, _recipe, heads: torch.optim.SGD([*model.parameters(), *heads.parameters()], 0.1, foreach=False),
    )
    return Turns()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_a_training_works_on_the_device_in_its_turns_only(turns, tmp_path):
    """Weights, data and averages go there, checkpoints and the best weights come back, and evaluations copy both."""
    data = load_data("scenes", size=(32, 64), train=4, val=2)
    recipe = Recipe(steps=4, batch_size=2, ema_decay=0.9, class_weights="inverse_log")
    arch = make_arch("regseg", **{**CHEAP["regseg"], **SHALLOW["regseg"]})
    for until in (2, 4):  # the second goes on from a checkpoint
        model = arch.build(data.num_classes)
        checkpoints = Checkpoints(tmp_path / "checkpoint.pt", {}, every_steps=1)
        with turns:
            train(
                model,
                data,
                recipe,
                seed=0,
                device=DEVICE,
                guard=turns.guard,
                evaluate_every=1,
                checkpoints=checkpoints,
                until=until,
            )
        assert checkpoints.step == until
    assert turns.inside > 1_000
    assert turns.outside == []
