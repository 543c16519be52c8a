"""Checkpoints: a training that was interrupted, killed or met a full disk goes on to the same weights, bit by bit."""

import random
import resource
import time
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.processes.children import Child
from nasseg.train import checkpoint, loop
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.loop import train
from nasseg.train.recipe import Recipe

STEPS, POINTS = 9, 3
RECIPES = {
    "sgd, heads, EMA, OHEM": Recipe(
        steps=STEPS,
        batch_size=4,
        scale_range=(0.5, 1.5),
        jitter=0.2,
        ema_decay=0.9,
        warmup_steps=2,
        ohem={"at_least": 0.2},
        heads=[
            {"kind": "booster", "features": ["stem", "s4"], "width": 4},
            {"kind": "detail", "feature": "s3", "width": 4},
        ],
    ),
    "RandAugment, class-uniform": Recipe(
        steps=STEPS,
        batch_size=4,
        crop_size=(24, 48),
        scale_range=(0.5, 1.5),
        rand_augment={},
        class_uniform=0.5,
    ),
    "adamw, fp16, in parts": Recipe(steps=STEPS, batch_size=4, optimizer="adamw", precision="fp16", accumulation=2),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread_and_a_coarse_curve():
    """Points of the curve are means of 3 steps, so that interruptions meet sums that are not finished."""
    threads, points = torch.get_num_threads(), loop._CURVE_POINTS
    torch.set_num_threads(1)
    loop._CURVE_POINTS = POINTS
    yield
    torch.set_num_threads(threads)
    loop._CURVE_POINTS = points


@pytest.fixture(scope="module")
def data():
    """10 images in batches of 4: a round of the images ends inside of a batch."""
    return load_data("scenes", size=(32, 64), train=10, val=6)


class Dropping(nn.Module):
    """A network whose steps draw from torch's own generator; its encoder's features are there for heads."""

    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(0)
        self.inner = make_arch("bisenetv2", width=0.25).build(classes)
        self.encoder, self.context, self.resize = self.inner.encoder, self.inner.context, self.inner.resize

    def forward(self, image):
        return self.inner(nn.functional.dropout(image, 0.2, self.training))


def run(data, recipe, **options):
    model = Dropping(data.num_classes)
    result = train(model, data, recipe, seed=5, evaluate_every=4, **options)
    return result, model.state_dict()


@pytest.fixture(scope="module")
def whole(data):

    class Whole(dict):
        def __missing__(self, name):
            self[name] = run(data, RECIPES[name])
            return self[name]

    return Whole()


def same(one, other):
    (first, weights), (second, again) = one, other
    assert (first.miou, first.curve, first.evaluated) == (second.miou, second.curve, second.evaluated)
    assert first.best.step == second.best.step
    for name, tensor in first.best.weights.items():
        assert torch.equal(tensor, second.best.weights[name])
    assert list(weights) == list(again)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def interrupted_at(number, before=False):
    """A guard that Ctrl-C meets when it is left for the `number`-th time, or before it is entered."""
    left = [number]

    @contextmanager
    def guard():
        left[0] -= 1
        if before and not left[0]:
            raise KeyboardInterrupt
        yield
        if not left[0]:
            raise KeyboardInterrupt

    return guard


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_an_interrupted_training_goes_on_to_the_same_weights(data, whole, tmp_path, name):
    """Interrupted again and again, between steps and inside of evaluations, wherever chance has it.

    The guard is entered 17 times or more in a whole training, so the first one never gets to its end.
    """
    rng, interruptions = random.Random(), 0
    seed = rng.randrange(2**32)
    rng.seed(seed)
    while True:
        kept = Checkpoints(tmp_path / "checkpoint.pt", {"seed": 5})
        try:
            result = run(data, RECIPES[name], checkpoints=kept, guard=interrupted_at(rng.randint(3, 15)))
            break
        except KeyboardInterrupt:
            interruptions += 1
            assert kept.step is not None
    assert interruptions > 0, f"seed {seed}"
    same(whole[name], result)


@pytest.mark.slow
def test_a_second_signal_before_a_network_has_its_own_weights_back_spoils_no_checkpoint(data, whole, tmp_path):
    name = next(name for name in RECIPES if "EMA" in name)
    kept = Checkpoints(tmp_path / "checkpoint.pt", {}, every_steps=3)
    # The beginning, four steps and a checkpoint; the averaged weights, a batch, its end, the best weights: then back.
    with pytest.raises(KeyboardInterrupt):
        run(data, RECIPES[name], checkpoints=kept, guard=interrupted_at(1 + 5 + 4 + 1, before=True))
    assert kept.step == 3
    same(whole[name], run(data, RECIPES[name], checkpoints=Checkpoints(kept.path, {})))


@pytest.mark.slow
def test_a_training_in_two_calls_is_one_training(data, whole, tmp_path):
    (name, recipe), path = next(iter(RECIPES.items())), tmp_path / "checkpoint.pt"
    first = train(Dropping(data.num_classes), data, recipe, seed=5, until=4, checkpoints=Checkpoints(path, {}))
    assert first.evaluated == whole[name][0].evaluated[:1]
    steps = []
    again = run(data, recipe, checkpoints=Checkpoints(path, {}), on_step=lambda step, _loss: steps.append(step))
    assert steps == [5, 6, 7, 8, 9]
    assert again[0].curve == whole[name][0].curve
    assert all(torch.equal(tensor, again[1][key]) for key, tensor in whole[name][1].items())


def test_evaluations_change_no_weights_and_choose_the_best(data, whole):
    (name, recipe) = next(iter(RECIPES.items()))
    model = Dropping(data.num_classes)
    plain = train(model, data, recipe, seed=5)
    result, weights = whole[name]
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())
    assert (plain.best, plain.evaluated) == (None, ((STEPS, plain.miou),))
    assert [step for step, _ in result.evaluated] == [4, 8, 9]
    assert result.best.miou == max(miou for _, miou in result.evaluated)
    assert (result.best.step, result.best.miou) in result.evaluated


