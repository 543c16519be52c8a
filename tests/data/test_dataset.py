"""Data: procedural scenes, the SegNet tutorial's layout, and errors that name the file."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.data import scenes
from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from tests import ROOT
from tests.data.downloads import camvid as write_camvid

CAMVID = Path(os.environ.get("NASSEG_CAMVID", ROOT.parent / "shared" / "data" / "camvid"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_scenes_follow_from_their_index_alone():
    first, again = (
        load_data("scenes", size=(32, 64), train=3, val=2),
        load_data("scenes", size=(32, 64), train=3, val=2),
    )
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.train.labels, again.train.labels)
    assert first.fingerprint == again.fingerprint
    longer = load_data("scenes", size=(32, 64), train=5, val=2)
    assert torch.equal(longer.train.images[:3], first.train.images)
    assert torch.equal(longer.val.images, first.val.images)
    assert longer.fingerprint != first.fingerprint


def test_scenes_are_the_same_on_every_machine():
    """Committed sums of the first scene: another generator, or another machine's arithmetic, would change them."""
    image, label = scenes.render(0, (64, 128), 0)
    counts = np.bincount(label.ravel(), minlength=len(scenes.CLASSES))
    assert (int(image.astype(int).sum()), counts.tolist()) == SCENE_0


def test_every_class_occurs():
    labels = load_data("scenes", size=(64, 128), train=60, val=1).train.labels
    present = set(labels.unique().tolist()) - {255}
    assert present == set(range(len(scenes.CLASSES)))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_camvid_layout_is_read(tmp_path, suffix):
    data = load_data(write_camvid(tmp_path, suffix))
    assert data.train.images.shape == (3, 24, 32, 3)
    assert data.val.labels.shape == (3, 24, 32)
    assert data.num_classes == 11
    assert not (data.train.labels == 11).any()
    assert (data.train.labels == 255).any()


def test_list_files_choose_by_name_whatever_their_folders(tmp_path):
    write_camvid(tmp_path)
    (tmp_path / "train.txt").write_text("/SegNet/CamVid/train/f1.png /SegNet/CamVid/trainannot/f1.png\n")
    assert len(load_data(tmp_path).train) == 1


def test_the_fingerprint_is_of_the_content(tmp_path):
    root = write_camvid(tmp_path)
    before = load_data(root).fingerprint
    assert load_data(root).fingerprint == before
    label = root / "valannot" / "f0.png"
    pixels = np.array(Image.open(label))
    pixels[0, 0] = (pixels[0, 0] + 1) % 11
    Image.fromarray(pixels).save(label)
    assert load_data(root).fingerprint != before


def read_all(root):
    data = load_data(root)
    return data.train, data.val


def spoil_truncate(root):
    path = root / "train" / "f1.png"
    path.write_bytes(path.read_bytes()[:200])
    return "f1.png"


def spoil_label_value(root):
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(root / "valannot" / "f2.png")
    return "f2.png holds label 77"


def spoil_missing_label(root):
    (root / "trainannot" / "f0.png").unlink()
    return "has no label"


def spoil_empty(root):
    for path in (root / "val").iterdir():
        path.unlink()
    return "split val"


def spoil_folder(root):
    for path in (root / "valannot").iterdir():
        path.unlink()
    (root / "valannot").rmdir()
    return "valannot"


def spoil_size(root):
    Image.fromarray(np.zeros((10, 32), np.uint8)).save(root / "trainannot" / "f1.png")
    return "is 32 x 10"


def spoil_mixed_sizes(root):
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(root / "train" / "f2.png")
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(root / "trainannot" / "f2.png")
    return "differ in size, 32 x 24 to 64 x 48"


def spoil_colours(root):
    Image.fromarray(np.full((24, 32, 3), [9, 0, 0], np.uint8)).save(root / "trainannot" / "f1.png")
    return "f1.png holds colours"


SPOILERS = [
    spoil_truncate,
    spoil_label_value,
    spoil_missing_label,
    spoil_empty,
    spoil_folder,
    spoil_size,
    spoil_mixed_sizes,
    spoil_colours,
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_what_is_wrong_with_a_folder_is_said_and_the_file_named(tmp_path, spoil):
    message = spoil(write_camvid(tmp_path))
    with pytest.raises(UserError) as error:
        read_all(tmp_path)
    assert message in str(error.value)


def test_an_unused_file_does_not_change_the_fingerprint(tmp_path):
    """Names, times and what no list names are not content."""
    root = write_camvid(tmp_path)
    (root / "train.txt").write_text("f0.png\nf1.png\n")
    before = load_data(root).fingerprint
    write_camvid(tmp_path / "copy")
    (tmp_path / "copy/train.txt").write_text("/SegNet/train/f1.png /SegNet/trainannot/f1.png\nf0.png\n")
    (tmp_path / "copy/train/f2.png").unlink()
    assert load_data(tmp_path / "copy").fingerprint == before


def test_a_file_that_changes_in_use_is_named(tmp_path):
    data = load_data(write_camvid(tmp_path))
    label = tmp_path / "trainannot" / "f1.png"
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(label)
    with pytest.raises(UserError, match=r"trainannot/f1.png changed while the data were in use"):
        data.train  # noqa: B018


def test_images_of_more_than_8_bits_are_refused(tmp_path):
    root = write_camvid(tmp_path)
    Image.fromarray(np.full((24, 32), 4000, np.uint16)).save(root / "train" / "f0.png")
    with pytest.raises(UserError, match=r"f0.png has more than 8 bits a channel .*: scale its values to 0..255"):
        load_data(root).train  # noqa: B018


def test_missing_data_and_options_are_errors(tmp_path):
    with pytest.raises(UserError, match="no data set"):
        load_data(tmp_path / "none")
    with pytest.raises(UserError, match="did you mean 'size'"):
        load_data("scenes", sise=(64, 128))


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not on this machine")
def test_the_real_camvid():
    data = load_data(CAMVID)
    assert data.counts == {"train": 367, "val": 101, "test": 233}
    assert data.fingerprint == "3231246414891b08"  # reports name it: the same data are the same for ever
    assert (len(data.val), data.val.size) == (101, (360, 480))
    assert set(data.val.labels.unique().tolist()) <= {*range(11), 255}


SCENE_0 = (2034627, [482, 2872, 3359, 0, 557, 0, 177, 606, 2, 137])
