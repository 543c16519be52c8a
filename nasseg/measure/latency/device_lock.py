"""A reader-writer lock of a device, between processes of one machine: many workers, one measurer.

A worker enters `computing()` for each step on the device; a latency measurement enters `measuring()` and has the device
alone. A waiting measurer holds the gate, so no new step starts and it waits for one step at most. Both are file locks:
the kernel frees them when a process dies, even by SIGKILL. Before a process gives the lock back, its queued work on a
GPU is finished.

A GPU is identified by its UUID, whatever its number and name in a process, and its lock is shared by all users of the
machine. Containers share it if NASSEG_LOCKS names a folder that they share.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nasseg.errors import UserError
from nasseg.processes.file_lock import Tell, take_lock, to_stderr


class DeviceLock:
    """The lock of one device of this machine. tell: called with the process that it waits for.

    Make one in each process (file descriptors are not shared between them).

    Raises:
        UserError: the folder of the locks cannot be used, or torch sees no such GPU.
    """

    def __init__(self, device: str, tell: Tell = to_stderr) -> None:
        self._what, self._tell = f"device {device}", tell
        self._gpu = device if device.partition(":")[0] == "cuda" else None
        shared, name = self._gpu is not None, _physical(device)
        folder = _folder(shared)
        self._gate, self._body = (_open(folder / f"{name}.{part}", shared) for part in ("gate", "body"))

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute beside other workers, but never beside a measurement."""
        self._take(self._gate, fcntl.LOCK_EX)
        try:
            self._take(self._body, fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            self._give_back(self._body)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Hold the device alone."""
        self._take(self._gate, fcntl.LOCK_EX)
        try:
            self._take(self._body, fcntl.LOCK_EX)
            try:
                yield
            finally:
                self._give_back(self._body)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._gate)
        os.close(self._body)

    def _take(self, file: int, kind: int) -> None:
        take_lock(file, kind, self._what, self._tell)

    def _give_back(self, file: int) -> None:
        """Unlock a file once the GPU has finished this process's work."""
        try:
            if self._gpu:
                _wait_for(self._gpu)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _wait_for(gpu: str) -> None:
    import torch  # slow to import; a CPU's lock does not need it

    if torch.cuda.is_initialized():
        torch.cuda.synchronize(gpu)


def _folder(shared: bool) -> Path:
    """Return the folder of the locks.

    A CPU's is the user's own, so that no other user can hold or redirect its locks. A GPU's is shared by all users: the
    work of others disturbs just as much. There nobody can replace another user's files.
    """
    name = "nasseg-locks" if shared else f"nasseg-locks-{os.getuid()}"
    said = os.environ.get("NASSEG_LOCKS")
    folder = Path(said or Path(tempfile.gettempdir()) / name)
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
            if shared and not said:
                folder.chmod(0o1777)
        found = folder.lstat()
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from None
    if folder.is_symlink():
        raise _unusable(folder, "it is a symbolic link")
    if found.st_uid != os.getuid() and not ((shared or said) and found.st_mode & stat.S_ISVTX):
        sticky = ", and is not for all of them (chmod 1777)" if shared else ""
        raise _unusable(folder, f"it belongs to another user (uid {found.st_uid}){sticky}")
    return folder


def _open(path: Path, shared: bool) -> int:
    try:
        if not shared:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if not os.path.lexists(path):
            _create_shared(path)
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # O_CREAT is refused for another user's file
    except OSError as error:
        why = "is a symbolic link" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        raise _unusable(path.parent, f"{path.name} {why}") from None


def _create_shared(path: Path) -> None:
    """Create a file that everyone may write to. It gets its name once they may; another process may be first."""
    descriptor, partial = tempfile.mkstemp(dir=path.parent)
    try:
        os.fchmod(descriptor, 0o666)
        with suppress(FileExistsError):
            os.link(partial, path)
    finally:
        os.close(descriptor)
        os.unlink(partial)


def _unusable(folder: Path, why: str) -> UserError:
    return UserError(f"cannot keep locks of devices in {folder}: {why}; set NASSEG_LOCKS to a folder of your own")


def _physical(device: str) -> str:
    """Return a name for the physical device."""
    if device.partition(":")[0] != "cuda":
        return device.replace(":", "-")
    from nasseg.measure.nvml import uuid_of  # imports torch

    return f"cuda-{uuid_of(device)}"
