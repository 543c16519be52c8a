"""What `nasseg data check` finds and draws, and what `nasseg init --data` writes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasseg.data.check import check_data
from nasseg.data.contact_sheet import contact_sheet, overlay, write_sheet
from nasseg.data.dataset import load_data
from nasseg.data.write_study import begin
from nasseg.errors import UserError
from nasseg.study.study_file import load_study
from tests.data import downloads


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_counts_sizes_and_classes(root):
    """Of 32 x 64 pixels in turn of eight ids, each class has an eighth; two ids are ignored in `ids`, one by 29."""
    downloads.cityscapes(root)
    found = check_data(root)
    train = found.splits["train"]
    assert (train.count, train.opened, dict(train.sizes)) == (3, 3, {(32, 64): 3})
    assert [train.pixels[number] for number in (0, 1, 2, 6, 18)] == [3 * 256] * 5
    assert (train.images[0], train.images[3], train.ignored) == (3, 0, 3 * 3 * 256)
    assert not found.faults
    assert found.fingerprint == load_data(root).fingerprint
    text = "\n".join(found.lines())
    assert "train: 3 images, folder train; 64 x 32; 37.5% ignored" in text
    assert "14 classes do not occur in val: wall, fence" in text
    assert "there is no test split: its labels are not public" in text
    head, rows = found.histogram()
    assert head == ["class", "train, % of pixels", "train, images", "val, % of pixels", "val, images"]
    assert rows[0] == ["road", "20", "3", "20", "2"]
    assert json.loads(json.dumps(found.as_dict()))["splits"]["val"]["sizes"] == [[64, 32, 2]]


def cut(root):
    path = root / "train/f1.png"
    path.write_bytes(path.read_bytes()[:200])
    return "cannot read image {root}/train/f1.png"


def value(root):
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(root / "valannot/f2.png")
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(root / "valannot/f1.png")
    return "{root}/valannot/f1.png holds label 77: classes are 0..10; add it to a class or to `ignore` "


def gone(root):
    (root / "trainannot/f0.png").unlink()
    return "{root}/train/f0.png has no label: {root}/trainannot/f0.png is needed"


def shape(root):
    Image.fromarray(np.zeros((10, 32), np.uint8)).save(root / "trainannot/f2.png")
    return "{root}/trainannot/f2.png is 32 x 10 but its image is 32 x 24"


def no_class(root):
    for path in (root / "valannot").iterdir():
        Image.fromarray(np.full((24, 32), 11, np.uint8)).save(path)
    return "no pixel in val is of any class"


FAULTS = [cut, value, gone, shape, no_class]


def test_all_faults_are_found_at_once(root):
    downloads.camvid(root)
    messages = [spoil(root).format(root=root) for spoil in FAULTS[:-1]]
    found = check_data(root)
    for message in messages:
        assert sum(message in fault for fault in found.faults) == 1, (message, found.faults)
    assert found.fingerprint is None
    assert "(2 files)" in "\n".join(found.faults)
    assert found.lines()[-1] == "not to be used before that is mended"


@pytest.mark.parametrize("spoil", FAULTS)
def test_each_fault_alone(root, spoil):
    message = spoil(downloads.camvid(root)).format(root=root)
    assert any(message in fault for fault in check_data(root).faults)


def test_many_faults_of_a_kind_are_counted(root):
    downloads.camvid(root, count=8)
    for path in (root / "train").iterdir():
        path.write_bytes(b"")
    faults = check_data(root).faults
    assert len(faults) == 4
    assert faults[-1] == "and 5 more like the last"


def test_what_is_no_fault_is_noted(root):
    downloads.camvid(root)
    (root / "train/f0.png").unlink()
    (root / "train/f1.png").write_bytes((root / "val/f2.png").read_bytes())
    turned = Image.open(root / "val/f0.png")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "val/f0.png", exif=exif)
    found = check_data(root)
    assert not found.faults
    text = "\n".join(found.notes)
    assert f"1 labels in train have no image, {root}/trainannot/f0.png is one" in text
    assert "1 images in val are to be shown turned" in text
    assert f"1 images are in two splits under different names: {root}/val/f2.png is {root}/train/f1.png" in text


def test_a_limit_opens_a_few_over_the_whole_split(root):
    downloads.camvid(root, count=9)
    found = check_data(root, limit=3)
    assert (found.splits["train"].count, found.splits["train"].opened) == (9, 3)
    assert "9 images (3 opened)" in found.lines()[1]


def test_there_is_nothing_to_check_in_scenes():
    with pytest.raises(UserError, match="give a folder"):
        check_data("scenes")


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
    cut(root)
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


# --- nasseg init --data -------------------------------------------------------------------------------------------


def own(root, images, labels, keys, values=(0, 1, 2, 255), size=(40, 60), colours=None):
    """Pictures by two patterns with {}, labels that hold the values, or the colours."""
    for key in keys:
        split, _, name = key.rpartition("/")
        places = [Path(str(root / form).format(split=split, name=name)) for form in (images, labels)]
        downloads.picture(places[0], size)
        stored = downloads.spread(values, size)
        downloads.labels(places[1], np.array(colours)[stored] if colours else stored)
    return root


NUMBERS = [f"{number:04d}" for number in range(10)]


@pytest.mark.parametrize(
    ("images", "labels", "keys", "counts"),
    [
        ("images/{split}/{name}.jpg", "masks/{split}/{name}.png", ["train/a", "train/b", "val/c"], (2, 1)),
        ("{split}/images/{name}.png", "{split}/labels/{name}.png", ["training/a", "validation/c"], (1, 1)),
        ("images_{split}/{name}.png", "gt_{split}/{name}_mask.png", ["train/a", "train/b", "val/c", "val/d"], (2, 2)),
        ("rgb/{name}.jpg", "seg/{name}.png", NUMBERS, (8, 2)),
        ("{name}.jpg", "{name}.png", NUMBERS, (8, 2)),
        ("rgb/{split}/{name}.jpg", "seg/{split}/{name}.png", [f"d{n}/{m}" for n in "123456" for m in "ab"], (10, 2)),
        ("{split}/rgb/{name}_x.jpg", "{split}/seg/{name}_y.png", [f"d{n}/{m}" for n in "12345" for m in "ab"], (8, 2)),
        ("x/{split}/{name}.jpg", "y/{split}/{name}.png", [f"{s}/{n}" for s in ("train", "test") for n in NUMBERS],
         (8, 2, 10)),
    ],
)  # fmt: skip
def test_a_folder_of_ones_own_gets_a_class_table_and_a_study(root, images, labels, keys, counts):
    begun = begin(own(root, images, labels, keys), name="mine")
    data = load_study("mine").file.data.load()
    assert tuple(data.counts.values()) == counts
    assert data.classes == ("class 0", "class 1", "class 2")
    assert set(data.val.labels.unique().tolist()) == {0, 1, 2, 255}
    assert not check_data("mine").faults
    assert begun.table == Path.cwd() / "datasets/mine.yaml"
    assert "3 classes" in "\n".join(begun.found)
    with pytest.raises(UserError, match=r"mine.yaml is there already"):
        begin(root, name="mine")


def test_labels_in_colours_and_masks_of_two_values(root, tmp_path):
    palette = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
    begin(own(root, "a/{name}.jpg", "b/{name}.png", NUMBERS, range(3), colours=palette), name="coloured")
    data = load_data("coloured")
    assert data.colours == ((0, 0, 255), (255, 0, 0))
    assert set(data.val.labels.unique().tolist()) == {0, 1, 255}
    begin(own(tmp_path / "two", "a/{name}.jpg", "b/{name}.png", NUMBERS, (0, 255)), name="binary")
    assert set(load_data("binary").val.labels.unique().tolist()) == {0, 1}


def test_images_of_many_sizes_get_a_size(root):
    own(root, "images/{name}.jpg", "masks/{name}.png", NUMBERS[:4], size=(70, 100))
    own(root, "images/{name}.jpg", "masks/{name}.png", NUMBERS[4:], size=(66, 130))
    begin(root, name="many")
    assert load_study("many").file.data.load().val.size == (64, 128)


def test_a_known_data_set_gets_a_study_only(root):
    begun = begin(downloads.ade20k(root, sizes=((64, 96), (70, 64), (64, 99))), name="scenes150")
    assert begun.table is None
    data = load_study("scenes150").file.data
    assert (data.name, data.load().counts, data.load().name) == ("ade20k", {"train": 3, "val": 2}, "ade20k")
    assert not (Path.cwd() / "datasets").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: None, "0 folders of images and 0 of label maps"),
        (lambda root: own(root, "a/{name}.jpg", "b/{name}.jpg", NUMBERS), "2 folders of images and 0 of label maps"),
        (lambda root: own(root, "a/{name}.jpg", "b/{name}.png", ["only"]), "one labelled image"),
        (lambda root: root.rmdir(), "no folder"),
    ],
)
def test_a_folder_that_is_nothing_to_begin_with(root, spoil, message):
    spoil(root)
    with pytest.raises(UserError, match=message):
        begin(root)
    assert not (Path.cwd() / "studies").exists()
