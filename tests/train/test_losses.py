"""Losses against values worked out by hand and against the papers' equations."""

from math import log

import pytest
import torch
from pydantic import ValidationError

from nasseg.data.dataset import DataSet
from nasseg.data.split import Split
from nasseg.errors import UserError
from nasseg.train.losses import (
    class_weights,
    cross_entropy,
    detail_loss,
    detail_maps,
    dice_loss,
    mean_of_hard,
    segmentation_loss,
    unread_mean_of_hard,
)
from nasseg.train.recipe import OHEM, Recipe

# Of the right class at four pixels, and so losses of 0.105361, 0.510826, 0.693147, 2.302585; four more are ignored.
PROBABILITIES = (0.9, 0.6, 0.5, 0.1)


def four_pixels():
    probabilities = torch.tensor([*PROBABILITIES, *[1e-6] * 4])
    logits = torch.stack([probabilities, 1 - probabilities]).log().reshape(1, 2, 2, 4)
    return logits, torch.tensor([[[0] * 4, [255] * 4]])


@pytest.mark.parametrize(
    ("ohem", "loss"),
    [
        (None, 0.902_980),  # all four
        ({"probability_below": 0.7}, 1.168_853),  # 0.6, 0.5, 0.1
        ({"probability_below": 0.55}, 1.497_866),  # 0.5, 0.1
        ({"loss_above": 0.3}, 1.168_853),  # RegSeg's: 0.511, 0.693, 2.303
        ({"loss_above": 0.6}, 1.497_866),
        ({"loss_above": 9.0, "at_least": 0.5}, 1.497_866),  # none is hard: the higher half
        ({"probability_below": 0.01, "at_least": 0.75}, 1.168_853),
        ({"probability_below": 0.2, "at_least": 0.5}, 1.497_866),  # one is hard, two are wanted
        ({"loss_above": 9.0}, 2.302_585),  # 1/16 of 4, but at least one
        ({"at_least": 0.5}, 1.497_866),  # no threshold
    ],
)
def test_hard_pixels_by_hand(ohem, loss):
    logits, labels = four_pixels()
    assert segmentation_loss(logits, labels, OHEM(**ohem) if ohem else None).item() == pytest.approx(loss, abs=2e-6)


@pytest.mark.parametrize("share_of", ["labelled", "all"])
@pytest.mark.parametrize("threshold", [{"probability_below": 0.5}, {"loss_above": 9.0}, {"loss_above": 1.2}, {}])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.97, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_gpu_that_is_not_looked_at_takes_the_same_pixels(share_of, threshold, ignored, weighted):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 16, 16, generator=generator, requires_grad=True)
    labels = torch.randint(0, 3, (2, 16, 16), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    ohem, weights = OHEM(share_of=share_of, **threshold), torch.tensor([0.5, 0.0, 2.0]) if weighted else None
    losses = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    expected, found = (
        segmentation_loss(logits, labels, ohem, weights),
        unread_mean_of_hard(losses, labels, ohem, weights),
    )
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (expected, found)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("ohem", "loss"),
    [
        (None, (0.105361 + 0.510826 + 3 * (0.693147 + 2.302585)) / 8),
        ({"probability_below": 0.7}, (0.510826 + 3 * (0.693147 + 2.302585)) / 7),  # by probability, whatever the weight
        ({"loss_above": 9.0, "at_least": 0.75, "share_of": "labelled"}, (0.510826 + 3 * (0.693147 + 2.302585)) / 7),
    ],
)
def test_class_weights_by_hand(ohem, loss):
    """Classes 0, 0, 1, 1 with weights 1 and 3, and four ignored pixels; torch's own mean where nothing is mined."""
    logits, labels = four_pixels()
    logits[0, :, 0, 2:] = logits[0, :, 0, 2:].flip(0)
    labels[0, 0, 2:] = 1
    weights = torch.tensor([1.0, 3.0])
    found = segmentation_loss(logits, labels, OHEM(**ohem) if ohem else None, weights).item()
    assert found == pytest.approx(loss, abs=2e-6)
    if ohem is None:
        torchs = torch.nn.functional.cross_entropy(logits, labels, weights, ignore_index=255)
        assert found == pytest.approx(torchs.item())


def test_class_weights_from_the_training_split():
    """Class 0 has 3 of 4 labelled pixels, class 1 one, class 2 none."""
    labels = torch.tensor([[[0, 0]], [[0, 255]], [[1, 255]]], dtype=torch.uint8)
    split = Split(torch.zeros(3, 1, 2, 3, dtype=torch.uint8), labels)
    data = DataSet("own", ("a", "b", "c"), ((0, 0, 0),) * 3, "f", {"train": lambda: split})
    found = class_weights(Recipe(class_weights="inverse_log"), data)
    assert found.tolist() == pytest.approx([1 / log(1.77), 1 / log(1.27), 1 / log(1.02)], rel=1e-5)
    assert class_weights(Recipe(class_weights=(1, 2, 3)), data).tolist() == [1, 2, 3]
    assert class_weights(Recipe(), data) is None
    with pytest.raises(UserError, match="class_weights has 2 values, but own has 3 classes: give one for each class"):
        class_weights(Recipe(class_weights=(1, 2)), data)


def test_hard_pixels_are_chosen_by_loss_not_by_place():
    losses = torch.tensor([0.1, 3.0, 0.2, 1.0])
    assert mean_of_hard(losses, 0.5, 1).item() == 2.0
    assert mean_of_hard(losses.flip(0), 5.0, 2).item() == 2.0


