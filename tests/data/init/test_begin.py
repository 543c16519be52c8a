"""What `nasseg init --data` writes."""

from pathlib import Path

import numpy as np
import pytest

from nasseg.data.check.check_data import check_data
from nasseg.data.dataset import load_data
from nasseg.data.init import study
from nasseg.data.init.begin import begin
from nasseg.data.init.machine import Machine
from nasseg.errors import UserError
from nasseg.study.study_file import load_study
from tests.data import downloads


@pytest.fixture
def fast(monkeypatch):
    """A machine that is measured in no time."""
    monkeypatch.setattr(study, "measure_machine", lambda *_: Machine("cpu", 2, (8.0, 12.0, 20.0), 0.25))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


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
        (
            "x/{split}/{name}.jpg",
            "y/{split}/{name}.png",
            [f"{s}/{n}" for s in ("train", "test") for n in NUMBERS],
            (8, 2, 10),
        ),
    ],
)
def test_a_folder_of_ones_own_gets_a_class_table_and_a_study(root, images, labels, keys, counts, fast):
    begun = begin(own(root, images, labels, keys), name="mine")
    data = load_study("mine").file.data.load()
    assert tuple(data.counts.values()) == counts
    assert data.classes == ("class 0", "class 1", "class 2")
    assert set(data.val.labels.unique().tolist()) == {0, 1, 2, 255}
    assert not check_data("mine").faults
    assert begun.table == Path.cwd() / "datasets/mine.yaml"
    assert "\nignore: {ids: [255]}  # what is no class" in begun.table.read_text()
    assert "3 classes" in "\n".join(begun.found)
    with pytest.raises(UserError, match=r"mine.yaml exists"):
        begin(root, name="mine")


def test_labels_in_colours_and_masks_of_two_values(root, tmp_path, fast):
    palette = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
    begin(own(root, "a/{name}.jpg", "b/{name}.png", NUMBERS, range(3), colours=palette), name="coloured")
    data = load_data("coloured")
    assert data.colours == ((0, 0, 0), (0, 0, 255), (255, 0, 0))
    assert set(data.val.labels.unique().tolist()) == {0, 1, 2}
    begun = begin(own(tmp_path / "two", "a/{name}.jpg", "b/{name}.png", NUMBERS, (0, 255)), name="binary")
    assert "\nignore: {ids: []}  # what is no class" in begun.table.read_text()
    assert set(load_data("binary").val.labels.unique().tolist()) == {0, 1}


def test_images_of_many_sizes_get_a_size(root, fast):
    own(root, "images/{name}.jpg", "masks/{name}.png", NUMBERS[:4], size=(70, 100))
    own(root, "images/{name}.jpg", "masks/{name}.png", NUMBERS[4:], size=(66, 130))
    begin(root, name="many")
    assert load_study("many").file.data.load().val.size == (64, 128)


def test_a_known_data_set_gets_a_study_only(root, fast):
    begun = begin(downloads.ade20k(root, sizes=((64, 96), (70, 64), (64, 99))), name="scenes150")
    assert begun.table is None
    data = load_study("scenes150").file.data
    assert (data.name, data.load().counts, data.load().name) == ("ade20k", {"train": 3, "val": 2}, "ade20k")
    assert not (Path.cwd() / "datasets").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: None, "holds no pictures: --data is the folder that holds images and labels"),
        (
            lambda root: own(root, "a/{name}.jpg", "b/{name}.jpg", NUMBERS),
            r"holds pictures \(in a, b\), but no images and labels of the same names",
        ),
        (
            lambda root: downloads.picture(root / "a.jpg", (40, 60)),
            r"holds pictures \(in the folder itself\), but no images and labels",
        ),
        (lambda root: own(root, "a/{name}.jpg", "b/{name}.png", ["only"]), "one labelled image"),
        (lambda root: root.rmdir(), "no folder"),
    ],
)
def test_a_folder_that_is_nothing_to_begin_with(root, spoil, message):
    spoil(root)
    with pytest.raises(UserError, match=message):
        begin(root)
    assert not (Path.cwd() / "studies").exists()
