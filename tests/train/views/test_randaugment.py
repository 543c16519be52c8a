"""RandAugment: each operation by hand and against Pillow's, which ones are drawn, and that labels go with images."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from nasseg.data import scenes
from nasseg.train.recipe import RandAugment, Recipe
from nasseg.train.views import randaugment
from nasseg.train.views.augment import Augment
from nasseg.train.views.network_input import normalise
from nasseg.train.views.randaugment import (
    RandomOperations,
    auto_contrast,
    brightness,
    colour,
    contrast,
    equalize,
    sharpness,
)

UP, DOWN = torch.full((1, 1, 1, 1), 1.18), torch.full((1, 1, 1, 1), 0.82)  # magnitude 0.2, to either side


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def grey(rows):
    """A view of three equal channels and a mask that is true everywhere."""
    view = torch.tensor(rows, dtype=torch.float32).expand(1, 3, -1, -1)
    return view, torch.ones(1, 1, *view.shape[2:], dtype=torch.bool)


def values(view):
    return view[0, 0].flatten().tolist()


def test_auto_contrast_by_hand():
    view, inside = grey([[50, 100], [150, 250]])
    assert values(auto_contrast(view, inside, UP)) == pytest.approx([0, 63.75, 127.5, 255])
    inside[..., 1, 1] = False  # 50..150 are stretched, and what is outside is cut off
    assert values(auto_contrast(view, inside, UP)) == pytest.approx([0, 127.5, 255, 255])
    flat, inside = grey([[7, 7]])
    assert values(auto_contrast(flat, inside, UP)) == [7, 7]


def test_equalize_by_hand():
    """255 pixels of 10, 255 of 20, 90 of 30: a step of 2 pixels a value, and so (1 + 0, 255, 510) // 2."""
    row = [10] * 255 + [20] * 255 + [30] * 90
    view, inside = grey([row])
    assert set(values(equalize(view, inside, UP)[..., :255])) == {0}
    assert set(values(equalize(view, inside, UP)[..., 255:510])) == {128}
    assert set(values(equalize(view, inside, UP)[..., 510:])) == {255}
    inside[..., 255:510] = False  # without them: 255 and 90, a step of 1
    assert {values(equalize(view, inside, UP))[place] for place in (0, 599)} == {0, 255}
    few, inside = grey([[10, 20, 30]])
    assert values(equalize(few, inside, UP)) == [10, 20, 30]


def test_colour_by_hand():
    """Grey of (100, 0, 0) is 29.9; 29.9 + 1.18 * 70.1 = 112.618, and less than nothing is nothing."""
    red = torch.tensor([100.0, 0, 0]).view(1, 3, 1, 1)
    assert colour(red, red > 0, UP).flatten().tolist() == pytest.approx([112.618, 0, 0])
    assert colour(red, red > 0, DOWN).flatten().tolist() == pytest.approx([87.382, 5.382, 5.382])


def test_contrast_by_hand():
    view, inside = grey([[50, 150, 40]])
    inside[..., 2] = False  # the mean is 100
    assert values(contrast(view, inside, DOWN)) == pytest.approx([59, 141, 50.8])
    assert values(contrast(view, inside, UP)) == pytest.approx([41, 159, 29.2])


def test_brightness_by_hand():
    view, inside = grey([[200, 250]])
    assert values(brightness(view, inside, UP)) == pytest.approx([236, 255])
    assert values(brightness(view, inside, DOWN)) == pytest.approx([164, 205])


def test_sharpness_by_hand():
    """130 amid nothing is smoothed to 5/13, 50; pixels of the border stay."""
    view, inside = grey([[0] * 3, [0, 130, 0], [0] * 3])
    assert values(sharpness(view, inside, UP)) == pytest.approx([0, 0, 0, 0, 50 + 1.18 * 80, 0, 0, 0, 0])
    assert values(sharpness(view, inside, DOWN))[4] == pytest.approx(50 + 0.82 * 80)


def test_rotation_by_hand():
    """A quarter turn, counter-clockwise: the right column becomes the upper row. Of one row, the middle is left."""
    labels = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
    view, inside = labels.unsqueeze(1).expand(1, 3, 3, 3).float(), torch.ones(1, 3, 3, dtype=torch.bool)
    turned = [[3, 6, 9], [2, 5, 8], [1, 4, 7]]
    x, found, within = randaugment.rotate(view, labels, inside, torch.tensor([90.0]))
    assert found[0].tolist() == turned
    torch.testing.assert_close(x[0, 0], torch.tensor(turned).float(), atol=1e-4, rtol=0)
    assert within.all()
    inside[0, 0, 2] = False
    assert not randaugment.rotate(view, labels, inside, torch.tensor([90.0]))[2][0, 0, 0]
    _, found, within = randaugment.rotate(view[:, :, :1], labels[:, :1], inside[:, 1:2], torch.tensor([90.0]))
    assert found.flatten().tolist() == [255, 2, 255]
    assert within.flatten().tolist() == [False, True, False]


@pytest.fixture(scope="module")
def scene():
    image, label = scenes.render(3, (48, 80), 0)
    return image, label, torch.from_numpy(image).permute(2, 0, 1)[None].float(), torch.ones(1, 1, 48, 80) > 0


