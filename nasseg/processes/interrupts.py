"""Act on Ctrl-C and SIGTERM only where work can stop."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Give a function that raises KeyboardInterrupt once after Ctrl-C or SIGTERM; a second signal raises at once.

    In the middle of a transaction, an interrupt could leave the database locked; in the middle of a step, it could
    break a checkpoint. An ignored signal (as in a shell's background jobs) stays ignored. Outside the main thread,
    signals are left to the caller. Once the function has raised, further calls do nothing, so that the same signal does
    not interrupt the work of ending cleanly.
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
