"""Data sets: images and labels in memory, by split, with an identity that follows from their content."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor

from nasseg.errors import UserError, unknown
from nasseg.records import digest
from nasseg.train import scenes
from nasseg.train.folder import SegNetFolder

Colour = tuple[int, int, int]
# Fresh scenes for every split, and adding to one leaves the others as they are.
_FIRST_SCENE = {"train": 0, "val": 1 << 24, "test": 2 << 24}


@dataclass(frozen=True, eq=False)
class Split:
    """images: uint8 [N, H, W, 3], RGB. labels: uint8 [N, H, W], 255 where ignored."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class DataSet:
    """Splits `train`, `val` and, if there, `test`, each read when first asked for and kept then.

    fingerprint: a hash of the content; where it differs, accuracies are not comparable.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    fingerprint: str
    sources: Mapping[str, Callable[[], Split]]
    _read: dict[str, Split] = field(default_factory=dict, repr=False)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def split(self, name: str) -> Split:
        """The images and labels of a split.

        Raises:
            UserError: there is no such split, or a file of it cannot be used (which is named).
        """
        if name not in self.sources:
            raise unknown(f"split of {self.name}", name, self.sources)
        if name not in self._read:
            self._read[name] = self.sources[name]()
        return self._read[name]

    @property
    def train(self) -> Split:
        return self.split("train")

    @property
    def val(self) -> Split:
        return self.split("val")

    @property
    def test(self) -> Split:
        return self.split("test")


class _SceneOptions(BaseModel):
    """Size and numbers of procedural scenes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[int, int] = (64, 128)
    train: int = Field(800, ge=1)
    val: int = Field(200, ge=1)
    test: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)

    @field_validator("size")
    @classmethod
    def _large_enough(cls, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < 32:
            raise ValueError("at least 32 x 32 is needed")
        return size


def load_data(name: str | Path, **options: Any) -> DataSet:
    """A data set by name or path.

    `scenes`: procedural street scenes; options size=(64, 128), train=800, val=200, test=0 (numbers of scenes), seed=0.
    A path: a folder in the SegNet tutorial's layout (see nasseg.train.folder); no options.

    Raises:
        UserError: there is no such data set, an option is wrong, or a file is missing (it is named).
    """
    if str(name) == "scenes":
        return _load_scenes(options)
    path = Path(name).expanduser()
    if not path.is_dir():
        raise UserError(
            f"no data set {str(name)!r}: give `scenes`, or a folder that holds train, trainannot, val, valannot"
        )
    if options:
        raise UserError(f"a data set from a folder takes no options, got {', '.join(options)}")
    return _load_folder(path)


def _load_scenes(values: dict[str, Any]) -> DataSet:
    for name in values:
        if name not in _SceneOptions.model_fields:
            raise unknown("option of scenes", name, _SceneOptions.model_fields)
    try:
        options = _SceneOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"scenes: {first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None
    counts = {split: getattr(options, split) for split in _FIRST_SCENE}
    # The options and the code decide the content; a few scenes stand for the code.
    samples = [zlib.crc32(part.tobytes()) for number in range(4) for part in scenes.render(number, seed=options.seed)]
    return DataSet(
        name="scenes",
        classes=scenes.CLASSES,
        colours=scenes.COLOURS,
        fingerprint=digest([options.model_dump(mode="json"), samples]),
        sources={split: partial(_draw, options, split, count) for split, count in counts.items() if count},
    )


def _draw(options: _SceneOptions, split: str, count: int) -> Split:
    images = torch.empty(count, *options.size, 3, dtype=torch.uint8)
    labels = torch.empty(count, *options.size, dtype=torch.uint8)
    for number in range(count):
        image, label = scenes.render(_FIRST_SCENE[split] + number, options.size, options.seed)
        images[number], labels[number] = torch.from_numpy(image), torch.from_numpy(label)
    return Split(images, labels)


def _load_folder(path: Path) -> DataSet:
    folder = SegNetFolder(path)
    return DataSet(
        name=path.resolve().name,
        classes=folder.classes,
        colours=folder.colours,
        fingerprint=folder.fingerprint(),
        sources={split: partial(_read, folder, split) for split in folder.splits},
    )


def _read(folder: SegNetFolder, split: str) -> Split:
    return Split(*folder.read(split))
