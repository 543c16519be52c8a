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

from nasseg.errors import UserError
from nasseg.processes.file_lock import Tell, take_lock, to_stderr


class DeviceLock:
    """The lock of one device of this machine. tell: hears whom is waited for.

    Make one in each process (file descriptors are not shared between them).

    Raises:
        UserError: the folder of the locks cannot be used.
    """

    def __init__(self, device: str, tell: Tell = to_stderr) -> None:
        self._what, self._tell = f"device {device}", tell
        folder, name = _folder(), _physical(device)
        self._gate, self._body = (_open(folder / f"{name}.{part}") for part in ("gate", "body"))

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute beside other workers, never beside a measurement."""
        self._take(self._gate, fcntl.LOCK_EX)
        try:
            self._take(self._body, fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._body, fcntl.LOCK_UN)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Hold the device alone."""
        self._take(self._gate, fcntl.LOCK_EX)
        try:
            self._take(self._body, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._body, fcntl.LOCK_UN)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._gate)
        os.close(self._body)

    def _take(self, file: int, kind: int) -> None:
        take_lock(file, kind, self._what, self._tell)


def _folder() -> Path:
    """Return the folder of the locks: this user's own, so that no other user can hold them, or lead them elsewhere."""
    folder = Path(os.environ.get("NASSEG_LOCKS", Path(tempfile.gettempdir()) / f"nasseg-locks-{os.getuid()}"))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.lstat().st_uid
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from None
    if folder.is_symlink():
        raise _unusable(folder, "it is a symbolic link")
    if owner != os.getuid():
        raise _unusable(folder, f"it belongs to another user (uid {owner})")
    return folder


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        why = "is a symbolic link" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        raise _unusable(path.parent, f"{path.name} {why}") from None


def _unusable(folder: Path, why: str) -> UserError:
    return UserError(f"cannot keep locks of devices in {folder}: {why}; set NASSEG_LOCKS to a folder of your own")


def _physical(device: str) -> str:
    """Return a name for the physical GPU: the same for processes that number it differently, another for other GPUs."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return device.replace(":", "-")
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    place = int(number or 0)
    return f"cuda-{(visible[place] if place < len(visible) else str(place)).replace('/', '-')}"
