"""Data: procedural scenes, the SegNet tutorial's layout, and errors that name the file."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.errors import UserError
from nasseg.train import scenes
from nasseg.train.data import load_data

CAMVID = Path(os.environ.get("NASSEG_CAMVID", Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid"))


def write_camvid(root, suffix="png", count=3, size=(24, 32), splits=("train", "val")):
    rng = np.random.default_rng(0)
    for split in splits:
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            label = rng.integers(0, 12, size, dtype=np.uint8)
            Image.fromarray(image).save(root / split / f"f{number}.{suffix}")
            Image.fromarray(label).save(root / f"{split}annot" / f"f{number}.png")
    return root


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
    return "must be of one size"


def spoil_colours(root):
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(root / "trainannot" / "f1.png")
    return "no one-byte label map"


SPOILERS = [
    spoil_truncate, spoil_label_value, spoil_missing_label, spoil_empty, spoil_folder, spoil_size, spoil_mixed_sizes,
    spoil_colours,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILERS)
def test_what_is_wrong_with_a_folder_is_said_and_the_file_named(tmp_path, spoil):
    message = spoil(write_camvid(tmp_path))
    with pytest.raises(UserError) as error:
        read_all(tmp_path)
    assert message in str(error.value)


def test_missing_data_and_options_are_errors(tmp_path):
    with pytest.raises(UserError, match="no data set"):
        load_data(tmp_path / "none")
    with pytest.raises(UserError, match="did you mean 'size'"):
        load_data("scenes", sise=(64, 128))


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not on this machine")
def test_the_real_camvid():
    data = load_data(CAMVID)
    assert (len(data.val), data.val.size) == (101, (360, 480))
    assert set(data.val.labels.unique().tolist()) <= {*range(11), 255}


SCENE_0 = (2034627, [482, 2872, 3359, 0, 557, 0, 177, 606, 2, 137])
