"""The pictures to segment: files, folders of files, and frames of videos."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasseg.data.image_file import read_image
from nasseg.data.pseudo_labels import list_images
from nasseg.errors import UserError

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A picture, or a video. name: of its results below a folder, without a suffix; for a video, their folder."""

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEOS

    def frames(self) -> Iterator[tuple[Path, Pixels]]:
        """Yield the pictures [H, W, 3] with the names of their results. A video's frames are numbered from 1.

        Raises:
            UserError: it cannot be read.
        """
        if not self.is_video:
            yield self.name, read_image(self.path)
            return
        for number, pixels in enumerate(_frames_of_video(self.path), 1):
            yield self.name / f"{number:06}", pixels


def list_sources(given: Sequence[Path], folder: Path) -> list[Source]:
    """Return what is at paths: pictures, videos, and for a folder all pictures below it, by their names there.

    Raises:
        UserError: there are none, the reader of videos is missing, or results in `folder` would count as pictures.
    """
    if not given:
        raise UserError("no image was given")
    found: list[Source] = []
    for path in given:
        if path.is_dir():
            if path.resolve() in (folder.resolve(), *folder.resolve().parents):
                raise UserError(
                    f"{folder} is inside {path}, so results would count as pictures: give another folder with -o"
                )
            found += [Source(path / name, Path(name).with_suffix("")) for name in list_images(path)]
        elif path.is_file():
            source = Source(path, Path(path.name))
            found.append(source if source.is_video else Source(path, Path(path.stem)))
        else:
            raise UserError(f"no such image: {path}")
    if any(source.is_video for source in found):
        _require_av()
    return found


def _require_av() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise UserError(
            "videos need PyAV, which is not installed: pip install 'nasseg[video]', or give a folder of frames"
        ) from None


def _frames_of_video(path: Path) -> Iterator[Pixels]:
    """Yield the frames of a video's first track, rotated as players show them."""
    av = _require_av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no frames: give a video, or a picture")
            for frame in container.decode(video=0):
                yield np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)).copy()
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"cannot read the video {path}: {error.strerror or error}") from None
