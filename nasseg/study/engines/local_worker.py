"""A worker process of the local engine: one job after another, with one thread."""

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from nasseg.errors import Fault
from nasseg.study.engines.jobs import Workshop

TELL_SECONDS = 0.5


@dataclass(frozen=True)
class Ready:
    """A worker's first message: it has started and takes jobs."""


class _Throttled:
    """A reporter of steps, twice a second instead of three hundred times a second."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._last = pipe, 0.0

    def __call__(self, candidate: int, step: int, loss: float) -> None:
        if time.monotonic() - self._last > TELL_SECONDS:
            self._last = time.monotonic()
            self._pipe.send((candidate, step, loss))


def work(pipe: Connection) -> None:
    """Do jobs until the pipe is closed or the device fails. The first message is the study's context."""
    import torch

    torch.set_num_threads(1)
    workshop = Workshop(pipe.recv(), _Throttled(pipe), pipe.send)
    pipe.send(Ready())
    fault: Fault | None = None
    while fault is not Fault.DEVICE:
        result = workshop.run(pipe.recv())
        pipe.send(result)
        fault = result.fault