@pytest.mark.parametrize(
    ("operation", "pillow"),
    [
        (auto_contrast, lambda image, _: ImageOps.autocontrast(image)),
        (equalize, lambda image, _: ImageOps.equalize(image)),
        (colour, lambda image, by: ImageEnhance.Color(image).enhance(by)),
        (contrast, lambda image, by: ImageEnhance.Contrast(image).enhance(by)),
        (brightness, lambda image, by: ImageEnhance.Brightness(image).enhance(by)),
        (sharpness, lambda image, by: ImageEnhance.Sharpness(image).enhance(by)),
    ],
)
@pytest.mark.parametrize("by", [0.82, 1.18])
def test_operations_are_pillows(scene, operation, pillow, by):
    """Which cuts values to whole numbers, at most two of them in a row."""
    image, _, view, inside = scene
    found = operation(view, inside, torch.full((1, 1, 1, 1), by))[0].permute(1, 2, 0).numpy()
    assert np.abs(found - np.asarray(pillow(Image.fromarray(image), by)).astype(float)).max() < 1.2


@pytest.mark.parametrize("degrees", [6.0, -6.0])
def test_rotation_is_pillows(scene, degrees):
    image, label, view, inside = scene
    labels = torch.from_numpy(label)[None].long()
    turned, found, within = randaugment.rotate(view, labels, inside[:, 0], torch.tensor([degrees]))
    theirs = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)
    assert np.abs((turned * within)[0].permute(1, 2, 0).numpy() - np.asarray(theirs).astype(float)).max() < 1.2
    assert (found[0].numpy() == np.asarray(Image.fromarray(label).rotate(degrees, fillcolor=255))).mean() > 0.999


def test_what_is_drawn():
    """Different operations, each of the seven and each direction as often as another."""
    drawn = RandomOperations(RandAugment(), 7000, torch.Generator().manual_seed(0))
    assert drawn.chosen.shape == (2, 7000)
    assert (drawn.chosen[0] != drawn.chosen[1]).all()
    for chosen in drawn.chosen:
        assert (torch.bincount(chosen, minlength=7) - 1000).abs().max() < 120  # four standard deviations
    assert drawn.signs.mean().abs() < 0.04
    assert set(drawn.signs.unique().tolist()) == {-1, 1}
    assert len(RandomOperations(RandAugment(operations=7), 3, torch.Generator()).chosen.unique()) == 7


def test_operations_follow_each_other_with_their_strength():
    """Brightness of 1.18 and then contrast of 0.82, and the other way round; each image its own."""
    view, inside = grey([[50, 150]])
    drawn = RandomOperations(RandAugment(), 2, torch.Generator())
    of = {operation: number for number, operation in enumerate(randaugment._OF_COLOURS)}
    drawn.chosen = torch.tensor([[of[brightness], of[contrast]], [of[contrast], of[brightness]]])
    drawn.signs = torch.tensor([[1.0, -1], [-1, 1]])
    x, labels, _ = drawn(torch.cat([view, view]), torch.zeros(2, 1, 2, dtype=torch.int64), inside[:, 0].repeat(2, 1, 1))
    assert values(x[:1]) == pytest.approx([118 - 0.82 * 59, 118 + 0.82 * 59])
    assert values(x[1:]) == pytest.approx([59 * 1.18, 141 * 1.18])
    assert not labels.any()


def test_operations_see_pixels(monkeypatch):
    """0..255 as stored, and what they give back is normalised again."""
    images, seen = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8), []

    def see(_self, pixels, labels, inside):
        seen.append(pixels)
        return 255 - pixels, labels, inside

    monkeypatch.setattr(RandomOperations, "__call__", see)
    augment = Augment(Recipe(flip=False, rand_augment={}))
    views, _ = augment(images, torch.zeros(2, 5, 6).byte(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[0], images.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(views, normalise(255 - images), atol=1e-3, rtol=0)


@pytest.mark.parametrize("listed", [False, True])
def test_labels_move_with_their_images(listed):
    """The image is its own label: both agree wherever there is a label, and outside the view is the mean colour."""
    labels = torch.zeros(12, 40, 60, dtype=torch.uint8)
    labels[:, 10:30, 20:50] = 1
    images = (labels * 200 + 20)[..., None].expand(-1, -1, -1, 3).contiguous()
    recipe = Recipe(scale_range=(0.5, 2.0), crop_size=(32, 48), rand_augment={"operations": 7, "magnitude": 0.2})
    given = (list(images), list(labels)) if listed else (images, labels)
    views, targets = Augment(recipe, (40, 60))(*given, torch.Generator().manual_seed(1))
    plain = Augment(recipe.model_copy(update={"rand_augment": None}), (40, 60))
    _, unturned = plain(*given, torch.Generator().manual_seed(1))
    assert views.shape == (12, 3, 32, 48)
    kept, agree = targets != 255, []
    for view, target, known in zip(views[:, 0], targets, kept, strict=True):
        shown, meant = view[known], target[known] == 1
        if 0.1 < meant.float().mean() < 0.9:
            agree.append(((shown > (shown[meant].mean() + shown[~meant].mean()) / 2) == meant).float().mean())
    assert len(agree) > 4
    assert min(agree) > 0.9
    assert (targets == 255).sum() > (unturned == 255).sum()  # corners
    assert (views.abs().sum(1) == 0).eq(~kept).all()
