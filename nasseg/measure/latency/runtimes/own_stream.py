"""Libraries beside torch work on a CUDA stream of their own, in torch's order."""

from collections.abc import Callable

import torch

Run = Callable[[], object]


def in_order(stream: torch.cuda.Stream, enqueue: Run) -> Run:
    """Return a call that enqueues work on a stream between what torch has enqueued and what it will.

    So the events that torch records before and after it see this work, and nothing is waited for.
    """

    def run() -> object:
        current = torch.cuda.current_stream(stream.device)
        stream.wait_stream(current)
        done = enqueue()
        current.wait_stream(stream)
        return done

    return run