def test_a_step_that_is_cut_off_in_its_middle_leaves_the_checkpoint_before_it(data, tmp_path):
    """What is half done cannot be gone on with."""
    kept = Checkpoints(tmp_path / "checkpoint.pt", {}, every_steps=3)
    model = Dropping(data.num_classes)
    model.register_forward_pre_hook(interrupt_after(5))
    with pytest.raises(KeyboardInterrupt):
        train(model, data, Recipe(steps=9, batch_size=2), seed=0, checkpoints=kept)
    assert kept.step == 3
    assert Checkpoints(kept.path, {}).read()["plain"]["step"] == 3


def interrupt_after(calls):
    left = [calls]

    def hook(*_):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return hook


def train_on_and_on(pipe):
    """Train the first few steps, again and again, for a kill may come late."""
    torch.set_num_threads(1)
    loop._CURVE_POINTS = POINTS
    data = load_data("scenes", size=(32, 64), train=10, val=6)
    kept = Checkpoints(pipe.recv(), {"seed": 5}, every_steps=1)
    recipe = next(iter(RECIPES.values()))
    while True:
        train(Dropping(data.num_classes), data, recipe, seed=5, until=6, checkpoints=kept, evaluate_every=4)
        kept.write(kept.step, kept.read())


def killed(path, seconds):
    process = Child(train_on_and_on)
    process.pipe.send(path)
    while not path.exists():
        assert not process.pipe.poll(0.01), "it ended"
    time.sleep(seconds)
    process.kill()


