"""Folders of images: what is found, what views are cut, and what is said of folders that are none."""

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.errors import UserError
from nasseg.train.classification.images import TRIES, Pictures, image_folder
from tests.train.classification.two_classes import two_classes


def test_classes_and_pictures_are_those_of_the_folders(tmp_path):
    found = image_folder(two_classes(tmp_path))
    assert (found.classes, found.num_classes, found.name) == (("dark", "light"), 2, tmp_path.name)
    assert (found.train.classes, found.val.classes) == ((0,) * 6 + (1,) * 6, (0,) * 3 + (1,) * 3)
    assert [path.parent.name for path in found.val.files] == ["dark"] * 3 + ["light"] * 3
    before = found.fingerprint
    (tmp_path / "train/dark/0.jpg").unlink()
    assert image_folder(tmp_path).fingerprint != before


def test_an_evaluated_view_is_the_middle_of_a_picture(tmp_path):
    """Of 256 x 512 pixels, the middle 224 x 224: white in a square of that size, black around it."""
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[16:240, 144:368] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images, classes = Pictures((tmp_path / "a.png",), (7,)).views([0], (224, 224), None)
    assert (images.shape, classes.tolist(), int(images.min())) == ((1, 224, 224, 3), [7], 255)


def test_training_views_are_parts_of_their_picture_of_many_sizes(tmp_path):
    """A picture whose red is the column and green the row: the spans in a view are its box."""
    rows, columns = np.mgrid[0:128, 0:256].astype(np.uint8)
    Image.fromarray(np.stack([columns, 2 * rows, rows], -1)).save(tmp_path / "a.png")
    pictures = Pictures((tmp_path / "a.png",) * 50, (0,) * 50)
    draws = torch.rand(50, TRIES, 4, generator=torch.Generator().manual_seed(0))
    images, _ = pictures.views([*range(50)], (32, 32), draws)
    again, _ = pictures.views([*range(50)], (32, 32), draws)
    assert torch.equal(images, again)
    spans = [images[..., channel].flatten(1).float() for channel in (0, 1)]
    wide, high = (span.amax(1) - span.amin(1) for span in spans)
    shares, forms = wide * (high / 2) / (256 * 128), wide / (high / 2)
    assert 0.05 < shares.min() < 0.2
    assert 0.5 < shares.max() < 2 / 3  # of a picture of 2 : 1
    assert 0.65 < forms.min() < 0.85
    assert 1.2 < forms.max() < 1.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "val").rename(root / "test"), "cannot look into .*val: No such file"),
        (lambda root: (root / "val/light").rename(root / "val/pale"), "light, pale is in only one of them"),
        (lambda root: [path.unlink() for path in (root / "train/dark").iterdir()], "dark holds no picture"),
    ],
)
def test_folders_that_are_none(tmp_path, change, said):
    change(two_classes(tmp_path))
    with pytest.raises(UserError, match=said):
        image_folder(tmp_path)


def test_a_picture_that_is_none_is_named(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"cannot read the image .*a\.jpg"):
        Pictures((tmp_path / "a.jpg",), (0,)).views([0], (32, 32), None)
