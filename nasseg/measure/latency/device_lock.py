"""One device, many workers, one measurer: a reader-writer lock between the processes of one machine.

Whatever computes on the device enters `computing()` a step at a time; a latency measurement enters `measuring()` and
has the device for itself. A waiting measurer holds the gate, so no new step starts and the wait is one step long. Both
are file locks: the kernel frees them when a process dies, by SIGKILL too.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DeviceLock:
    """The lock of one device of this machine. Make one a process (file descriptors are not shared between them)."""

    def __init__(self, device: str) -> None:
        folder = Path(os.environ.get("NASSEG_LOCKS", Path(tempfile.gettempdir()) / f"nasseg-locks-{os.getuid()}"))
        folder.mkdir(parents=True, exist_ok=True)
        name = _physical(device)
        self._gate = os.open(folder / f"{name}.gate", os.O_RDWR | os.O_CREAT, 0o600)
        self._body = os.open(folder / f"{name}.body", os.O_RDWR | os.O_CREAT, 0o600)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute beside others that compute, never beside a measurement."""
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
        """Have the device alone."""
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
    """A name that processes which see different GPUs do not share, and those that see one by different numbers do."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return device.replace(":", "-")
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    place = int(number or 0)
    return f"cuda-{(visible[place] if place < len(visible) else str(place)).replace('/', '-')}"
