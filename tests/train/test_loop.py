"""Training: views, schedules, one seed one result, and an end that is said when the loss is no number."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nasseg.data.dataset import load_data
from nasseg.data.split import Ragged, Split
from nasseg.errors import UserError
from nasseg.families import make_arch
from nasseg.measure.accuracy import ConfusionMatrix
from nasseg.train.checkpoint import Checkpoints
from nasseg.train.loop import Diverged, evaluate, make_optimizer, scores_of, train
from nasseg.train.losses import cross_entropy
from nasseg.train.optimizer import Average
from nasseg.train.pictures import predicted
from nasseg.train.recipe import Recipe
from nasseg.train.views.augment import Augment
from nasseg.train.views.network_input import normalise
from nasseg.train.weights import save_weights


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data():
    return load_data("scenes", size=(32, 64), train=24, val=8)


def network(classes, seed=0):
    torch.manual_seed(seed)
    return make_arch("bisenetv2", width=0.25).build(classes)


def test_miou_is_torchmetrics_macro_jaccard():
    torch.manual_seed(0)
    labels, logits = torch.randint(0, 5, (4, 20, 30)), torch.randn(4, 6, 20, 30)
    logits[:, 5] = -100  # class 5 occurs nowhere
    labels[:, :3] = 255
    matrix = ConfusionMatrix(6)
    for part in range(2):
        matrix.update(logits[2 * part : 2 * part + 2], labels[2 * part : 2 * part + 2])
    from torchmetrics.classification import MulticlassJaccardIndex  # slow to import

    oracle = MulticlassJaccardIndex(6, average="macro", ignore_index=255)
    assert matrix.miou == pytest.approx(100 * oracle(logits, labels).item(), abs=1e-4)
    assert matrix.class_iou[5] is None


def test_miou_by_hand():
    """Truth 0 0 1 1, predicted 0 1 1 1: IoU 1/2 and 2/3."""
    matrix = ConfusionMatrix(2)
    predicted = torch.tensor([0, 1, 1, 1])
    matrix.update(nn.functional.one_hot(predicted, 2).float().T.reshape(1, 2, 1, 4), torch.tensor([[[0, 0, 1, 1]]]))
    assert matrix.class_iou == pytest.approx([50, 200 / 3])
    assert matrix.miou == pytest.approx(175 / 3)
    assert matrix.pixel_accuracy == 75


@pytest.mark.parametrize("label", [3, 254, 256, 300])
def test_a_label_that_is_no_class_is_refused(label):
    matrix, labels = ConfusionMatrix(3), torch.tensor([[[0, 255, 2, label]]])
    with pytest.raises(UserError, match=f"a label is above 2: {label}"):
        matrix.update(torch.zeros(1, 3, 1, 4), labels)


def test_a_pixel_whose_logits_are_nan_is_wrong_and_counted():
    """Truth 0 0 1 1 as predicted, but for the first, which has no prediction: IoU 1/2 and 1."""
    matrix, labels = ConfusionMatrix(2), torch.tensor([[[0, 0, 1, 1]]])
    logits = nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2).float()
    logits[0, 1, 0, 0] = torch.nan
    matrix.update(logits, labels)
    assert matrix.class_iou == pytest.approx([50, 100])
    assert matrix.pixel_accuracy == 75
    assert scores_of(matrix, ("a", "b")).unpredicted == 1


def test_without_zoom_flip_and_jitter_a_view_is_the_image(data):
    augment = Augment(Recipe(scale_range=(1.0, 1.0), flip=False, jitter=0.0))
    images, labels = data.train.images[:2], data.train.labels[:2]
    views, targets = augment(images, labels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(views, normalise(images), atol=1e-3, rtol=0)
    assert torch.equal(targets, labels.long())


def test_labels_move_with_their_images():
    """The image is its own label, so that under any view both must agree wherever there is a label."""
    labels = torch.zeros(6, 40, 60, dtype=torch.uint8)
    labels[:, 10:30, 20:50] = 1
    images = (labels * 255)[..., None].expand(-1, -1, -1, 3).contiguous()
    augment = Augment(Recipe(scale_range=(0.5, 2.0), crop_size=(32, 48)))
    views, targets = augment(images, labels, torch.Generator().manual_seed(1))
    assert views.shape == (6, 3, 32, 48)
    bright = views[:, 0] > normalise(torch.full((1, 1, 1, 3), 128, dtype=torch.uint8))[0, 0, 0, 0]
    kept = targets != 255
    assert (bright == (targets == 1))[kept].float().mean() > 0.97
    assert (targets == 255).any()


@pytest.mark.parametrize(
    ("schedule", "rates"), [("poly", [1.0, 0.5**0.9]), ("cosine", [1.0, 0.5]), ("constant", [1.0, 1.0])]
)
def test_schedules(schedule, rates):
    recipe = Recipe(steps=110, warmup_steps=10, learning_rate=1.0, schedule=schedule)
    assert [recipe.learning_rate_at(10), recipe.learning_rate_at(60)] == pytest.approx(rates)
    assert recipe.learning_rate_at(0) == pytest.approx(1 / 11)


def test_vectors_are_not_decayed():
    groups = make_optimizer(network(3), Recipe()).param_groups
    assert all(p.ndim > 1 for p in groups[0]["params"])
    assert all(p.ndim == 1 for p in groups[1]["params"])
    assert groups[1]["weight_decay"] == 0


def test_ignored_pixels_cost_nothing():
    logits, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 255], [255, 255]]])
    assert cross_entropy(logits, labels).item() == pytest.approx(-logits[0, :, 0, 0].log_softmax(0)[0].item())
    assert cross_entropy(logits, torch.full((1, 2, 2), 255)).item() == 0


def test_one_seed_one_result(data):
    recipe = Recipe(steps=4, batch_size=4, scale_range=(0.5, 1.5), jitter=0.2, ema_decay=0.9)
    results = []
    for seed in (1, 1, 2):
        model = network(data.num_classes)
        results.append((train(model, data, recipe, seed=seed), model.state_dict()))
    (first, weights), (again, same), (_, other) = results
    assert (first.miou, first.curve) == (again.miou, again.curve)
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert not all(torch.equal(weights[name], other[name]) for name in weights)


def test_steps_and_guards_are_counted(data):
    steps, entered = [], []

    class Guard:
        def __enter__(self):
            entered.append(1)

        def __exit__(self, *_):
            pass

    train(
        network(data.num_classes),
        data,
        Recipe(steps=3, batch_size=4, eval_batch_size=4),
        seed=0,
        on_step=lambda step, loss: steps.append(step),
        guard=Guard,
    )
    assert steps == [1, 2, 3]
    assert len(entered) == 1 + 3 + 2 + 1  # the beginning, steps, batches of the evaluation, and its end


def test_classes_of_the_images_asked_for_are_those_of_the_last_evaluation(data, tmp_path):
    recipe, model = Recipe(steps=3, batch_size=2, eval_batch_size=3), network(data.num_classes)
    found = train(model, data, recipe, seed=0, predict=(2, 5)).predicted
    assert set(found) == {2, 5}
    for number, classes in found.items():
        assert classes.dtype == torch.uint8
        assert np.array_equal(classes, predicted(model, data.val, number))
    # A training that was stopped after its last step, and before its evaluation, gives them, too.
    checkpoints = Checkpoints(tmp_path / "checkpoint.pt", {})
    train(network(data.num_classes), data, recipe, seed=0, checkpoints=checkpoints)
    resumed = train(network(data.num_classes, 1), data, recipe, seed=0, checkpoints=checkpoints, predict=(2, 5))
    assert torch.equal(resumed.predicted[5], found[5])


@pytest.mark.slow
def test_classes_of_labels_of_another_size_have_that_size(data):
    labels = [torch.zeros(20 + k, 30, dtype=torch.uint8) for k in range(len(data.val))]
    flat = Ragged(torch.cat([label.flatten() for label in labels]), tuple(tuple(label.shape) for label in labels))
    split, kept = Split(data.val.images, flat, data.val.size), {4: torch.empty(0)}
    evaluate(network(data.num_classes), split, data.num_classes, batch_size=3, predicted=kept)
    assert kept[4].shape == (24, 30)


def test_training_learns(data):
    recipe = Recipe(steps=40, batch_size=8, learning_rate=0.05)
    result = train(network(data.num_classes), data, recipe, seed=0)
    assert result.curve[-1][1] < 0.8 * result.curve[0][1]
    assert result.miou > 100 / data.num_classes / 2


def test_a_loss_that_is_no_number_ends_training(data):
    recipe = Recipe(steps=50, batch_size=4, learning_rate=1e30, schedule="constant")
    with pytest.raises(Diverged, match="the loss of step"):
        train(network(data.num_classes), data, recipe, seed=0)


class Pixelwise(nn.Sequential):
    """A classifier of pixels without BatchNorm, so that its losses can be foreseen."""

    def __init__(self, classes):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, classes, 1))


def test_an_exploding_loss_ends_training(data):
    """Finite, and yet a thousand times the first loss."""
    recipe = Recipe(steps=50, batch_size=4, learning_rate=1e6, schedule="constant")
    with pytest.raises(Diverged, match="the loss of step 2 is") as error:
        train(Pixelwise(data.num_classes), data, recipe, seed=0)
    assert 2_000 < error.value.loss < float("inf")


def test_a_part_learns_at_its_own_rate(data):
    """One step without momentum: ten times as far at a factor of ten, and the other parts as far as before."""
    moved = []
    for factor in (1.0, 10.0):
        model = network(data.num_classes)
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        recipe = Recipe(steps=1, batch_size=2, momentum=0, weight_decay=0, learning_rate_of={"head": factor})
        train(model, data, recipe, seed=0)
        moved.append({name: weight.detach() - before[name] for name, weight in model.named_parameters()})
    for name, way in moved[0].items():
        expected = 10 * way if name.startswith("head.") else way
        torch.testing.assert_close(moved[1][name], expected, rtol=1e-3, atol=1e-6)


def test_class_weights_count_in_training(data):
    """A loss in which one class alone counts is that class's own."""
    only = tuple(float(number == 1) for number in range(data.num_classes))
    model = Pixelwise(data.num_classes)
    recipe = Recipe(steps=1, batch_size=len(data.train), crop_size=None, flip=False, class_weights=only)
    loss = train(model, data, recipe, seed=0).curve[0][1]
    labels = torch.where(data.train.labels == 1, 1, 255).long()
    expected = cross_entropy(Pixelwise(data.num_classes)(normalise(data.train.images)), labels).item()
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_step_in_parts_is_the_same_step(data, optimizer):
    """Where there is no BatchNorm and every pixel is labelled; the labels are as many in every part."""
    split = replace(data.train, labels=data.train.labels.clamp(max=data.num_classes - 1))
    labelled = replace(data, sources={**data.sources, "train": lambda: split}, _read={})
    weights = []
    for parts in (1, 4):
        model = Pixelwise(data.num_classes)
        recipe = Recipe(steps=5, batch_size=8, accumulation=parts, learning_rate=0.1, optimizer=optimizer)
        weights.append((train(model, labelled, recipe, seed=0).curve, model[0].weight.detach()))
    (curve, whole), (curve_in_parts, in_parts) = weights
    torch.testing.assert_close(in_parts, whole)
    assert curve_in_parts[-1][1] == pytest.approx(curve[-1][1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_keeps_fp32_weights(data, precision):
    """The loss scaler skips the first steps of fp16, whose scaled gradients overflow."""
    curves = []
    for p in ("fp32", precision):
        model = network(data.num_classes)
        recipe = Recipe(steps=16, batch_size=4, precision=p, ema_decay=0.9)
        curves.append([loss for _, loss in train(model, data, recipe, seed=0).curve])
    full, half = curves
    assert half[0] == pytest.approx(full[0], rel=0.01)
    assert half != full
    assert half[-1] < 0.8 * half[0]
    assert all(weight.dtype == torch.float32 for weight in model.state_dict().values() if weight.is_floating_point())


def test_the_moving_average_by_hand():
    """From 1, after steps to 2 and 3: a decay of 1/10 at first, then the recipe's (below 2/11); counters are copied."""
    model = nn.BatchNorm2d(1)
    average = Average(model, 0.15)
    for step, value, mean in ((1, 2.0, 1.9), (2, 3.0, 0.15 * 1.9 + 0.85 * 3)):
        nn.init.constant_(model.weight, value)
        model.num_batches_tracked += 1
        average.update(step)
        assert average.state["weight"].item() == pytest.approx(mean)
    assert average.state["num_batches_tracked"] == 2


def test_hard_pixels_are_mined_in_training(data):
    losses = []
    for ohem in (None, {"at_least": 0.1}):
        model = Pixelwise(data.num_classes)
        losses.append(train(model, data, Recipe(steps=1, batch_size=4, ohem=ohem), seed=0).curve[0][1])
    assert losses[1] > 1.2 * losses[0]


def test_views_follow_the_networks_input_scale(data):
    """A crop of 16 x 32 as the network sees it is not resized again; frames that it is evaluated on are."""
    seen = []
    model = make_arch("bisenetv2", width=0.25, input_scale=0.5).build(data.num_classes)
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    for views in ("network", "camera"):
        train(model, data, Recipe(steps=1, batch_size=2, crop_size=(16, 32), views=views), seed=0)
    assert seen == [(16, 32), (16, 32), (8, 16), (16, 32)]
    assert model.input_scale == 0.5


def test_no_view_is_larger_than_the_images(data):
    """Which are of 32 x 64: else most of each view were grey and ignored."""
    seen = []
    model = Pixelwise(data.num_classes)
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    train(model, data, Recipe(steps=2, batch_size=4, crop_size=(48, 512), flip=False), seed=0)
    views = seen[:2]
    assert [tuple(view.shape[2:]) for view in views] == [(32, 64)] * 2
    images = normalise(data.train.images)
    assert all((images == one).flatten(1).all(1).any() for view in views for one in view)


def test_a_model_for_other_classes_is_refused(data):
    with pytest.raises(UserError, match="build the model for"):
        train(network(3), data, Recipe(steps=1), seed=0)


@pytest.mark.parametrize(
    "bad",
    [{"steps": 0}, {"learning_rate": float("nan")}, {"scale_range": (2.0, 1.0)}, {"warmup_steps": 300}, {"step": 1}],
)
def test_bad_recipes_are_refused(bad):
    with pytest.raises(ValidationError):
        Recipe(**bad)


def test_weights_are_written_whole(tmp_path):
    model = network(3)
    digest = save_weights(model, tmp_path / "deep" / "last.pt")
    assert len(digest) == 64
    loaded = torch.load(tmp_path / "deep" / "last.pt", weights_only=True)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        save_weights(model, tmp_path / "file" / "last.pt")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["file", "last.pt"]
