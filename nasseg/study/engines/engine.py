"""What an engine is, and what one is opened with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nasseg.study.context import Context
from nasseg.study.engines.jobs import Job, Result

Step = tuple[int, int, float]  # candidate, step, loss


class Engine(Protocol):
    """Runs jobs, and decides nothing. tests/study/engines/conformance.py says it in full."""

    @property
    def idle(self) -> int:
        """How many jobs it takes now."""

    def submit(self, job: Job) -> None:
        """Take a job; only while `idle` is above 0."""

    def wait(self, timeout: float) -> list[Result]:
        """Return results that are there within `timeout` seconds; none if nothing ended by then."""

    def cancel(self, candidate: int) -> None:
        """End the job of a candidate at once; it gives no result."""

    def waiting(self, candidate: int) -> bool:
        """Return whether the job of a candidate was submitted and has not begun."""

    def close(self) -> None:
        """End all jobs and workers."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What an engine is opened with.

    storage: of the study; workers never open it. workers: jobs at once, if the user says so; else local_workers here,
    and on a cluster as many as it takes. address: of a cluster. resources: of a job there. on_step: hears of training
    steps. tell: hears of nodes that are of no use, and of what workers wait for. callbacks: Ray Tune's, of the user's
    own.
    """

    context: Context
    storage: str
    workers: int | None
    local_workers: int
    address: str | None = None
    resources: Mapping[str, float] | None = None
    on_step: Callable[[Step], None] = lambda _step: None
    tell: Callable[[str], None] = lambda _line: None
    callbacks: Sequence[Any] = ()


@dataclass(frozen=True)
class OpenEngine:
    """An engine at work. latency_device: the name of what all its latencies come from."""

    engine: Engine
    latency_device: str
