"""Lists beside the data: names of classes, and samples of splits."""

from collections import Counter

import pytest

from nasseg.data.init.beside import class_lists, split_lists
from nasseg.data.init.label_values import Values

GREY = Values("ids", pixels=Counter({0: 10, 1: 10, 2: 10}))
PALETTE = Values("ids", palette={0: 0, 1: 0x800000, 2: 0x008000}, pixels=GREY.pixels)
COLOURS = Values("colours", pixels=Counter({0: 10, 0x800000: 10, 0x008000: 10}))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.txt", "void\nroad\ntraffic light\n"),
        ("obj.names", "void\r\nroad\r\ntraffic light\r\n"),
        ("labels.txt", "0: void\n1: road\n2: traffic light\n"),
        ("_classes.csv", "Pixel Value, Class\n0, void\n1, road\n2, traffic light\n"),
        ("data.yaml", "names: [void, road, traffic light]\n"),
        ("dataset.yml", "names: {0: void, 1: road, 2: traffic light}\n"),
    ],
)
def test_names_by_number(tmp_path, file, content):
    (tmp_path / "notes.txt").write_text("3 pictures are blurred\n")
    (tmp_path / file).write_text(content)
    (found,) = class_lists(tmp_path)
    assert found.names_of(GREY, [0, 1, 2]) == {0: "void", 1: "road", 2: "traffic light"}
    assert found.titles() == {"0": "void", "1": "road", "2": "traffic light"}
    assert found.names_of(COLOURS, list(COLOURS.pixels)) == {}
    assert found.names_of(GREY, [0, 1, 2, 3, 4, 5]) == {}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("class_dict.csv", "name,r,g,b\nvoid,0,0,0\nroad,128,0,0\ntraffic light,0,128,0\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nvoid:0,0,0::\nroad:128,0,0::\ntraffic light:0,128,0::\n"),
        ("label_colors.txt", "0 0 0\tvoid\n128 0 0\troad\n0 128 0\ttraffic light\n"),
    ],
)
def test_names_by_colour_also_of_a_palette(tmp_path, file, content):
    (tmp_path / file).write_text(content)
    (found,) = class_lists(tmp_path)
    assert found.names_of(COLOURS, list(COLOURS.pixels)) == {0: "void", 0x800000: "road", 0x008000: "traffic light"}
    assert found.names_of(PALETTE, [0, 1, 2]) == {0: "void", 1: "road", 2: "traffic light"}
    assert found.names_of(GREY, [0, 1, 2]) == {}


def test_names_of_a_few_greys_go_by_their_order_and_the_background_need_not_be_listed(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (found,) = class_lists(tmp_path)
    assert found.names_of(GREY, [0, 1, 2]) == {0: "background", 1: "cat", 2: "dog"}
    assert found.names_of(GREY, [127, 255]) == {127: "cat", 255: "dog"}


def files(root, folder, suffix, keys):
    return {key: root / folder / f"{key}{suffix}" for key in keys}


def test_of_several_folders_of_lists_the_one_that_fits(tmp_path):
    """Main lists all, Segmentation the labelled; the notes of train are no list; a list of boxes has other names."""
    images = files(tmp_path, "images", ".jpg", "abcdef")
    labels = files(tmp_path, "masks", ".png", "abcd")
    for folder, train, val in (("Main", "abcdef", "ef"), ("Segmentation", "abc", "d"), ("Boxes", "xyz", "uvw")):
        (tmp_path / folder).mkdir()
        for split, keys in (("train", train), ("val", val), ("trainval", train + val)):
            (tmp_path / folder / f"{split}.txt").write_text("\n".join(keys))
    (tmp_path / "train.txt").write_text("read the manual first\n")
    found = split_lists(tmp_path, images, labels)
    assert found is not None
    assert found.keys == {"train": ("a", "b", "c"), "val": ("d",)}
    assert found.paths["val"] == tmp_path / "Segmentation/val.txt"
    assert (
        split_lists(tmp_path, files(tmp_path, "images", ".jpg", "mno"), files(tmp_path, "masks", ".png", "mno")) is None
    )


@pytest.mark.parametrize(
    "text", ["names: {a: void, b: road}\n", "names: {[1]: void}\n", "a: &a [*a]\nnames: [void, road]\n"]
)
def test_a_file_that_is_no_list_of_classes_is_passed_over(text, tmp_path):
    (tmp_path / "data.yaml").write_text(text)
    assert class_lists(tmp_path) == []
