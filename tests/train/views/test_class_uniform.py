"""Class-uniform sampling: where classes are, that they are drawn evenly, and that views hold what was drawn."""

import pytest
import torch

from nasseg.data.dataset import DataSet, load_data
from nasseg.data.split import Split
from nasseg.errors import UserError
from nasseg.train.loop import train
from nasseg.train.recipe import Recipe
from nasseg.train.views.augment import Augment
from nasseg.train.views.batches import Batches
from nasseg.train.views.class_uniform import class_centres
from tests.train.test_loop import Pixelwise


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def split_of(labels):
    return Split(torch.zeros(*labels.shape, 3, dtype=torch.uint8), labels)


def data_of(labels, classes):
    split = split_of(labels)
    names = tuple(map(str, range(classes)))
    return DataSet("own", names, ((0, 0, 0),) * classes, "f", {"train": lambda: split, "val": lambda: split})


def test_centres_by_hand():
    """4 x 8 pixels are two tiles of 4 x 4. Class 1 is in both, class 3 in the right one, 255 is none."""
    labels = torch.full((2, 4, 8), 255, dtype=torch.uint8)
    labels[1, 0:2, 0:4] = 1
    labels[1, 3, 5:8] = 1
    labels[1, 0, 4] = labels[1, 2, 6] = 3
    found = class_centres(split_of(labels))
    assert found.begins.tolist() == [0, 2, 3]
    assert found.images.tolist() == [1, 1, 1]
    assert found.places.tolist() == [[1, 2], [3.5, 6.5], [1.5, 5.5]]
    standing = class_centres(split_of(labels.transpose(1, 2).contiguous()))
    assert standing.places.tolist() == [[2, 1], [6.5, 3.5], [5.5, 1.5]]


def test_classes_are_drawn_evenly_however_rare():
    """Class 0 nearly everywhere, 2 in three images, 5 in one pixel of one, 1 nowhere."""
    labels = torch.zeros(50, 16, 16, dtype=torch.uint8)
    labels[7, 3, 4] = 5
    labels[20:23, :2, :2] = 2
    images, places = class_centres(split_of(labels)).draw(6000, torch.Generator().manual_seed(0))
    rare, some = (images == 7) & (places == torch.tensor([3.5, 4.5])).all(1), (places == 1.0).all(1)
    assert abs(int(rare.sum()) - 2000) < 150  # four standard deviations
    assert abs(int(some.sum()) - 2000) < 150
    assert (torch.bincount(images[some], minlength=23)[20:] - 667).abs().max() < 110
    others = images[~rare & ~some]
    assert len(others.unique()) == 50


def test_without_labels_nothing_can_be_drawn():
    with pytest.raises(UserError, match="class_uniform needs labelled pixels"):
        class_centres(split_of(torch.full((1, 4, 4), 255, dtype=torch.uint8)))


def test_half_of_the_images_are_drawn_so():
    labels = torch.zeros(10, 16, 16, dtype=torch.uint8)
    labels[3, 8, 8] = 1
    batches = Batches(
        data_of(labels, 2), Recipe(batch_size=20, class_uniform=0.5), torch.Generator().manual_seed(0), "cpu"
    )
    given = []
    batches.split = type("Seen", (), {"batch": lambda _, chosen, device: given.append(chosen)})()
    places = torch.cat([batches.next()[1] for _ in range(100)])
    even, chosen = ~places.isnan().any(1), torch.cat(given)
    assert abs(int(even.sum()) - 1000) < 90
    assert abs(int((chosen[even] == 3).sum()) - 0.55 * even.sum()) < 70  # half for class 1, and a tenth of the others
    assert torch.bincount(chosen[~even], minlength=10).min() > 70


@pytest.mark.parametrize("listed", [False, True])
def test_a_view_holds_the_place(listed):
    """One pixel of class 1 in each image, whatever the zoom and the flip, and anywhere in the view."""
    count = 200
    torch.manual_seed(0)
    rows, columns = torch.randint(0, 40, (count,)), torch.randint(0, 60, (count,))
    labels = torch.zeros(count, 40, 60, dtype=torch.uint8)
    labels[torch.arange(count), rows, columns] = 1
    images = labels[..., None].expand(-1, -1, -1, 3).contiguous()
    places = torch.stack([rows, columns], 1) + 0.5
    augment = Augment(Recipe(crop_size=(16, 20), scale_range=(1.0, 2.0)), (40, 60))
    given = (list(images), list(labels)) if listed else (images, labels)
    _, targets = augment(*given, torch.Generator().manual_seed(0), places)
    held = (targets == 1).flatten(1).any(1)
    assert held.float().mean() > 0.97  # a view begins at a whole pixel, which may cut off one at its edge
    assert (targets == 255).float().mean() < 0.02  # which may show a part of a pixel beside the image, too
    at = (targets == 1).nonzero()[:, 1:].float().mean(0)
    assert (at - torch.tensor([7.5, 9.5])).abs().max() < 1.5
    _, anywhere = augment(*given, torch.Generator().manual_seed(0), torch.full((count, 2), torch.nan))
    _, plain = augment(*given, torch.Generator().manual_seed(0))
    assert torch.equal(anywhere, plain)
    assert (plain == 1).flatten(1).any(1).float().mean() < 0.5


def test_a_view_larger_than_the_image_lies_anywhere():
    labels = torch.zeros(50, 10, 10, dtype=torch.uint8)
    augment = Augment(Recipe(crop_size=(20, 20), flip=False))
    images = labels[..., None].expand(-1, -1, -1, 3)
    _, targets = augment(images, labels, torch.Generator().manual_seed(0), torch.full((50, 2), 2.5))
    first = (targets == 0).flatten(1).float().argmax(1) // 20
    assert (targets == 0).sum() == 50 * 100
    assert len(first.unique()) > 5


def test_training_with_it_is_one_seed_one_result():
    data = load_data("scenes", size=(32, 64), train=12, val=2)
    found = []
    for share in (0.5, 0.5, None):
        model = Pixelwise(data.num_classes)
        recipe = Recipe(steps=2, batch_size=4, crop_size=(24, 32), class_uniform=share, rand_augment={})
        found.append((train(model, data, recipe, seed=1).curve, model.state_dict()))
    assert found[0][0] == found[1][0] != found[2][0]
    assert all(torch.equal(tensor, found[1][1][name]) for name, tensor in found[0][1].items())