@pytest.mark.parametrize(("share_of", "count"), [("labelled", 1), ("all", 3)])
def test_the_floor_counts_labelled_or_all_pixels(share_of, count):
    """A quarter of 4 labelled pixels, or of all 12: the highest one, or three, by a sort."""
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 2, 6), torch.full((1, 2, 6), 255)
    labels[0, 0, :4] = torch.tensor([0, 1, 2, 0])
    losses = [-logits[0, :, 0, n].log_softmax(0)[labels[0, 0, n]].item() for n in range(4)]
    ohem = OHEM(loss_above=99, at_least=0.25, share_of=share_of)
    expected = sum(sorted(losses)[-count:]) / count
    assert segmentation_loss(logits, labels, ohem).item() == pytest.approx(expected, rel=1e-6)
    labels[0, 0, 1:] = 255  # fewer are labelled than the floor asks for: those that are
    assert segmentation_loss(logits, labels, ohem).item() == pytest.approx(losses[0], rel=1e-6)


@pytest.mark.parametrize("ohem", [None, OHEM(probability_below=0.7)])
def test_without_labels_the_loss_is_zero_and_so_is_its_gradient(ohem):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 2, 2), 255), ohem)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_only_hard_pixels_get_a_gradient():
    logits, labels = four_pixels()
    logits.requires_grad_()
    segmentation_loss(logits, labels, OHEM(probability_below=0.55)).backward()
    assert (logits.grad.abs().sum(1)[0] > 0).tolist() == [[False, False, True, True], [False] * 4]


@pytest.mark.parametrize(
    "bad",
    [{"probability_below": 1.0}, {"loss_above": -1}, {"at_least": 0}, {"probability_below": 0.7, "loss_above": 1}],
)
def test_bad_settings_of_ohem(bad):
    with pytest.raises(ValidationError):
        OHEM(**bad)


def test_cross_entropy_is_torchs_mean():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 4, 6), torch.randint(0, 5, (2, 4, 6))
    labels[0, 1] = 255
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
    assert cross_entropy(logits, labels).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("ohem", [None, OHEM(probability_below=0.7)])
def test_gradients_keep_the_layout_of_the_network(ohem):
    """And are those of logits in planes, bit by bit."""
    torch.manual_seed(0)
    logits, labels, found = torch.randn(2, 5, 4, 6), torch.randint(0, 5, (2, 8, 12)), []
    for layout in (torch.channels_last, torch.contiguous_format):
        small = logits.contiguous(memory_format=layout).requires_grad_()
        large = torch.nn.functional.interpolate(small, (8, 12), mode="bilinear")
        large.register_hook(lambda gradient: found.append(gradient))
        segmentation_loss(large * 1, labels, ohem).backward()
        assert found[-1].is_contiguous(memory_format=layout)
    assert torch.equal(*found)


def test_dice_by_hand():
    """Eq. 5 with epsilon = 1: 1 - (2 * 1 + 1) / (1.25 + 2 + 1) = 5/17, and 0 for an empty map that is right."""
    predicted = torch.tensor([[[1.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert dice_loss(predicted[:1], target[:1]).item() == pytest.approx(5 / 17)
    assert dice_loss(predicted[1:], target[1:]).item() == 0
    assert dice_loss(predicted, target).item() == pytest.approx(5 / 34)


def test_detail_loss_by_hand():
    """Eq. 4 at three pixels of probability 1/2, one of them detail: ln 2 + 1 - (1 + 1) / (3/4 + 1 + 1)."""
    labels = torch.tensor([[[0, 0], [0, 255]]])
    logits, target = torch.tensor([[[0.0, 0.0], [0.0, 9.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert detail_loss(logits, target, labels).item() == pytest.approx(log(2) + 1 - 2 / 2.75)


# The edge is on the side of the higher class. What is ignored (row 3) is none, and makes none.
LABELS = [
    [0, 0, 1, 1, 3],
    [0, 0, 1, 1, 1],
    [0, 0, 1, 1, 1],
    [0, 255, 255, 1, 1],
    [2, 2, 2, 1, 1],
]
STRIDE_1 = [
    [0, 0, 1, 0, 1],
    [0, 0, 1, 0, 0],
    [0, 0, 1, 0, 0],
    [0, 0, 0, 0, 0],
    [1, 1, 1, 0, 0],
]
# Rows and columns 0, 2, 4 of the above, each spread over the pixels that are nearest to it: 0-1, 2-3, 4 of 5.
STRIDE_2 = [
    [0, 0, 1, 1, 1],
    [0, 0, 1, 1, 1],
    [0, 0, 1, 1, 0],
    [0, 0, 1, 1, 0],
    [1, 1, 1, 1, 0],
]


def test_laplacian_targets_by_hand():
    found = detail_maps(torch.tensor([LABELS]), (1, 2, 4))
    assert found.shape == (1, 3, 5, 5)
    assert found[0, 0].tolist() == STRIDE_1
    assert found[0, 1].tolist() == STRIDE_2
    assert found[0, 2].tolist() == [[0, 0, 0, 1, 1]] * 3 + [[1, 1, 1, 0, 0]] * 2  # its four corners


def test_the_targets_are_the_laplacian_kernels():
    """Inside of a map without ignored pixels: the convolution with 8 amid -1, positive."""
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 12, 16))
    kernel = torch.full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 8
    response = torch.nn.functional.conv2d(labels[:, None].float(), kernel)
    assert torch.equal(detail_maps(labels, (1,))[:, 0, 1:-1, 1:-1], (response[:, 0] > 0.1).float())
