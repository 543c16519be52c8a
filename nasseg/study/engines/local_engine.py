"""The local engine: worker processes with one thread each. It runs jobs and makes no decisions."""

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait

from nasseg.errors import Fault, UserError
from nasseg.measure.environment import environment
from nasseg.measure.latency.device_lock import DeviceLock
from nasseg.processes.children import Child
from nasseg.study.context import Context
from nasseg.study.engines.engine import OpenEngine, Setup, Step
from nasseg.study.engines.jobs import Job, Result
from nasseg.study.engines.local_worker import Ready, work
from nasseg.study.engines.ray_nodes import latency_device

MAX_STARTS = 3  # workers in a row that die before they take a job


def open_local(setup: Setup) -> OpenEngine:
    """Start the workers of a study on this machine.

    Raises:
        UserError: a setting applies only to a cluster, or the folder of locks cannot be used.
    """
    if setup.address or setup.callbacks:
        raise UserError("an address and Tune's callbacks are for the engine ray: add --engine ray")
    DeviceLock(setup.context.device).close()  # check once here, not in each worker
    engine = LocalEngine(setup.context, setup.workers or setup.local_workers, setup.on_step, setup.tell)
    return OpenEngine(engine, latency_device(setup.context.latency, environment(setup.context.latency.device)))


@dataclass(eq=False)
class _Worker:
    child: Child
    job: Job | None = None
    is_ready: bool = False


class LocalEngine:
    """An engine on this machine: `submit` a job to an idle worker, `wait` for results, `cancel` running jobs.

    Workers are started when they are first needed: a search that has nothing left to do starts none. If a worker dies
    (out of memory, SIGKILL), its job gets the fault WORKER_DIED; the next job starts another. If it dies before it
    takes jobs, its job is passed on. Several such deaths end the search, without a failed network.
    """

    def __init__(
        self,
        context: Context,
        workers: int,
        on_step: Callable[[Step], None] = lambda _step: None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._context, self._on_step, self._tell = context, on_step, tell
        self._most, self._failed_starts = workers, 0
        self._workers: list[_Worker] = []

    @property
    def idle(self) -> int:
        return self._most - sum(worker.job is not None for worker in self._workers)

    def submit(self, job: Job) -> None:
        worker = next((worker for worker in self._workers if worker.job is None), None)
        if worker is None:
            worker = self._start()
            self._workers.append(worker)
        worker.job = job
        with contextlib.suppress(OSError):  # it died while idle; `wait` will find out
            worker.child.pipe.send(job)

    def wait(self, timeout: float) -> list[Result]:
        """Return the results that arrive within `timeout` seconds; none if nothing ended by then."""
        busy = {worker.child.pipe: worker for worker in self._workers if worker.job is not None}
        results = []
        for pipe in wait(list(busy), timeout):
            worker = busy[pipe]  # type: ignore[index]
            try:
                message = worker.child.pipe.recv()
            except (EOFError, OSError):
                results += self._died(worker)
                continue
            if isinstance(message, Ready):
                worker.is_ready, self._failed_starts = True, 0
            elif isinstance(message, Result):
                worker.job = None
                results.append(message)
                if message.fault is Fault.DEVICE:
                    self._remove(worker)
            elif isinstance(message, str):
                self._tell(message)
            else:
                self._on_step(message)
        return results

    def cancel(self, candidate: int) -> None:
        """End the job of a candidate at once; it gives no result."""
        for worker in [*self._workers]:
            if worker.job is not None and worker.job.candidate == candidate:
                self._remove(worker)

    def waiting(self, candidate: int) -> bool:
        """Return False: jobs are only submitted to idle workers."""
        return False

    def close(self) -> None:
        for worker in self._workers:
            worker.child.kill()

    def _start(self) -> _Worker:
        child = Child(work)
        with contextlib.suppress(OSError):  # it died at once; `wait` will find out
            child.pipe.send(self._context)
        return _Worker(child)

    def _remove(self, worker: _Worker) -> None:
        worker.child.kill()
        self._workers.remove(worker)

    def _died(self, worker: _Worker) -> list[Result]:
        job, code = worker.job, worker.child.join()
        assert job is not None
        self._remove(worker)
        if worker.is_ready:
            killed = ": it was killed, most likely for lack of memory; try fewer workers"
            reason = f"worker died (exit code {code}){killed if code == -signal.SIGKILL else ''}"
            return [Result(job.candidate, job.kind, fault=Fault.WORKER_DIED, reason=reason)]
        self._failed_starts += 1
        if self._failed_starts < MAX_STARTS:
            self.submit(job)
            return []
        reason = f"no worker could be started, {MAX_STARTS} times in a row (exit code {code}); see its output above"
        return [Result(job.candidate, job.kind, fault=Fault.SURROUNDINGS, reason=reason)]
