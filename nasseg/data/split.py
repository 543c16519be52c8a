"""Images and labels of a split, in memory or mapped from a file, of one size or of many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nasseg.records import Size

Batch = tuple[Tensor, Tensor] | tuple[list[Tensor], list[Tensor]]
_SHARE = 4  # a split moves to a GPU if its images take at most 1 / _SHARE of the free memory


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device. It goes to a GPU from pinned memory: otherwise the CPU would wait for the copy."""
    if tensor.device.type == "cpu" and torch.device(device).type != "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _chosen(parts: Tensor, chosen: Tensor, device: torch.device | str) -> Tensor:
    """Return chosen images or labels of a split on a device. For a GPU they are gathered in pinned memory."""
    if parts.device.type == "cpu" and torch.device(device).type != "cpu":
        gathered = torch.empty(len(chosen), *parts.shape[1:], dtype=parts.dtype, pin_memory=True)
        return upload(torch.index_select(parts, 0, chosen, out=gathered), device)
    return parts.index_select(0, upload(chosen, parts.device)).to(device)


@dataclass(frozen=True, eq=False)
class Ragged:
    """N arrays of different sizes, stored one after the other: images [H, W, 3] or labels [H, W], uint8."""

    flat: Tensor
    sizes: tuple[Size, ...]
    channels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> Tensor:
        begin, end = self._bounds[number : number + 2]
        return self.flat[begin:end].view(*self.sizes[number], *self.channels)

    @cached_property
    def _bounds(self) -> list[int]:
        pixels = np.array([height * width for height, width in self.sizes], np.int64)
        bounds: list[int] = np.concatenate([[0], np.cumsum(pixels * int(np.prod(self.channels)))]).tolist()
        return bounds

    @property
    def device(self) -> torch.device:
        return self.flat.device

    @property
    def nbytes(self) -> int:
        return self.flat.nbytes

    def to(self, device: torch.device | str) -> "Ragged":
        return Ragged(self.flat.to(device), self.sizes, self.channels)


@dataclass(frozen=True, eq=False)
class Split:
    """The images and labels of a split.

    images: uint8 [N, H, W, 3], RGB. labels: uint8 [N, H, W], 255 where ignored. Either is Ragged if its sizes differ.
    An image and its label show the same scene, each at its own size.
    seen: the size that networks see; None if all images and labels have one size. Images are resized to fit into it
    (nasseg.data.image_file.fit_image); the mean colour fills the rest. Logits are resized to the labels.
    """

    images: Tensor | Ragged
    labels: Tensor | Ragged
    seen: Size | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> Size:
        """Height and width of the images as networks see them."""
        if self.seen is not None:
            return self.seen
        assert isinstance(self.images, Tensor), "images of different sizes are seen at a size"
        return self.images.shape[1], self.images.shape[2]

    @property
    def fits(self) -> bool:
        """True if all images and labels have the size that networks see, so that batches are tensors."""
        parts = (self.images, self.labels)
        return all(isinstance(part, Tensor) and tuple(part.shape[1:3]) == self.size for part in parts)

    def to(self, device: torch.device | str) -> "Split":
        """Return the split on a device, or unchanged if its images would take too much of a GPU's free memory."""
        if torch.device(device).type == "cuda" and self.images.nbytes > torch.cuda.mem_get_info(device)[0] // _SHARE:
            return self
        return Split(self.images.to(device), self.labels.to(device), self.seen)

    def batch(self, chosen: Tensor, device: torch.device | str) -> Batch:
        """Return the chosen images and labels on a device: tensors [B, ...], or lists if sizes differ."""
        if isinstance(self.images, Tensor) and isinstance(self.labels, Tensor) and self.fits:
            return _chosen(self.images, chosen, device), _chosen(self.labels, chosen, device)
        numbers: Sequence[int] = chosen.tolist()
        return [upload(self.images[n], device) for n in numbers], [upload(self.labels[n], device) for n in numbers]

    def batches(self, size: int, device: torch.device | str) -> Iterator[Batch]:
        """Yield the whole split in its order, at most `size` images at a time."""
        if isinstance(self.images, Tensor) and isinstance(self.labels, Tensor) and self.fits:
            for images, labels in zip(self.images.split(size), self.labels.split(size), strict=True):
                yield upload(images, device), upload(labels, device)
            return
        for numbers in torch.arange(len(self)).split(size):
            yield self.batch(numbers, device)
