"""Keep a GPU busy between two steps: make the next step's views while the GPU computes this one.

On a CPU nothing is made ahead: it would compete with the step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

Views = tuple[Tensor, Tensor]


class Source(Protocol):
    """A source of batches. Its state is part of a checkpoint."""

    def next(self) -> Any: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


class Ahead:
    """The views of the next step, and the state from which they can be drawn again.

    make: draws views and sends them to the device. state: what `make` changes.
    """

    def __init__(self, make: Callable[[], Views], state: Callable[[], dict[str, Any]], device: torch.device) -> None:
        self._make, self._state, self._device = make, state, device
        self._made: Views | None = None
        self._before: dict[str, Any] = {}
        self._stream: torch.cuda.Stream | None = None

    def take(self) -> Views:
        """Return the views of this step, made ahead or now."""
        if self._made is None or self._stream is None:
            return self._make()
        views, self._made = self._made, None
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        for part in views:
            part.record_stream(current)  # their memory belongs to the other stream and is in use here
        return views

    def read(self, loss: Tensor, more: bool) -> float:
        """Return a step's loss. While a GPU computes it, the views of the next step are made, if there are more.

        This is the only point of a step at which the CPU waits for the GPU. Afterwards the GPU is idle.
        """
        if self._device.type != "cuda":
            return loss.item()
        found, done = loss.to("cpu", non_blocking=True), torch.cuda.Event()
        done.record(torch.cuda.current_stream(self._device))
        if more:
            self._before = self._state()
            if self._stream is None:
                self._stream = torch.cuda.Stream(self._device)
                self._stream.wait_stream(torch.cuda.current_stream(self._device))  # the data came by that stream
            with torch.cuda.stream(self._stream):
                self._made = self._make()
        done.synchronize()
        if self._stream is not None:
            self._stream.synchronize()
        return found.item()

    def state(self) -> dict[str, Any]:
        """Return the state from which the next views are drawn, whether they are made yet or not."""
        return self._state() if self._made is None else dict(self._before)


@contextmanager
def searched_algorithms(device: torch.device) -> Iterator[None]:
    """Let cuDNN search for the fastest algorithms: views have one size, so the search pays off after some steps."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
