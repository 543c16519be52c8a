"""What `nasseg data check` finds."""

import json

import numpy as np
import pytest
from PIL import Image

from nasseg.data.check.check_data import check_data
from nasseg.data.dataset import load_data
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


def test_counts_sizes_and_classes(root):
    """Of 32 x 64 pixels in turn of eight ids, each class has an eighth; two ids are ignored in `ids`, one by 29."""
    downloads.cityscapes(root)
    found = check_data(root)
    train = found.splits["train"]
    assert (train.count, train.opened, dict(train.sizes)) == (3, 3, {(32, 64): 3})
    assert [train.pixels[number] for number in (0, 1, 2, 6, 18)] == [3 * 256] * 5
    assert (train.images[0], train.images[3], train.ignored) == (3, 0, 3 * 3 * 256)
    assert found.usable
    assert found.fingerprint == load_data(root).fingerprint
    text = "\n".join(found.lines())
    assert "train: 3 images, folder train; 64 x 32; 37.5% ignored" in text
    assert "fault: 14 classes do not occur in val and do not count when networks are chosen: wall, fence" in text
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
    return "{root}/trainannot/f2.png is 32 x 10 but its image f2.png is 32 x 24"


def no_class(root):
    for path in (root / "valannot").iterdir():
        Image.fromarray(np.full((24, 32), 11, np.uint8)).save(path)
    return "no pixel in val has a class"


FAULTS = [cut, value, gone, shape, no_class]


def test_all_faults_are_found_at_once(root):
    downloads.camvid(root)
    messages = [spoil(root).format(root=root) for spoil in FAULTS[:-1]]
    found = check_data(root)
    for message in messages:
        assert sum(message in fault for fault in found.faults) == 1, (message, found.faults)
    assert found.fingerprint is None
    assert "(2 files)" in "\n".join(found.faults)
    assert found.lines()[-1] == "cannot be used before this is fixed"


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
    turned = Image.open(root / "val/f0.png")
    exif = turned.getexif()
    exif[0x0112] = 3
    turned.save(root / "val/f0.png", exif=exif)
    found = check_data(root)
    assert not found.faults
    text = "\n".join(found.notes)
    assert "1 labels have no image: trainannot/f0.png" in text
    assert "1 images in val are read rotated, as their EXIF tag says" in text


def test_images_that_are_nearly_the_same_in_two_splits(root):
    """One is the same, one is scaled and saved as JPEG, one is of another scene; a plain one is like no other."""
    downloads.camvid(root, size=(96, 128))
    scene = Image.fromarray(np.random.default_rng(5).integers(0, 255, (6, 8, 3), np.uint8)).resize((128, 96))
    scene.save(root / "train/f0.png")
    scene.resize((112, 90)).save(root / "small.jpg", quality=70)
    Image.open(root / "small.jpg").resize((128, 96)).save(root / "val/f1.png")
    (root / "val/f2.png").write_bytes((root / "train/f2.png").read_bytes())
    for split in ("train/f1", "val/f0"):
        Image.new("RGB", (128, 96), "white").save(root / f"{split}.png")
    found = check_data(root)
    assert found.usable
    (fault,) = found.faults
    assert fault.startswith("2 images are nearly the same in two splits")
    assert f"{root}/val/f1.png (val) looks like {root}/train/f0.png (train)" in fault
    assert f"{root}/val/f2.png (val) looks like {root}/train/f2.png (train)" in fault


def test_a_large_ignored_share_and_classes_missing_from_a_split(root):
    downloads.camvid(root)
    for path in (root / "trainannot").iterdir():
        stored = np.array(Image.open(path))
        stored[:16] = 11
        stored[stored == 4] = 5
        Image.fromarray(stored).save(path)
    found = check_data(root)
    assert found.usable
    assert found.lines()[-2] == "can be used, but see the faults"
    assert any(
        "of the pixels in train are ignored and teach nothing: if they should count, give their values a class" in f
        for f in found.faults
    )
    assert any("1 classes do not occur in train and cannot be learnt: pavement; move images" in f for f in found.faults)


def test_dozens_of_tiny_classes_in_every_image_look_like_edges(root, tmp_path):
    """Grey edges that a table calls classes; the same values in one file of many are rare classes."""
    rows = "\n".join(f"  - {{name: c{n}, colour: [{n}, 0, 0], ids: [{n}]}}" for n in range(20))
    (tmp_path / "grey.yaml").write_text(
        f"root: {root}\nclasses:\n{rows}\nlayouts: {{own: {{images: 'a/{{name}}', "
        "labels: [{path: 'b/{name}', hold: ids}], splits: {train: {without: [v]}, val: {sequences: [v]}}}}\n"
    )
    for name in ("x", "y", "v"):
        downloads.picture(root / f"a/{name}.png", (100, 100))
        stored = np.repeat([0, 19], 5000).reshape(100, 100)
        stored[50, :18] = range(1, 19)
        downloads.labels(root / f"b/{name}.png", stored)
    tiny = [fault for fault in check_data(tmp_path / "grey.yaml").faults if "as edges are" in fault]
    assert tiny[0].startswith("18 classes have under 0.2% of the pixels each")
    for name in ("x", "y", "v", *map(str, range(9))):
        downloads.picture(root / f"a/{name}.png", (100, 100))
        if name != "x":
            downloads.labels(root / f"b/{name}.png", np.zeros((100, 100)))
    assert not [fault for fault in check_data(tmp_path / "grey.yaml").faults if "as edges are" in fault]


def test_a_limit_opens_a_few_over_the_whole_split(root):
    downloads.camvid(root, count=9)
    found = check_data(root, limit=3)
    assert (found.splits["train"].count, found.splits["train"].opened) == (9, 3)
    assert "9 images (3 opened)" in found.lines()[1]


def test_there_is_nothing_to_check_in_scenes():
    with pytest.raises(UserError, match="give a folder"):
        check_data("scenes")
