"""Classes are judged by value: each decision with its share of the pixels."""

from collections import Counter
from pathlib import Path

import pytest

from nasseg.data.init.label_values import Values, class_rows, judge
from nasseg.errors import UserError


def values(pixels, solid=None, hold="ids"):
    """Pixels of each value, nearly all of them in areas unless said."""
    pixels = dict(pixels) if isinstance(pixels, dict) else dict.fromkeys(pixels, 1000)
    found = Values(hold, pixels=Counter(pixels), files={Path("l.png"): tuple(pixels)})
    found.solid = Counter({value: count * 0.9 for value, count in pixels.items()} | (solid or {}))
    return found


@pytest.mark.parametrize(
    ("stored", "codes", "ignored"),
    [
        ([0, 255], (0, 255), ()),
        ([0, 1], (0, 1), ()),
        ([0, 127, 255], (0, 127, 255), ()),
        ([0, 85, 170, 255], (0, 85, 170, 255), ()),
        ([0, 1, 255], (0, 1), (255,)),
        ([1, 2, 3, 255], (1, 2, 3), (255,)),
        ([*range(21), 255], tuple(range(21)), (255,)),
        ([-1, 0, 1], (0, 1), (-1,)),
        ([0, 65535], (0, 65535), ()),
        ([0, 1, 2, 65535], (0, 1, 2), (65535,)),
        ([7, 8, 11, 12, 13, 17, 19, 33], (7, 8, 11, 12, 13, 17, 19, 33), ()),
    ],
)
def test_which_values_are_classes(stored, codes, ignored):
    judged = judge(values(stored))
    assert (judged.codes, judged.ignored, judged.unknown) == (codes, ignored, "error")


def test_values_on_edges_are_no_classes():
    edges = dict.fromkeys(range(1, 255), 3)
    judged = judge(values({0: 6000, 255: 3000} | edges, dict.fromkeys(edges, 0)))
    assert (judged.codes, judged.unknown) == ((0, 255), "nearest")
    assert "254 values lie on edges (7.81% of the pixels): each becomes the nearest class" in judged.lines[0]


def test_thin_classes_of_many_are_classes():
    """Poles and signs are all edge, but so are not most of the others."""
    stored = dict.fromkeys(range(30), 1000)
    judged = judge(values(stored, {5: 10, 9: 10, 17: 0}))
    assert judged.codes == tuple(range(30))


def test_too_many_values_are_refused():
    with pytest.raises(UserError, match=r"l.png hold 300 values: at most 254 can be classes; are these photographs"):
        judge(values(range(0, 900, 3)))


def test_all_that_is_decided_is_said_with_its_share():
    found = values({0: 7000, 1: 2000, 255: 1000})
    rows, ignored, lines = class_rows(found, judge(found), {})
    assert [row["name"] for row in rows] == ["background", "foreground"]
    assert ignored == [255]
    assert "255 (10.00%) is no class (`ignore`)" in lines[0]
    assert "2 classes: background = 0 (70.00%), foreground = 1 (20.00%)" in lines[1]


def test_a_class_that_a_list_calls_void_is_ignored():
    found = values({0: 7900, 0xFF0000: 2100}, hold="colours")
    rows, ignored, lines = class_rows(found, judge(found), {0: "Void", 0xFF0000: "car"})
    assert [row["name"] for row in rows] == ["car"]
    assert ignored == [[0, 0, 0]]
    assert "#000000 (79.00%) is 'Void', no class (`ignore`)" in lines


def test_black_is_a_class_and_it_is_said():
    found = values({0: 7900, 0xFF0000: 1000, 0x0000FF: 1100}, hold="colours")
    rows, ignored, lines = class_rows(found, judge(found), {})
    assert len(rows) == 3
    assert not ignored
    assert "black is a class (79% of the pixels): if it should not be one, move it to `ignore`" in lines
