"""A reader-writer lock of a device between the processes of one machine: many workers, one measurer.

A worker enters `computing()` for each step on the device; a latency measurement enters `measuring()` and has the device
alone. A waiting measurer holds the gate, so no new step starts and it waits for one step at most. Both are file locks:
the kernel frees them when a process dies, even by SIGKILL.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DeviceLock:
    """The lock of one device of this machine.

    Make one in each process (file descriptors are not shared between them).
    """

    def __init__(self, device: str) -> None:
        folder = Path(os.environ.get("NASSEG_LOCKS", Path(tempfile.gettempdir()) / f"nasseg-locks-{os.getuid()}"))
        folder.mkdir(parents=True, exist_ok=True)
        name = _physical(device)
        self._gate = os.open(folder / f"{name}.gate", os.O_RDWR | os.O_CREAT, 0o600)
        self._body = os.open(folder / f"{name}.body", os.O_RDWR | os.O_CREAT, 0o600)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute beside other workers, never beside a measurement."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._body, fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._body, fcntl.LOCK_UN)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Hold the device alone."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._body, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._body, fcntl.LOCK_UN)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._gate)
        os.close(self._body)


def _physical(device: str) -> str:
    """Return a name for the physical GPU: the same for processes that number it differently, another for other GPUs."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return device.replace(":", "-")
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    place = int(number or 0)
    return f"cuda-{(visible[place] if place < len(visible) else str(place)).replace('/', '-')}"
