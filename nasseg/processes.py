"""Start processes that do not run the user's program again.

multiprocessing's `spawn` imports the main module in each child: a plain script without `if __name__ == "__main__"`
would begin anew there, and a notebook has none to import.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection, Pipe

_CODE = "import sys; sys.path[:] = {path!r}; from nasseg.processes import _run; _run({fd}, {module!r}, {name!r})"


class Child:
    """A process that calls a function of a module with one end of a pipe; the other end is `pipe`.

    The child ignores Ctrl-C, which is its parent's to handle, and ends when its parent does.
    """

    def __init__(self, function: Callable[[Connection], None]) -> None:
        self.pipe, theirs = Pipe()
        code = _CODE.format(path=sys.path, fd=theirs.fileno(), module=function.__module__, name=function.__name__)
        with theirs:
            command = [sys.executable, "-c", code]
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)

    def join(self) -> int:
        """Wait for the end of the process; return its exit code, a signal's number negated."""
        return self._process.wait()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        self.pipe.close()


def _run(fd: int, module: str, name: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, args=(fd,), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone, or needs us no longer
        getattr(import_module(module), name)(Connection(fd))


def _end_with_parent(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # a hang-up is always told
    poll.poll()
    os._exit(1)
