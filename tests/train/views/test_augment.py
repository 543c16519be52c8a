"""Views: a zoom below 1 is Pillow's antialiased resize, placed by whole pixels, and labels go with it."""

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.data.scenes import render
from nasseg.train.recipe import Recipe
from nasseg.train.views.augment import Augment, shrink
from nasseg.train.views.network_input import normalise

SIZE = (96, 160)


def view(zoom, listed=False):
    """The whole image at a zoom, in a view of its size: pixels, classes, and where it lies."""
    image, label = (torch.from_numpy(part)[None] for part in render(3, SIZE))
    augment = Augment(Recipe(scale_range=(zoom, zoom), flip=False, crop_size=SIZE), SIZE)
    if listed:
        image, label = list(image), list(label)
    views, targets = augment(image, label, torch.Generator().manual_seed(1))
    rows, columns = (inside.nonzero().flatten() for inside in ((targets[0] != 255).any(1), (targets[0] != 255).any(0)))
    return views[0, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], image[0], rows, columns


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("zoom", [0.125, 0.3, 0.5, 0.77])
def test_a_zoom_below_one_is_pillows_resize(zoom, listed):
    found, image, rows, columns = view(zoom, listed)
    height, width = round(zoom * SIZE[0]), round(zoom * SIZE[1])
    assert (len(rows), len(columns)) == (height, width)
    pillows = np.array(Image.fromarray(image.numpy()).resize((width, height), Image.Resampling.BILINEAR))
    expected = normalise(torch.from_numpy(pillows)[None])[0]
    assert (found - expected).abs().max() < 1.1 / 57  # one of 255, in deviations


@pytest.mark.parametrize("size", [(12, 20), (50, 100), (95, 159)])
def test_shrinking_is_pillows_within_one(size):
    image = render(1, SIZE)[0]
    pillows = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR), int)
    assert np.abs(shrink(torch.from_numpy(image), size).numpy() - pillows).max() <= 1


def test_views_of_a_batch_are_those_of_its_images():
    """Whether its other images are made smaller or larger."""
    images, labels = (
        torch.from_numpy(np.stack(part)) for part in zip(*(render(n, SIZE) for n in range(6)), strict=True)
    )
    recipe = Recipe(scale_range=(0.4, 1.6), crop_size=(64, 80), jitter=0.2)
    whole = Augment(recipe)(images, labels, torch.Generator().manual_seed(0))
    parts = Augment(recipe)(list(images), list(labels), torch.Generator().manual_seed(0))
    zooms = 0.4 + 1.2 * torch.rand(6, 6, 1, generator=torch.Generator().manual_seed(0))[0]
    assert 0 < (zooms < 1).sum() < 6
    torch.testing.assert_close(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
