"""From a picture to a network and back: where it lies, what is around it, and its own pixels again."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from nasseg.data.image_file import fit_image, fit_label, fitted
from nasseg.data.scenes import render
from nasseg.train.views import network_input
from nasseg.train.views.network_input import classes_of, fit, map_back, normalise, place

SEEN = (60, 80)


def test_pictures_are_resized_to_fit_with_their_ratio():
    """20 x 50 in 60 x 80 is 32 x 80, and 40 x 20 is 60 x 30; a very long one keeps a row."""
    sizes = [(20, 50), (40, 20), (120, 160), (3, 1000)]
    assert [fitted(size, SEEN) for size in sizes] == [(32, 80), (60, 30), (60, 80), (1, 80)]
    assert fitted((20, 50), None) == (20, 50)


@pytest.mark.parametrize("size", [(150, 100), (40, 70), (60, 80)])
def test_pictures_are_resized_as_by_pillow_and_labels_by_the_nearest(size):
    picture, label = render(0, size)
    height, width = fitted(size, SEEN)
    expected = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    assert np.array_equal(fit_image(picture, SEEN), expected)
    row, column = ((np.arange(a) + 0.5) * b / a for a, b in zip((height, width), size, strict=True))
    assert np.array_equal(fit_label(label, SEEN), label[row.astype(int)][:, column.astype(int)])


def test_a_picture_lies_at_the_upper_left_and_the_rest_is_the_mean():
    images = [fit(render(number, size)[0], SEEN) for number, size in enumerate(((20, 50), (40, 20)))]
    placed = place(images, SEEN)
    assert placed.shape == (2, 3, *SEEN)
    for view, image in zip(placed, images, strict=True):
        height, width = image.shape[:2]
        assert torch.equal(view[None, :, :height, :width], normalise(image[None]))
        assert not view[:, height:].any()
        assert not view[:, :, width:].any()
    whole = torch.randint(0, 256, (2, *SEEN, 3), dtype=torch.uint8)
    assert torch.equal(place(whole, SEEN), place(list(whole), SEEN))


@pytest.mark.parametrize(("inner", "shape"), [((32, 80), (20, 50)), ((60, 30), (240, 120)), ((60, 80), (60, 80))])
def test_logits_are_mapped_back_as_by_a_plain_resize_of_the_pictures_part(inner, shape, monkeypatch):
    logits = torch.randn(1, 4, *SEEN, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits[..., : inner[0], : inner[1]], shape, mode="bilinear")
    for values in (1 << 25, 4 * 7 * shape[1]):  # all rows at once, and seven at a time
        monkeypatch.setattr(network_input, "_VALUES", values)
        parts = list(map_back(logits, inner, shape))
        assert [top for top, _ in parts] == list(range(0, shape[0], parts[0][1].shape[2]))
        torch.testing.assert_close(torch.cat([part for _, part in parts], 2), expected, atol=1e-4, rtol=0)
    assert (classes_of(logits, inner, shape) == expected[0].argmax(0)).float().mean() > 0.999
