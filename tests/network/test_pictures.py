"""Check what `nasseg predict` is given: pictures, folders of them, and videos."""

import sys
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nasseg.data import scenes
from nasseg.errors import UserError
from nasseg.network import pictures
from nasseg.network.pictures import Source, list_sources

SIZE = (64, 96)


def write_video(path, frames):
    """Write a video without loss."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = *SIZE, "bgr0"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_a_folder_is_its_pictures_by_their_names_below_it(tmp_path):
    for name in ("b/left.png", "a.jpg", "b/c/left.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), "red").save(tmp_path / "in" / name)
    found = list_sources([tmp_path / "in", tmp_path / "in/a.jpg"], tmp_path / "out")
    assert [source.name for source in found] == [Path("a"), Path("b/c/left"), Path("b/left"), Path("a")]
    ((name, pixels),) = found[1].frames()
    assert (name, pixels.shape) == (Path("b/c/left"), (6, 8, 3))


def test_a_video_is_its_frames_in_order(tmp_path):
    frames = [scenes.render(number, SIZE)[0] for number in range(3)]
    write_video(tmp_path / "drive.mkv", frames)
    (source,) = list_sources([tmp_path / "drive.mkv"], tmp_path / "out")
    names, found = zip(*source.frames(), strict=True)
    assert names == tuple(Path("drive.mkv") / f"00000{number}" for number in (1, 2, 3))
    assert np.array_equal(found, frames)


def test_a_video_is_turned_as_players_show_it(tmp_path, monkeypatch):
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    frame = SimpleNamespace(rotation=-90, to_ndarray=lambda format: pixels)

    container = SimpleNamespace(streams=SimpleNamespace(video=[0]), decode=lambda video: iter([frame]))
    av = SimpleNamespace(open=lambda _: nullcontext(container), FFmpegError=OSError)
    monkeypatch.setattr(pictures, "_require_av", lambda: av)
    ((_, found),) = Source(tmp_path / "a.mp4", Path("a.mp4")).frames()
    assert np.array_equal(found, np.rot90(pixels, -1))


def test_what_is_no_video_or_cannot_be_read_here_is_said(tmp_path, monkeypatch):
    (tmp_path / "text.mp4").write_text("no video")
    pytest.importorskip("av")
    (source,) = list_sources([tmp_path / "text.mp4"], tmp_path / "out")
    with pytest.raises(UserError, match=r"cannot read the video .*text\.mp4: Invalid data"):
        next(source.frames())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"videos need PyAV, .*pip install 'nasseg\[video\]'.* folder of frames"):
        list_sources([tmp_path / "text.mp4"], tmp_path / "out")
