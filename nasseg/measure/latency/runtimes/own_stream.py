"""Run libraries other than torch on their own CUDA stream, in torch's order."""

from collections.abc import Callable

import torch

Run = Callable[[], object]


def in_order(stream: torch.cuda.Stream, enqueue: Run) -> Run:
    """Return a call that enqueues work on a stream, after torch's earlier work and before its later work.

    So events that torch records before and after include this work, and nothing waits.
    """

    def run() -> object:
        current = torch.cuda.current_stream(stream.device)
        stream.wait_stream(current)
        done = enqueue()
        current.wait_stream(stream)
        return done

    return run
