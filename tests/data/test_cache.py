"""The cache: decoded once, made anew when files change, whole or not there, one process making it."""

import os
import time
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from nasseg.data import cache
from nasseg.data.dataset import load_data
from nasseg.errors import UserError
from nasseg.processes.children import Child
from tests.data import downloads


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    return downloads.camvid(tmp_path / "data")


@pytest.fixture
def reads(monkeypatch):
    """The images that were decoded."""
    names = []
    real = cache.read_known
    monkeypatch.setattr(cache, "read_known", lambda path, *label: names.append(path.name) or real(path, *label))
    return names


def made(home):
    return sorted(path.name.partition("-")[0] for path in home.glob("data-*/*-*") if path.is_dir())


def test_images_are_decoded_once(root, reads, home):
    first = load_data(root).train
    again = load_data(root).train
    assert sorted(reads) == ["f0.png", "f1.png", "f2.png"]
    assert torch.equal(first.images, again.images)
    assert made(home) == ["train"]
    for number, path in enumerate(sorted((root / "train").iterdir())):
        assert np.array_equal(again.images[number].numpy(), np.array(Image.open(path)))


def test_what_changes_is_decoded_anew_and_replaces_the_old(root, reads, home):
    before = load_data(root).train
    image = Image.fromarray(np.zeros((24, 32, 3), np.uint8))
    image.save(root / "train/f1.png")
    after = load_data(root).train
    assert not after.images[1].any()
    assert before.images[1].any()  # who has the old one open keeps it
    assert len(reads) == 6
    assert made(home) == ["train"]


def test_a_change_that_keeps_size_and_time_is_seen(root):
    """Checksums of files that are older than two seconds are kept; then a byte changes, and the time is set back."""
    path = root / "valannot/f0.png"
    path.write_bytes(raw_map(3))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    before = load_data(root).fingerprint
    path.write_bytes(raw_map(4))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert load_data(root).fingerprint != before


def raw_map(value):
    file = BytesIO()
    Image.fromarray(np.full((24, 32), value, np.uint8)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def test_files_that_stand_are_not_read_again(root, monkeypatch, home):
    monkeypatch.setattr(cache, "_SETTLED_NS", -(10**18))
    before = load_data(root).fingerprint
    monkeypatch.setattr(cache.Path, "read_bytes", lambda path: pytest.fail(f"{path} was read again"))
    assert load_data(root).fingerprint == before
    monkeypatch.undo()
    (next(home.parent.glob("**/checksums-*.json"))).write_text('{"torn')
    monkeypatch.setenv("NASSEG_CACHE", str(home))
    assert load_data(root).fingerprint == before


def test_files_that_changed_a_moment_ago_are_read_again(root, home):
    for path in root.glob("*/*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))  # whatever time they claim to be of
    load_data(root)
    assert not list(home.glob("checksums-*"))


def test_a_damaged_cache_is_made_anew(root, reads, home):
    whole = load_data(root).train.labels.clone()
    (entry,) = (path for path in home.glob("data-*/train-*") if path.is_dir())
    content = (entry / "labels.npy").read_bytes()
    (entry / "labels.npy").write_bytes(content[:-100])
    assert torch.equal(load_data(root).train.labels, whole)
    sizes = next(home.glob("data-*/train-*/sizes.npy"))
    sizes.unlink()
    assert torch.equal(load_data(root).train.labels, whole)
    for damaged in (b"", sizes.read_bytes().replace(b"}", b"(")):
        sizes.write_bytes(damaged)
        assert torch.equal(load_data(root).train.labels, whole)
    assert len(reads) == 15


def test_nothing_stays_of_what_failed(root, home):
    path = root / "train/f1.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cannot read image .*train/f1.png"):
        load_data(root).train  # noqa: B018
    assert made(home) == []
    path.write_bytes(content)
    assert len(load_data(root).train) == 3


def test_a_place_without_room_is_named(root, monkeypatch, home, tmp_path):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: cache.shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(UserError, match=r"cannot keep decoded images in .*0.0 GB are free; set NASSEG_CACHE"):
        load_data(root).train  # noqa: B018
    assert made(home) == []
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set NASSEG_CACHE to a folder with room"):
        load_data(root).train  # noqa: B018


def test_the_same_folder_seen_at_two_sizes_is_kept_twice(root, reads, home):
    for _ in range(2):
        load_data(root).train, load_data(root, size=[32, 48]).train
    assert len(reads) == 6
    assert made(home) == ["train", "train"]


def read_slowly(pipe):
    """Send the sum of a split's images, having noted each that is decoded, and waited."""
    root, log, seconds = pipe.recv()
    real = cache.read_known

    def slow(path, *label):
        with open(log, "a") as file:
            file.write(path.name + "\n")
        time.sleep(seconds)
        return real(path, *label)

    cache.read_known = slow
    pipe.send(int(load_data(root).train.images.sum()))


def start(root, log, seconds):
    child = Child(read_slowly)
    child.pipe.send((root, log, seconds))
    return child


@pytest.mark.slow
def test_of_several_processes_one_decodes_even_if_another_was_killed(root, tmp_path, home):
    """The first is killed in the middle, which frees its lock; of the next two one decodes, the other waits for it."""
    killed = start(root, tmp_path / "killed", 60)
    while not (tmp_path / "killed").exists():
        assert not killed.pipe.poll(0.02)
    processes = [start(root, tmp_path / "log", 0.1) for _ in range(2)]
    time.sleep(0.2)
    killed.kill()
    answers = {process.pipe.recv() for process in processes}
    assert {process.join() for process in processes} == {0}
    assert sorted((tmp_path / "log").read_text().split()) == ["f0.png", "f1.png", "f2.png"]
    assert answers == {int(load_data(root).train.images.sum())}
    assert not list(home.glob("data-*/.*"))


def test_arrays_larger_than_a_share_of_the_accelerator_stay(root, monkeypatch):
    split = load_data(root).train
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (split.images.nbytes, 0))
    assert split.to("cuda") is split
    images, labels = split.batch(torch.tensor([2, 0]), "cpu")
    assert torch.equal(images, split.images[[2, 0]])
    assert torch.equal(labels, split.labels[[2, 0]])
