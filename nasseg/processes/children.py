"""Start processes in milliseconds, without running the user's program again.

Processes are forked from one process, multiprocessing's fork server, which has imported PyTorch and nasseg once.
Otherwise each would import them again, about three seconds of a core. multiprocessing alone would import the main
module in each child: a plain script without `if __name__ == "__main__"` would start again there, and a notebook has no
main module to import.
"""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.connection import Connection  # registers multiprocessing's own exit handler
from types import ModuleType

from nasseg.errors import UserError

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["nasseg.study.engines.jobs", "torch._dynamo"])  # torch.optim imports the second
_PAUSES = (0.1, 1.0)  # seconds before a process is started again; multiprocessing then starts another server
_starting = threading.RLock()
_running: set["Child"] = set()
_begun = False  # whether a child was ever started


def start_server() -> None:
    """Start the fork server unless it runs. Called early, its imports take place beside those of this process.

    It takes no notice of Ctrl-C, which in a terminal reaches it, too: in the midst of its imports it would end with a
    traceback.
    """
    resource_tracker.ensure_running()  # which unblocks the signal
    with _no_main_module():
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()  # what it starts inherits the block
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)


class Child:
    """A process that calls a function of a module with one end of a pipe; the other end is `pipe`.

    The child ignores Ctrl-C, which its parent handles, and ends when its parent does.
    """

    def __init__(self, function: Callable[[Connection], None]) -> None:
        global _begun
        _begun = True
        for wait in (*_PAUSES, None):
            try:
                self._start(function)
                break
            except (EOFError, ConnectionError):  # the fork server was killed meanwhile
                if wait is None:
                    raise UserError(
                        "no process could be started: the one that starts them was killed three times in a row, most "
                        "likely for lack of memory; try fewer workers"
                    ) from None
                time.sleep(wait)
        _running.add(self)

    def _start(self, function: Callable[[Connection], None]) -> None:
        start_server()
        self.pipe, theirs = _CONTEXT.Pipe()
        with theirs, _outputs() as outputs, _no_main_module():
            self._process = _CONTEXT.Process(target=_run, args=(function, theirs, outputs, dict(os.environ)))
            self._process.start()

    def join(self) -> int:
        """Wait for the end of the process; return its exit code (a signal's number is negative)."""
        self._process.join()
        _running.discard(self)
        code = self._process.exitcode
        assert code is not None
        return code

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self.join()
        self.pipe.close()


@atexit.register
def _end_all() -> None:
    """End the children before multiprocessing waits for them: handlers run in reverse order.

    A server that has started no child may still be at its imports, for seconds, and would keep the output open.
    """
    for child in list(_running):
        child.kill()
    server = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if server and not _begun:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)


@contextlib.contextmanager
def _outputs() -> Iterator[list[Connection]]:
    """Yield this process's outputs in a form that reaches a child: the server prints to those that it started with."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Connection(os.dup(fd), readable=False)) for fd in (1, 2)]


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide the user's program, which a child would import."""
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _run(
    function: Callable[[Connection], None], pipe: Connection, outputs: list[Connection], environ: dict[str, str]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for fd, output in zip((1, 2), outputs, strict=True):
        os.dup2(output.fileno(), fd)
        output.close()
    os.environ.clear()
    os.environ.update(environ)
    threading.Thread(target=_end_with_parent, args=(pipe.fileno(),), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone, or no longer needs us
        function(pipe)


def _end_with_parent(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # a hang-up is always reported
    poll.poll()
    os._exit(1)
