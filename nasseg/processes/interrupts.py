"""Heed Ctrl-C and SIGTERM where work can stop."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Give a function that raises KeyboardInterrupt after Ctrl-C or SIGTERM, one time; a second signal raises at once.

    In the middle of a transaction, an interrupt could leave a database locked; in the middle of a step, a broken
    checkpoint. A signal that is ignored (as in background jobs of a shell) stays ignored. Outside the main thread
    signals are left to the caller. What is done after it has raised, to end well, is not interrupted again.
    """
    asked, raised = [False], [False]

    def ask(_number: int, _frame: object) -> None:
        if asked[0]:
            raise KeyboardInterrupt
        asked[0] = True

    def look() -> None:
        if asked[0] and not raised[0]:
            raised[0] = True
            raise KeyboardInterrupt

    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            known = signal.getsignal(number)
            if known is not signal.SIG_IGN and known is not None:
                try:
                    stack.callback(signal.signal, number, signal.signal(number, ask))
                except ValueError:  # not the main thread
                    break
        yield look
