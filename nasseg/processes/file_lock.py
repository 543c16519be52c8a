"""Locks among the processes of one machine, which nobody waits for in silence.

They are the kernel's, on open files, and end with their holder, even by SIGKILL. The kernel also knows the holders.
"""

import fcntl
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from nasseg.redaction import shown

FIRST_SECONDS, AGAIN_SECONDS = 5.0, 60.0  # of waiting, before each line
LONGEST = 100  # of a command
Tell = Callable[[str], None]


def to_stderr(line: str) -> None:
    print(shown(line), file=sys.stderr, flush=True)


def take_lock(fd: int, kind: int, what: str, tell: Tell = to_stderr) -> None:
    """Take a lock of an open file, waiting for its holders; `tell` hears who they are after 5 s and each minute.

    kind: fcntl.LOCK_SH or LOCK_EX. what: that is locked, in words.
    """
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        done = Event()
        watcher = Thread(target=_tell_until, args=(done, fd, what, tell), daemon=True)
        watcher.start()
        try:
            fcntl.flock(fd, kind)
        finally:
            done.set()
            watcher.join()
    with suppress(OSError):  # no right to: whoever waits sees an earlier time
        os.utime(fd)


def _tell_until(done: Event, fd: int, what: str, tell: Tell) -> None:
    pause = FIRST_SECONDS
    while not done.wait(pause):
        with suppress(OSError):  # nobody listens any more
            tell(f"waiting for {what}: {_held_by(fd)}")
        pause = AGAIN_SECONDS


def _held_by(fd: int) -> str:
    """Return which process holds the lock of a file since when, and how to go on if it is paused."""
    holders = _holders(fd)
    if not holders:
        return "a process that cannot be seen from here holds it"
    pid, shared = holders[0]
    # Each holder notes the time on the file: of several, it is that of the last one.
    since = time.strftime("%H:%M:%S", time.localtime(os.fstat(fd).st_mtime))
    others = f", and {len(holders) - 1} more," if len(holders) > 1 else ""
    line = f"process {pid} ({_command(pid)}){others} holds it since {since}{' or before' * shared}"
    return f"{line}; it is paused: `kill -CONT {pid}` lets it go on" if _stat(pid)[0] in "Tt" else line


def _holders(fd: int) -> list[tuple[int, bool]]:
    """Return the processes that hold the lock of a file, and whether they share it."""
    stat = os.fstat(fd)
    file = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    with suppress(OSError):  # no Linux
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        held = [parts for parts in lines if parts[1] == "FLOCK" and parts[5] == file]
        return [(int(pid), kind == "READ") for _, _, _, kind, pid, *_ in held if int(pid) > 0]
    return []


def _command(pid: int) -> str:
    """Return the command of a process; of a worker, which has none of its own, that of the process that began it."""
    with suppress(OSError, ValueError):
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        if any("multiprocessing" in word for word in words) and int(_stat(pid)[1]) > 1:
            return f"worker of {_command(int(_stat(pid)[1]))}"
        command = shown(" ".join(words).strip())
        return command if len(command) <= LONGEST else f"{command[:LONGEST]}..."
    return "unknown"


def _stat(pid: int) -> list[str]:
    """Return the state of a process and its parent, as the kernel shows them."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return ["?", "0"]
