"""One reader follows EXIF tags where the label fits, and names a file with its fault."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from nasseg.data.check.check_data import check_data
from nasseg.data.class_table import Encoding
from nasseg.data.dataset import load_data
from nasseg.data.image_file import fitting_size, read_image, read_label, read_sample, size_of
from nasseg.errors import UserError
from tests.data import downloads

NUMBERS = Encoding("numbers", tuple((number, number) for number in range(12)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def turned(path, pixels, note):
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = note
    picture.save(path, exif=exif)


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored.swapaxes(0, 1), 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("note", UPRIGHT)
def test_a_note_is_followed_where_the_label_is_upright(tmp_path, note):
    stored = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    turned(tmp_path / "a.png", stored, note)
    upright = UPRIGHT[note](stored)
    Image.fromarray(np.ascontiguousarray(upright[..., 0] // 30)).save(tmp_path / "l.png")
    image, label, bad = read_sample(tmp_path / "a.png", tmp_path / "l.png", NUMBERS)
    assert not bad
    assert np.array_equal(image, upright)
    assert np.array_equal(label, upright[..., 0] // 30)
    assert fitting_size(tmp_path / "a.png", tmp_path / "l.png", NUMBERS) == label.shape
    assert np.array_equal(read_image(tmp_path / "a.png"), upright)
    assert size_of(tmp_path / "a.png") == upright.shape[:2]


def test_a_label_of_the_picture_as_stored_gets_it_as_stored(tmp_path):
    stored = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    turned(tmp_path / "a.png", stored, 6)
    Image.fromarray(stored[..., 0] // 30).save(tmp_path / "l.png")
    image, label, _ = read_sample(tmp_path / "a.png", tmp_path / "l.png", NUMBERS)
    assert np.array_equal(image, stored)
    assert np.array_equal(label, stored[..., 0] // 30)
    assert fitting_size(tmp_path / "a.png", tmp_path / "l.png", NUMBERS) == (20, 30)


def test_a_label_that_fits_neither_is_refused_with_both_sizes(tmp_path):
    turned(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8), 6)
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "l.png")
    message = r"l.png is 20 x 20 but its image a.png is 20 x 30 \(30 x 20 as stored, before its EXIF tag rotates it\)"
    for read in (read_sample, fitting_size):
        with pytest.raises(UserError, match=message):
            read(tmp_path / "a.png", tmp_path / "l.png", NUMBERS)


def test_training_sees_turned_pictures_upright(tmp_path):
    root = downloads.camvid(tmp_path / "data")
    upright = np.array(Image.open(root / "train/f1.png"))
    turned(root / "train/f1.png", np.ascontiguousarray(upright[::-1, ::-1]), 3)
    assert np.array_equal(load_data(root).train.images[1].numpy(), upright)


def five_channels(path):
    """A TIFF of five channels of 4 x 4 bytes, uncompressed."""
    tags = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 200), (277, 5), (278, 4), (279, 80)]
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + b"\0\0\0\0"
    path.write_bytes(head.ljust(200, b"\0") + bytes(80))


SPOILT = {
    "empty": (lambda path: path.write_bytes(b""), r"it is empty \(0 bytes\)"),
    "text": (lambda path: path.write_text("no picture"), "restore it, or take it out"),
    "16 bits": (lambda path: Image.fromarray(np.full((4, 4), 900, np.uint16)).save(path), "scale its values to 0..255"),
    "five channels": (five_channels, "a TIFF of 5 channels; networks see three"),
    "floats": (lambda path: Image.fromarray(np.ones((4, 4), np.float32)).save(path), "more than 8 bits a channel"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_picture_that_cannot_be_used_is_named_with_what_to_do(tmp_path, kind):
    spoil, message = SPOILT[kind]
    path = tmp_path / "a.tif"
    spoil(path)
    with pytest.raises(UserError, match=rf"a.tif.*{message}"):
        read_image(path)


def test_a_picture_too_large_for_pillow_is_to_be_cut(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(UserError, match=r"a.png: it has more than 0 million pixels; cut it into tiles"):
        read_image(tmp_path / "a.png")


def test_cmyk_is_read_as_rgb(tmp_path):
    Image.new("RGB", (40, 30), (200, 20, 20)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").reshape(-1, 3).mean(0) - [200, 20, 20]).max() < 4


def test_nothing_stops_at_the_first_bad_file(tmp_path):
    root = downloads.camvid(tmp_path / "data", count=5)
    for split, kind in zip(("train", "train", "train", "val", "val"), SPOILT, strict=True):
        number = list(SPOILT).index(kind)
        file = root / f"{split}/f{number}.tif"
        SPOILT[kind][0](file)
        file.rename(root / f"{split}/f{number}.png")
    faults = "\n".join(check_data(root).faults)
    for number in range(3):
        assert f"{root}/train/f{number}.png" in faults
    for number in (3, 4):
        assert f"{root}/val/f{number}.png" in faults


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGB", "RGBA", "I;16"])
def test_numbers_are_read_from_every_kind_of_picture(tmp_path, mode):
    stored = np.array([[0, 1], [1, 0]], np.uint8) * (255 if mode == "1" else 1)
    picture = Image.fromarray(stored.astype(np.uint16)) if mode == "I;16" else Image.fromarray(stored).convert(mode)
    picture.save(tmp_path / "l.png")
    assert np.array_equal(read_label(tmp_path / "l.png", NUMBERS)[0], stored > 0)


def test_the_nearest_class_of_grey_and_of_colours(tmp_path):
    grey = Encoding("ids", ((0, 0), (127, 1), (255, 2)), "nearest")
    assert grey.decode(np.array([[3, 60, 70], [200, 250, 127]], np.uint8))[0].tolist() == [[0, 0, 1], [2, 2, 1]]
    assert grey.decode(np.array([[3, 60, 70]], np.int32))[0].tolist() == [[0, 0, 1]]
    colours = Encoding("colours", ((0x0000FF, 0), (0xFF0000, 1)), "nearest")
    file = io.BytesIO()
    Image.fromarray(np.array([[[250, 9, 3], [40, 20, 200]]], np.uint8)).save(file, "PNG")
    (tmp_path / "l.png").write_bytes(file.getvalue())
    assert read_label(tmp_path / "l.png", colours)[0].tolist() == [[1, 0]]
