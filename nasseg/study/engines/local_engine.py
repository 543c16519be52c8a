"""The local engine: worker processes of one thread each. It runs jobs and decides nothing."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from nasseg.errors import Fault
from nasseg.study.context import Context
from nasseg.study.engines.jobs import Job, Result, Workshop

_SPAWN = multiprocessing.get_context("spawn")
Step = tuple[int, int, float]  # candidate, step, loss


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Job | None = None


class LocalEngine:
    """`submit` a job to an idle worker, `wait` for results, `cancel` what runs.

    A worker that dies (out of memory, SIGKILL) gives its job the fault WORKER_DIED, and is replaced.
    """

    def __init__(self, context: Context, workers: int, on_step: Callable[[Step], None] = lambda _step: None) -> None:
        self._context, self._on_step = context, on_step
        self._workers = [self._start() for _ in range(workers)]

    @property
    def idle(self) -> int:
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job = job
        with contextlib.suppress(OSError):  # it died while idle; `wait` will find that and give the job its error
            worker.pipe.send(job)

    def wait(self, timeout: float) -> list[Result]:
        """Results that are there within `timeout` seconds; none if nothing ended by then."""
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        results = []
        for pipe in wait(list(busy), timeout):
            worker = busy[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                results.append(self._replace(worker))
                continue
            if isinstance(message, Result):
                worker.job = None
                results.append(message)
            else:
                self._on_step(message)
        return results

    def cancel(self, candidate: int) -> None:
        """End the job of a candidate at once; it gives no result."""
        for worker in self._workers:
            if worker.job is not None and worker.job.candidate == candidate:
                worker.process.kill()
                self._replace(worker)

    def waiting(self, candidate: int) -> bool:
        """Never: a job is submitted to a worker that is idle."""
        return False

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _start(self) -> _Worker:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_work, args=(theirs, self._context), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _replace(self, worker: _Worker) -> Result:
        worker.process.join()
        job, code = worker.job, worker.process.exitcode
        assert job is not None
        worker.pipe.close()
        self._workers[self._workers.index(worker)] = self._start()
        hint = ": it was killed, most likely for memory; try fewer workers" if code == -signal.SIGKILL else ""
        reason = f"worker died (exit code {code}){hint}"
        return Result(job.candidate, job.kind, fault=Fault.WORKER_DIED, reason=reason)


class _Throttled:
    """Tells of steps twice a second, not three hundred times."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._last = pipe, 0.0

    def __call__(self, candidate: int, step: int, loss: float) -> None:
        if time.monotonic() - self._last > 0.5:
            self._last = time.monotonic()
            self._pipe.send((candidate, step, loss))


def _work(pipe: Connection, context: Context) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    workshop = Workshop(context, _Throttled(pipe))
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(workshop.run(job))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
