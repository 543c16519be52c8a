"""Files of labelling tools: what lies over what, what is outside, and what is wrong with a file."""

import json

import numpy as np
import pytest

from nasseg.data.class_table import Encoding
from nasseg.data.formats.draw import Drawing, Shape, box, by_area, draw, ellipse
from nasseg.data.formats.read import READERS, read_drawing, read_drawings
from nasseg.data.image_file import read_label
from nasseg.errors import UserError

CLASSES = {"a": 1, "b": 2}


def drawn(*shapes, size=(10, 12), background=0):
    return draw(Drawing(size, shapes), size, CLASSES, background)


def test_later_shapes_lie_over_earlier_ones_and_by_area_small_over_large():
    large, small = Shape("a", (box(0, 0, 12, 10),)), Shape("b", (box(2, 2, 5, 6),))
    label, unknown = drawn(large, small)
    assert not unknown
    assert (label[2:6, 2:5] == 2).all()
    assert (label == 2).sum() == 12
    assert (drawn(small, large)[0] == 1).all()
    assert (drawn(*by_area([small, large]))[0] == label).all()


def test_holes_are_not_covered_and_outside_is_cut():
    shape = Shape("a", (box(-5, -5, 20, 20),), (box(4, 4, 8, 8),))
    label, _ = drawn(shape, background=255)
    assert (label[4:8, 4:8] == 255).all()
    assert (label == 1).sum() == 120 - 16


@pytest.mark.parametrize("at", [(-2, -1), (10, 8), (3, 4), (40, 40)])
def test_a_mask_is_cut_at_the_image(at):
    label, _ = drawn(Shape("a", mask=np.ones((4, 5), bool), at=at))
    right = np.zeros((30, 30), np.uint8)
    if at[0] < 12:
        right[at[1] + 8 : at[1] + 12, at[0] + 8 : at[0] + 13] = 1
    assert np.array_equal(label, right[8:18, 8:20])


def test_a_title_that_no_class_has_is_named_and_ignored():
    label, unknown = drawn(Shape("c", (box(0, 0, 4, 4),)))
    assert unknown == ["c"]
    assert (label[:4, :4] == 255).all()


def test_a_line_covers_nothing_and_a_circle_its_area():
    assert not drawn(Shape("a", (box(0, 0, 5, 5)[:2],)))[0].any()
    label, _ = draw(Drawing((100, 100), (Shape("a", (ellipse(50, 50, 30, 20),)),)), (100, 100), CLASSES, 0)
    assert abs(int(label.sum()) - np.pi * 600) < 30


def test_shares_of_the_image_follow_its_size(tmp_path):
    (tmp_path / "a.txt").write_text("1 0 0 0.5 0 0.5 1 0 1\n")
    encoding = Encoding("yolo", (), titles=(("1", 3),), background=0)
    for size in ((10, 20), (40, 60)):
        label, _ = read_label(tmp_path / "a.txt", encoding, size=size)
        assert label.shape == size
        assert (label[:, : size[1] // 2] == 3).all()
        assert not label[:, size[1] // 2 :].any()


def test_an_image_without_shapes_is_background(tmp_path):
    (tmp_path / "a.txt").write_text("")
    encoding = Encoding("yolo", (), titles=(("1", 3),), background=0)
    assert not read_label(tmp_path / "a.txt", encoding, size=(4, 4))[0].any()
    assert read_drawing("yolo", tmp_path / "a.txt", "none").shapes == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cat 0 0 1 1", r"a.txt:2: a class number and coordinates are needed, got 'cat 0 0 1 1'"),
        ("1 0 0 1", "a.txt:2: pairs of x and y are needed after the class, got 3 numbers"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    (tmp_path / "a.txt").write_text(f"0 0 0 1 0 1 1\n{line}\n")
    with pytest.raises(UserError, match=message):
        read_drawings("yolo", tmp_path / "a.txt")


@pytest.mark.parametrize("hold", READERS)
@pytest.mark.parametrize("content", ["{", "{}", "no", ""])
def test_a_file_that_is_none_is_named(tmp_path, hold, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    if (hold, content) == ("yolo", ""):
        return  # an image without shapes
    with pytest.raises(UserError, match=r"a\.json"):
        read_drawings(hold, path)
    with pytest.raises(UserError, match=r"cannot read .*none.json: No such file"):
        read_drawings(hold, tmp_path / "none.json")


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / "a.json"
    content = {"imageHeight": 4, "imageWidth": 4, "shapes": []}
    path.write_text(json.dumps(content))
    assert read_drawing("labelme", path).size == (4, 4)
    path.write_text(json.dumps(content | {"imageWidth": 40}))
    assert read_drawing("labelme", path).size == (4, 40)