@pytest.mark.slow
def test_a_killed_training_goes_on_from_a_whole_checkpoint(data, whole, tmp_path):
    path = tmp_path / "checkpoint.pt"
    killed(path, random.uniform(0, 0.3))
    (tmp_path / f".{path.name}.1").write_bytes(b"half")  # what a kill in mid-write leaves
    name = next(iter(RECIPES))
    kept = Checkpoints(path, {"seed": 5})
    same(whole[name], run(data, RECIPES[name], checkpoints=kept))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_kills_at_any_time_leave_a_readable_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for _ in range(8):
        killed(path, random.uniform(0, 3))
        assert Checkpoints(path, {"seed": 5}).read() is not None


def test_a_full_disk_leaves_the_last_checkpoint(data, tmp_path):
    kept = Checkpoints(tmp_path / "checkpoint.pt", {}, every_steps=2)
    recipe, soft_hard = Recipe(steps=6, batch_size=2), resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(step, _loss):
        if step == 3:  # the system refuses to write on, as a full disk would
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, soft_hard[1]))

    try:
        with pytest.raises(OSError, match="too large"):
            train(Dropping(data.num_classes), data, recipe, seed=0, checkpoints=kept, on_step=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft_hard)
    assert list(tmp_path.iterdir()) == [kept.path]
    assert Checkpoints(kept.path, {}).read()["plain"]["step"] == 2


def test_when_a_checkpoint_is_due(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint, "monotonic", lambda: now[0])
    kept = Checkpoints(tmp_path / "c.pt", {}, every_steps=10, every_seconds=60)
    kept._since = now[0]
    assert [step for step in (1, 9, 10, 11) if kept.due(step)] == [10, 11]
    kept.write(10, {})
    assert not kept.due(19)
    assert kept.due(20)
    now[0] += 59
    assert not kept.due(11)
    now[0] += 1
    assert kept.due(11)
    assert not Checkpoints(tmp_path / "c.pt", {}).due(1_000_000)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "c.pt"
    Checkpoints(path, {"seed": 1, "recipe": "a"}).write(3, {})
    with pytest.raises(UserError, match="its recipe is 'a', now it is 'b'; remove the file"):
        Checkpoints(path, {"seed": 1, "recipe": "b"}).read()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"is a damaged checkpoint.*remove the file to start again"):
        Checkpoints(path, {"seed": 1}).read()
    torch.save({"state": 1}, path)
    with pytest.raises(UserError, match="of this version"):
        Checkpoints(path, {}).read()


def test_no_bit_of_a_checkpoint_turns_unseen(tmp_path):
    path, rng = tmp_path / "c.pt", random.Random(0)
    Checkpoints(path, {"seed": 1}).write(3, {"weights": torch.arange(500.0), "plain": {"step": 3}})
    whole, head = path.read_bytes(), len(checkpoint._HEAD)
    in_head, after = rng.sample(range(head), 6), rng.sample(range(head, len(whole)), 60)
    for place in [*in_head, *after]:
        turned = bytearray(whole)
        turned[place] ^= 1 << rng.randrange(8)
        path.write_bytes(turned)
        said = "is not a checkpoint of this version of nasseg" if place < head else "is a damaged checkpoint"
        with pytest.raises(UserError, match=said):
            Checkpoints(path, {"seed": 1}).read()
    path.write_bytes(whole)
    assert Checkpoints(path, {"seed": 1}).read()["plain"] == {"step": 3}


def test_a_damaged_checkpoint_is_set_aside_and_said(tmp_path):
    path, said = tmp_path / "c.pt", []
    Checkpoints(path, {"seed": 1}).write(3, {})
    path.write_bytes(path.read_bytes()[:-100])
    cut = path.read_bytes()
    assert Checkpoints(path, {"seed": 1}, on_damaged=said.append).read() is None
    assert not path.exists()
    assert (tmp_path / "c.pt.damaged").read_bytes() == cut
    assert len(said) == 1
    assert "set aside as c.pt.damaged, and the training starts again" in said[0]
    Checkpoints(path, {"seed": 2}).write(3, {})
    with pytest.raises(UserError, match="belongs to another training"):  # whole: whoever wrote it may want it
        Checkpoints(path, {"seed": 1}, on_damaged=said.append).read()
