"""An engine on a virtual clock: jobs are answered at once, and end when the clock says so."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from nasseg.study.engines.jobs import Job, Result


@dataclass(frozen=True)
class Answer:
    """A job's result, the seconds that it takes a worker, and its cost (in the caller's unit)."""

    result: Result
    seconds: float
    cost: float = 0.0


@dataclass(frozen=True, order=True)
class _Running:
    end: float
    order: int
    start: float
    job: Job
    answer: Answer

    def done(self, clock: float) -> float:
        """Return the share of the job that is done."""
        return 1.0 if clock >= self.end else (clock - self.start) / (self.end - self.start)


class VirtualEngine:
    """An engine with any number of workers.

    `wait` advances to the next end of a job and returns all that ended by then.

    on_end: called with every ended job, before its result is handed out. timer: if given (time.perf_counter), the
    caller's time between two calls also passes on the virtual clock; otherwise thinking is free.
    """

    def __init__(
        self,
        workers: int,
        answer: Callable[[Job], Answer],
        on_end: Callable[[Job, Answer], None] = lambda _job, _answer: None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        self.workers, self._answer, self._on_end, self._timer = workers, answer, on_end, timer
        self.clock = 0.0  # seconds
        self.begun = 0.0  # cost of all jobs begun
        self.busy = 0.0  # worker seconds of ended jobs
        self._ended = 0.0  # cost of ended jobs
        self._running: list[_Running] = []
        self._order = itertools.count()
        self._since = timer() if timer else 0.0

    @property
    def idle(self) -> int:
        return self.workers - len(self._running)

    @property
    def spent(self) -> float:
        """The cost so far, including the finished shares of running jobs."""
        return self._ended + sum(item.answer.cost * item.done(self.clock) for item in self._running)

    @property
    def busy_share(self) -> float:
        """The seconds in which workers had a job, over all seconds of all workers."""
        running = sum(self.clock - item.start for item in self._running)
        return (self.busy + running) / (self.workers * self.clock) if self.clock else 0.0

    def submit(self, job: Job) -> None:
        assert self.idle > 0
        self._think()
        answer = self._answer(job)
        self.begun += answer.cost
        heapq.heappush(self._running, _Running(self.clock + answer.seconds, next(self._order), self.clock, job, answer))
        self._act()

    def wait(self, timeout: float) -> list[Result]:
        """Return the results of the jobs that end next, without waiting, whatever `timeout` is."""
        self._think()
        if self._running:
            self.clock = max(self.clock, self._running[0].end)
        results = []
        while self._running and self._running[0].end <= self.clock:
            item = heapq.heappop(self._running)
            self.busy += item.end - item.start
            self._ended += item.answer.cost
            self._on_end(item.job, item.answer)
            results.append(item.answer.result)
        self._act()
        return results

    def waiting(self, candidate: int) -> bool:
        """Return False: jobs are submitted to idle workers only."""
        return False

    def close(self) -> None:
        """Forget running jobs."""
        self._running.clear()

    def cancel(self, candidate: int) -> None:
        for item in [item for item in self._running if item.job.candidate == candidate]:
            self._running.remove(item)
            self.busy += self.clock - item.start
            self._ended += item.answer.cost * item.done(self.clock)
        heapq.heapify(self._running)

    def _think(self) -> None:
        if self._timer:
            self.clock += self._timer() - self._since

    def _act(self) -> None:
        if self._timer:
            self._since = self._timer()
