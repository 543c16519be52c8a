"""The contact sheet of a data set."""

import os

import numpy as np
import pytest
from PIL import Image

from nasseg.data.check.contact_sheet import contact_sheet, overlay, write_sheet
from nasseg.errors import UserError
from tests.data import downloads


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_an_overlay_shows_the_classes_colours():
    image = np.full((1, 3, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 1, 255]], np.uint8), [(255, 0, 0), (0, 200, 0)])
    assert mixed[0, 0].tolist() == [201, 35, 35]
    assert mixed[0, 1].tolist() == [35, 165, 35]
    assert mixed[0, 2].tolist() == [35, 35, 35]


def test_the_contact_sheet_shows_each_split_and_its_classes(root, tmp_path):
    """Labels of one class are one area of its colour beside the image, and the class is in the legend."""
    downloads.camvid(root, size=(80, 110))
    for path in root.glob("*annot/*.png"):
        Image.fromarray(np.full((80, 110), 1, np.uint8)).save(path)
    path = root / "train/f1.png"
    path.write_bytes(path.read_bytes()[:200])
    sheet = contact_sheet(root, count=3)
    red, green, blue = np.asarray(sheet).reshape(-1, 3).astype(int).T
    overlaid = (red - green > 70) & (red - green < 96) & (green == blue)
    assert 0 <= overlaid.sum() - 5 * 160 * 220 < 1_000  # of six images one is cut short; some pixels look so by chance
    assert ((red == 128) & (green == 0) & (blue == 0)).sum() == 11 * 11  # the legend's square, without its border
    path = write_sheet(sheet, tmp_path / "new/sheet.png")
    assert Image.open(path).size == sheet.size
    with pytest.raises(UserError, match="cannot write"):
        write_sheet(sheet, path / "below-a-file.png")
    assert os.listdir(path.parent) == ["sheet.png"]
