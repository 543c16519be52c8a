"""The interface of engines, and the settings to open one with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nasseg.study.context import Context
from nasseg.study.engines.jobs import Job, Result

Step = tuple[int, int, float]  # candidate, step, loss


class Engine(Protocol):
    """A runner of jobs that makes no decisions. tests/study/engines/conformance.py is its full specification."""

    @property
    def idle(self) -> int:
        """The number of jobs that it can take now."""

    def submit(self, job: Job) -> None:
        """Take a job. Call it only while `idle` is above 0."""

    def wait(self, timeout: float) -> list[Result]:
        """Return the results that arrive within `timeout` seconds; none if nothing ended by then."""

    def cancel(self, candidate: int) -> None:
        """End a candidate's job at once, without a result."""

    def waiting(self, candidate: int) -> bool:
        """Return whether a candidate's job was submitted but has not begun."""

    def close(self) -> None:
        """End all jobs and workers."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The settings to open an engine with.

    storage: of the study; workers never open it. workers: parallel jobs, if the user sets it; default: local_workers
    here, and on a cluster as many as fit. address: of a cluster. resources: of a job there. on_step: called with
    training steps. tell: called with lines on unusable nodes and on what workers wait for. callbacks: the user's own,
    for Ray Tune.
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
    """A running engine. latency_device: the name of the device that takes all its latencies."""

    engine: Engine
    latency_device: str
