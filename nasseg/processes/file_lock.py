"""Locks between processes of one machine. Nobody waits for them silently.

They are kernel locks on open files and end with their holder, even by SIGKILL. The kernel also knows the holders.
"""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Literal

from nasseg.redaction import shown

FIRST_SECONDS, AGAIN_SECONDS = 5.0, 60.0  # seconds of waiting, before each line
LONGEST = 100  # characters of a command
UNSEEN = "a process that is not visible from here holds it"
Tell = Callable[[str], None]
Kind = Literal["FLOCK", "POSIX"]  # the kernel's names of flock's and fcntl's locks


def to_stderr(line: str) -> None:
    with suppress(OSError):  # nobody reads it any more: the wait goes on
        print(shown(line), file=sys.stderr, flush=True)


def take_lock(fd: int, kind: int, what: str, tell: Tell = to_stderr) -> None:
    """Take a lock of an open file, waiting for its holders; `tell` hears who they are after 5 s and each minute.

    kind: fcntl.LOCK_SH or LOCK_EX. what: what is locked, in words.
    """
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        with told_while_waiting(what, lambda: _held_by(fd), tell):
            fcntl.flock(fd, kind)
    with suppress(OSError):  # no permission: whoever waits sees an earlier time
        os.utime(fd)


@contextmanager
def told_while_waiting(what: str, why: Callable[[], str], tell: Tell = to_stderr) -> Iterator[None]:
    """Tell what this context waits for, and why, after 5 s and each minute."""
    done = Event()

    def watch() -> None:
        pause = FIRST_SECONDS
        while not done.wait(pause):
            with suppress(OSError):  # nobody reads it any more
                tell(f"waiting for {what}: {why()}")
            pause = AGAIN_SECONDS

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def user_of(path: Path) -> str:
    """Return which process has locked a file with fcntl, as SQLite does, and what to do if it is paused."""
    try:
        holders = _holders(path.stat(), "POSIX")
    except OSError:
        holders = []
    others = [(shared, pid) for pid, shared in holders if pid != os.getpid()]
    if not others:
        return UNSEEN
    _, pid = min(others)  # writers before readers
    return f"process {pid} ({_command(pid)}) holds it{_if_paused(pid)}"


def _held_by(fd: int) -> str:
    """Return which process holds a file's lock, since when, and what to do if it is paused."""
    holders = _holders(os.fstat(fd), "FLOCK")
    if not holders:
        return UNSEEN
    pid, shared = holders[0]
    others = f", and {len(holders) - 1} more," if len(holders) > 1 else ""
    # Each holder sets the file's time, so among several holders it is the last one's.
    return held_by(pid, os.fstat(fd).st_mtime, others, " or before" * shared)


def held_by(pid: int, since: float, others: str = "", before: str = "") -> str:
    """Say that a process has held something since a time (seconds of the epoch), and what to do if it is paused."""
    return f"process {pid} ({_command(pid)}){others} has held it since {clock(since)}{before}{_if_paused(pid)}"


def clock(seconds: float) -> str:
    """Return a time (seconds of the epoch) as the local clock shows it."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _holders(stat: os.stat_result, kind: Kind) -> list[tuple[int, bool]]:
    """Return the processes that hold locks of a kind on a file, and whether they share them."""
    file = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    with suppress(OSError):  # no Linux
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        held = [parts for parts in lines if parts[1] == kind and parts[5] == file]
        return [(int(pid), mode == "READ") for _, _, _, mode, pid, *_ in held if int(pid) > 0]
    return []


def _if_paused(pid: int) -> str:
    return f"; it is paused: `kill -CONT {pid}` resumes it" if _stat(pid)[0] in "Tt" else ""


def _command(pid: int) -> str:
    """Return the command of a process; for a worker, which has none, that of the process that started it."""
    with suppress(OSError, ValueError):
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        if any("multiprocessing" in word for word in words) and int(_stat(pid)[1]) > 1:
            return f"worker of {_command(int(_stat(pid)[1])).removeprefix('worker of ')}"  # below a server of workers
        command = shown(" ".join(" ".join(words).split()))
        return command if len(command) <= LONGEST else f"{command[:LONGEST]}..."
    return "unknown"


def _stat(pid: int) -> list[str]:
    """Return the state of a process and its parent, as the kernel shows them."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return ["?", "0"]
