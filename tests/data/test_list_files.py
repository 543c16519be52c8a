"""One lister of files: links followed once, hidden files left out; text in every encoding or refused."""

import pytest
from PIL import Image

from nasseg.data.check.check_data import check_data
from nasseg.data.dataset import load_data
from nasseg.data.list_files import list_files, list_pictures, read_lines, read_text
from nasseg.data.pseudo_labels import list_images
from nasseg.errors import UserError
from tests.data import downloads


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def below(root, files):
    return [path.relative_to(root).as_posix() for path in files]


def test_links_are_followed_once_and_not_in_circles(tmp_path):
    root, outside = tmp_path / "data", tmp_path / "disk"
    for name in ("a/1.png", "b/2.png"):
        picture(root / name)
    picture(outside / "deep/3.png")
    (outside / "deep/up").symlink_to(outside)
    (root / "a/parent").symlink_to(root)
    (root / "a/sister").symlink_to(root / "b")
    (root / "c").symlink_to(outside)
    (root / "d").symlink_to(outside)
    (root / "self").symlink_to(root / "self")
    (root / "b/4.png").symlink_to(root / "a/1.png")
    files = below(root, list_pictures(root))
    assert files == ["a/1.png", "b/2.png", "b/4.png", "c/deep/3.png"]
    assert list_images(root) == tuple(files)


def test_a_link_to_a_parent_adds_no_images(tmp_path):
    """Through the link, val would be among train."""
    root = downloads.cityscapes(tmp_path / "data")
    before = load_data(root)
    (root / "leftImg8bit/train/aachen/up").symlink_to(root)
    (root / "leftImg8bit/train/again").symlink_to(root / "leftImg8bit")
    after = load_data(root)
    assert (after.counts, after.fingerprint) == (before.counts, before.fingerprint)


def test_a_linked_folder_of_images_is_read(tmp_path):
    root = downloads.camvid(tmp_path / "data")
    (root / "train").rename(tmp_path / "elsewhere")
    (root / "train").symlink_to(tmp_path / "elsewhere")
    assert load_data(root).counts == {"train": 3, "val": 3}
    assert check_data(root).splits["train"].opened == 3


def test_hidden_files_are_left_out(tmp_path):
    for name in ("1.png", "._1.png", ".cache/2.png", "__MACOSX/3.png", "@eaDir/4.png"):
        picture(tmp_path / name)
    assert below(tmp_path, list_files(tmp_path)) == ["1.png"]
    assert below(tmp_path, list_files(tmp_path, deep=False)) == ["1.png"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot look into .*nowhere: No such file"):
        list(list_files(tmp_path / "nowhere"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_is_read_in_every_encoding(tmp_path, encoding, end):
    path = tmp_path / "list.txt"
    path.write_bytes(f"f0{end}straße {end}".encode(encoding))
    assert read_lines(path) == ["f0", "straße", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nstraße".encode("latin-1"), r"line 2 is no UTF-8 \(byte 0xdf\); save it as UTF-8"),
        ("a\nb".encode("utf-16-le"), "it holds zero bytes, like UTF-16 without a byte order mark"),
    ],
)
def test_other_text_is_refused_with_the_reason(tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"list.txt: {message}"):
        read_text(tmp_path / "list.txt")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_of_windows_is_read(tmp_path, encoding):
    root = downloads.camvid(tmp_path / "data")
    (root / "train.txt").write_bytes("train\\f0.png\r\ntrain\\f2.png\r\n".encode(encoding))
    assert load_data(root).counts == {"train": 2, "val": 3}
