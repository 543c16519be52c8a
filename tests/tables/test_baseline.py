"""What colour and place alone give: exact where classes follow from them, the commonest class where nothing does."""

import pytest
import torch

from nasseg.data.dataset import DataSet
from nasseg.data.split import Ragged, Split
from nasseg.tables.baseline import baseline, by_colour


def data_of(split: Split) -> DataSet:
    """Return a data set whose training and validation splits are alike."""
    return DataSet("made", ("a", "b", "c"), ((0, 0, 0),) * 3, "f", {"train": lambda: split, "val": lambda: split})


def test_classes_that_follow_from_the_colour_are_found() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 32, 48, 3), dtype=torch.uint8)
    labels = ((images[..., 0] > 127).long() + (images[..., 0] > 191).long()).to(torch.uint8)
    logits = by_colour(data_of(Split(images, labels)), place=False)(images)
    assert logits.shape == (4, 3, 32, 48)
    assert torch.equal(logits.argmax(1), labels.long())
    unseen = by_colour(data_of(Split(images[..., :1].repeat(1, 1, 1, 3), labels)), place=False)
    red = torch.tensor([200, 0, 0], dtype=torch.uint8).expand(1, 2, 2, 3)
    assert (unseen(red).argmax(1) == labels.flatten().mode().values).all()  # the commonest of all


def test_classes_that_follow_from_the_place_are_found() -> None:
    """A grey image says nothing by its colour."""
    labels = torch.zeros(2, 32, 48, dtype=torch.uint8)
    labels[:, 16:] = 1
    labels[:, :, 24:] += 1
    data = data_of(Split(torch.full((2, 32, 48, 3), 90, dtype=torch.uint8), labels))
    found = baseline(data)["val"]
    assert (found["miou"], found["class_iou"]) == (pytest.approx(100), {"a": 100, "b": 100, "c": 100})
    assert (by_colour(data, place=False)(data.val.images).argmax(1) == 1).all()


def test_pixels_that_are_ignored_and_images_of_other_sizes() -> None:
    labels = torch.full((8, 8), 255, dtype=torch.uint8)
    labels[0, 0] = 2
    images = Ragged(torch.full((16 * 16 * 3,), 7, dtype=torch.uint8), ((16, 16),), (3,))
    found = baseline(data_of(Split(images, Ragged(labels.flatten(), ((8, 8),)), (16, 16))))["val"]
    assert (found["miou"], found["class_iou"]) == (100, {"a": None, "b": None, "c": 100})
