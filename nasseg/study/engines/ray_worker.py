"""The Ray engine's parts on nodes: workers, the desk that gives them jobs, and the check before the first job."""

import contextlib
import os
import time
from typing import Any, cast

import ray
import torch
from ray import tune

from nasseg.errors import Fault
from nasseg.measure.environment import environment
from nasseg.study.context import Context
from nasseg.study.engines.engine import Step
from nasseg.study.engines.jobs import TIMES, Job, Result, Workshop
from nasseg.study.engines.ray_nodes import Expected, Node, faults, latency_device

TELL_SECONDS = 0.5


@ray.remote(num_cpus=0)
class Desk:
    """The place where jobs wait for workers and progress is collected. It runs beside the driver."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._taken: dict[int, tuple[Any, str]] = {}
        self._steps: dict[int, Step] = {}
        self._lines: list[str] = []

    def put(self, job: Job) -> None:
        self._jobs[job.candidate] = job

    def take(self, candidate: int, worker: Any, node: str) -> Job | None:
        """Return the job to a worker that begins it now; None if it was cancelled."""
        if candidate in self._jobs:
            self._taken[candidate] = (worker, node)
        return self._jobs.get(candidate)

    def release(self, candidate: int) -> str | None:
        """Release a job whose worker is gone; return that worker's node, None if it never began."""
        return self._taken.pop(candidate, (None, None))[1]

    def drop(self, candidate: int) -> Any:
        """Forget a job; return the worker that has it."""
        self._jobs.pop(candidate, None)
        self._steps.pop(candidate, None)
        return self._taken.pop(candidate, (None, None))[0]

    def send(self, step: Step) -> None:
        self._steps[step[0]] = step

    def say(self, line: str) -> None:
        self._lines.append(line)

    def look(self) -> tuple[set[int], list[Step], list[str]]:
        """Return the candidates whose jobs have begun, and the steps and the workers' lines since the last call."""
        steps, self._steps = list(self._steps.values()), {}
        lines, self._lines = self._lines, []
        return set(self._taken), steps, lines


class Worker(tune.Trainable):
    """A worker that does one job for each trial; its process then serves other trials."""

    def setup(self, config: dict[str, Any], **parameters: Any) -> None:
        context: Context = parameters["context"]
        self.desk, self.expected = parameters["desk"], cast(Expected, parameters["expected"])
        _go_to(self.expected.folder)
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))  # Ray's: the CPUs of a trial
        self.workshop, self.told = Workshop(context, self._tell, self._say), 0.0
        self.faults: list[str] | None = None
        self.broken = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if self.broken:
            os._exit(1)  # before it takes the next job, which then goes to a new process
        return True

    def step(self) -> dict[str, Any]:
        me = ray.get_runtime_context()
        job = ray.get(self.desk.take.remote(self.config["candidate"], me.current_actor, me.get_node_id()))
        if job is None:
            return {"done": True}
        found = self._faults(job)
        if found:
            reason = "; ".join(f"{_here()}: {fault}" for fault in found)
            return {"done": True, "refused": (job.candidate, me.get_node_id(), reason)}
        result = self.workshop.run(job)
        self.broken = result.fault is Fault.DEVICE
        return {"done": True, "result": result, "error": result.reason or None, **_figures(result)}

    def _faults(self, job: Job) -> list[str]:
        """Return why this node cannot do the job: nodes that joined late are checked here."""
        context = self.workshop.context
        if self.faults is None:
            self.faults = faults(context, self.expected)
        found, device = list(self.faults), self.expected.latency_device
        if job.kind in TIMES and latency_device(context.latency, environment(context.latency.device)) != device:
            found.append(f"latencies of this search come from {device}, and it has another device: remove the node")
        return found

    def _tell(self, candidate: int, step: int, loss: float) -> None:
        if time.monotonic() - self.told > TELL_SECONDS:
            self.told = time.monotonic()
            self.desk.send.remote((candidate, step, loss))

    def _say(self, line: str) -> None:
        self.desk.say.remote(f"{_here()}: {line}")


@ray.remote(num_cpus=0, max_retries=0)
def ask(context: Context, expected: Expected) -> tuple[list[str], str]:
    _go_to(expected.folder)
    return faults(context, expected), latency_device(context.latency, environment(context.latency.device))


def _go_to(folder: str) -> None:
    with contextlib.suppress(OSError):  # if nodes do not share the folder, the study has no path relative to it
        os.chdir(folder)


def living_nodes() -> list[Node]:
    return [
        Node(node["NodeID"], node["NodeManagerHostname"], node["NodeManagerAddress"], node["Resources"])
        for node in ray.nodes()
        if node["Alive"]
    ]


def _here() -> str:
    mine = ray.get_runtime_context().get_node_id()
    return next((node.name for node in living_nodes() if node.id == mine), f"node {mine[:6]}")


def _figures(result: Result) -> dict[str, float]:
    """Return the figures for a user's logger."""
    known = result.measurement
    found = {"params": known.cost.params, "macs": known.cost.macs} if known and known.cost else {}
    more = {"latency_ms": known.latency.p50_ms} if known and known.latency else {}
    return {**found, **more, **({"miou": known.accuracy.miou} if known and known.accuracy else {})}
