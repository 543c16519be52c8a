"""The Ray engine: Ray Tune runs a study's jobs on the nodes of a cluster. It makes no decisions.

One job is one Tune trial with one report. A thin Searcher passes the driver's jobs to Tune and takes back their
results. Tune does placement, resources, syncing and the user's callbacks. The study's storage is the only record:
Tune's own experiment state is never restored.

Retries: a job whose node is gone (a reclaimed spot machine) is handed out again, however often that happens. A job
whose worker died on a living node is an error, and the driver counts those. Tune's own retries (FailureConfig) cannot
distinguish the two unless a node was drained in time, and do not cover a reused worker that died before its next trial.
So they are set to none; Tune still retries after a drain.

Tune keeps a worker, one at most, for the next job with the same resources, if one waits. So on several nodes a worker
is restarted between latency and training, which takes seconds for each candidate.
"""

import contextlib
import os
import queue
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nasseg.errors import Fault, UserError
from nasseg.measure.environment import environment
from nasseg.study.context import Context
from nasseg.study.engines.engine import Step
from nasseg.study.engines.jobs import TIMES, Job, Result
from nasseg.study.engines.ray_connection import connect, last_line, reached
from nasseg.study.engines.ray_nodes import (
    Expected,
    Node,
    Resources,
    latency_place,
    refuse_local_storage,
    remove_token,
    write_token,
)
from nasseg.study.engines.ray_worker import Desk, Worker, ask, living_nodes

LOOK_SECONDS = 1.0
MAX_STARTS = 5  # attempts in a row at a job that no worker begins
CLOSE_SECONDS = 120
_HEAD = "node:__internal_head__"
_SHUNNED = "shunned_nodes"


class RayEngine:
    """An engine on a Ray cluster: `submit` a job while `idle`, `wait` for results, `cancel` running jobs.

    storage: of the study; workers never open it. address: of a cluster (`auto`: this machine's); None starts one on
    this machine alone. resources: of a job (cpu, gpu, the cluster's own). workers: parallel jobs; None: as many as the
    nodes take, including late joiners. callbacks: the user's, for Tune; their logs are in `tune` below the weights.
    tell: called with lines on nodes that joined late and get no jobs. latency_device: the device that takes all
    latencies of this search.

    Raises:
        UserError: there is no such cluster, nodes cannot work on this study (each is named), or the storage is a file
            of one machine.
    """

    def __init__(
        self,
        context: Context,
        *,
        storage: str,
        address: str | None = None,
        resources: Resources | None = None,
        workers: int | None = None,
        on_step: Callable[[Step], None] = lambda _step: None,
        tell: Callable[[str], None] = lambda _line: None,
        callbacks: Sequence[tune.Callback] = (),
    ) -> None:
        self._context, self._storage, self._workers = context, storage, workers
        self._on_step, self._tell = on_step, tell
        needed = resources or {"cpu": 1.0, "gpu": float(context.device.startswith("cuda"))}
        self._resources = {name.upper() if name in ("cpu", "gpu") else name: n for name, n in needed.items() if n}
        self._jobs: dict[int, Job] = {}  # submitted but not ended
        self._begun: set[int] = set()
        self._starts: Counter[int] = Counter()
        self._results: queue.SimpleQueue[Result | UserError | str] = queue.SimpleQueue()
        self._unfit: frozenset[str] = frozenset()  # nodes that joined late and cannot work on this study
        self._looked = time.monotonic()
        self._own_ray, self._token = not ray.is_initialized(), ""
        self._logs = tempfile.TemporaryDirectory(prefix="nasseg-tune-")
        try:
            if self._own_ray:
                connect(address, workers)
            nodes = living_nodes()
            self._slots = self._count(nodes)
            self._refuse_nodes(nodes)
            self._latency = latency_place(nodes, context.latency, self._resources, _HEAD)
            self._token = write_token(context.weights)
            expected = Expected(environment(), context.accuracy.data_fingerprint, os.getcwd(), self._token)
            self.latency_device = self._check(nodes, expected)
            here = replace(expected.here, commit=None)  # nodes may share a checkout, and the user may commit meanwhile
            self._begin(replace(expected, here=here, latency_device=self.latency_device), callbacks)
        except BaseException:
            self._leave()
            raise

    # The driver's interface

    @property
    def idle(self) -> int:
        return max(0, self._slots - len(self._jobs))

    def submit(self, job: Job) -> None:
        self._jobs[job.candidate] = job
        with reached():
            ray.get(self._desk.put.remote(job))  # it must exist before a worker asks
        self._counter.jobs.put(job)

    def waiting(self, candidate: int) -> bool:
        """Return whether a submitted job waits for a worker."""
        return candidate in self._jobs and candidate not in self._begun

    def wait(self, timeout: float) -> list[Result]:
        """Return the results that arrive within `timeout` seconds; none if nothing ended by then.

        Raises:
            UserError: none of the nodes can work on this study any more, or Ray failed.
        """
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
        results: list[Result] = []
        with contextlib.suppress(queue.Empty):
            while True:
                result = self._results.get(timeout=0 if results else timeout)
                if isinstance(result, UserError):
                    raise result
                if isinstance(result, str):
                    self._tell(result)
                elif self._jobs.pop(result.candidate, None):
                    results.append(result)
        return results

    def cancel(self, candidate: int) -> None:
        """End the job of a candidate at once; it gives no result."""
        if self._jobs.pop(candidate, None):
            with contextlib.suppress(RayError):  # the cluster may be gone
                worker = ray.get(self._desk.drop.remote(candidate))
                if worker is not None:
                    ray.kill(worker)

    def close(self) -> None:
        for candidate in list(self._jobs):
            self.cancel(candidate)
        self._closing.closing = True
        self._counter.jobs.put(None)
        self._thread.join(CLOSE_SECONDS)
        self._own_ray &= not self._thread.is_alive()  # shutting down Ray under it would crash this process
        self._leave()

    # Nodes

    def _count(self, nodes: list[Node]) -> int:
        """Return how many jobs to hand out at once; one if no node can take any, so that the cluster may add a node."""
        fit = (node for node in nodes if node.id not in self._unfit)
        return self._workers or max(1, sum(node.fits(self._resources) for node in fit))

    def _refuse_nodes(self, nodes: list[Node]) -> None:
        if not self._workers and not any(node.fits(self._resources) for node in nodes):
            needed = ", ".join(f"{name} {amount:g}" for name, amount in self._resources.items())
            raise UserError(
                f"no node of the cluster has what a trial needs ({needed}): start one, change `resources` in the "
                "study file, or set --workers if nodes are started on demand"
            )
        refuse_local_storage(nodes, self._storage)

    def _check(self, nodes: list[Node], expected: Expected) -> str:
        """Check every node that will get jobs; return the device of latencies.

        Raises:
            UserError: a node cannot work on this study.
        """
        asked = [node for node in nodes if node.fits(self._resources) or node.fits(self._latency)]
        answers = [ask.options(scheduling_strategy=_on(node.id)).remote(self._context, expected) for node in asked]
        found, device = [], ""
        for node, answer in zip(asked, answers, strict=True):
            try:
                there, where = ray.get(answer)
            except RayError as error:
                there, where = [f"it answers: {last_line(error)}; is nasseg installed there?"], ""
            found += [f"{node.name}: {fault}" for fault in there]
            device = device or (where if node.fits(self._latency) else "")
        if found:
            raise UserError("; ".join(found))
        return device

    def _look(self) -> None:
        """Look up the jobs that have begun, the trained steps, and the living nodes."""
        self._looked = time.monotonic()
        with reached():
            nodes = living_nodes()
            begun, steps, lines = ray.get(self._desk.look.remote())
        self._slots, self._begun = self._count(nodes), begun
        for step in steps:
            self._on_step(step)
        for line in lines:
            self._tell(line)
        refuse_local_storage(nodes, self._storage)
        latency_place(nodes, self._context.latency, self._resources, _HEAD)

    # Tune

    def _begin(self, expected: Expected, callbacks: Sequence[tune.Callback]) -> None:
        here = _on(ray.get_runtime_context().get_node_id())
        self._desk: Any = Desk.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        self._counter, self._closing = _Counter(self._done, self._refused), _Closing()
        worker = tune.with_parameters(Worker, context=self._context, desk=self._desk, expected=expected)
        places = dict.fromkeys(TIMES, self._latency)  # by kind of job
        others = self._resources
        tuner = tune.Tuner(
            tune.with_resources(
                worker, lambda config: _place(places.get(config.get("kind", ""), others), config.get(_SHUNNED, ""))
            ),
            tune_config=tune.TuneConfig(
                search_alg=self._counter,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=time.strftime(f"%Y%m%d-%H%M%S-{os.getpid()}"),
                storage_path=f"{self._context.weights}/tune" if callbacks else self._logs.name,
                callbacks=[_Failures(self._lost), *callbacks],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                stop=self._closing,
                verbose=0,
            ),
        )
        self._thread = threading.Thread(target=self._fit, args=(tuner,), daemon=True)
        self._thread.start()

    def _fit(self, tuner: tune.Tuner) -> None:
        try:
            tuner.fit()
        except Exception as error:  # `wait` raises it in the driver's thread
            self._results.put(UserError(f"Ray Tune stopped: {last_line(error)}; run the same command again"))

    def _done(self, result: Result) -> None:
        self._desk.drop.remote(result.candidate)
        self._results.put(result)

    def _lost(self, candidate: int, text: str) -> None:
        """Handle a trial that ended without a report: its node is gone, or its worker died or was killed."""
        job = self._jobs.get(candidate)
        if job is None:
            return
        node = ray.get(self._desk.release.remote(candidate))
        alive = next((each for each in living_nodes() if each.id == node), None)
        self._starts[candidate] = self._starts[candidate] + 1 if node is None else 0
        reason = next(iter(text.strip().splitlines()[-1:]), "Ray gives no reason")
        if alive:
            died = f"worker died (on {alive.name}: {reason})"
            self._done(Result(candidate, job.kind, fault=Fault.WORKER_DIED, reason=died))
        elif self._starts[candidate] == MAX_STARTS:
            why = f"no worker could be started for a job, {MAX_STARTS} times in a row: {reason}"
            self._done(Result(candidate, job.kind, fault=Fault.SURROUNDINGS, reason=why))
        else:
            self._counter.jobs.put(job)

    def _refused(self, candidate: int, node: str, reason: str) -> None:
        """Exclude a node that joined late and cannot work on this study; its job goes to another."""
        known, self._unfit = node in self._unfit, self._unfit | {node}
        self._counter.shunned = ", ".join(sorted(self._unfit))
        ray.get(self._desk.release.remote(candidate))
        fit = [each for each in living_nodes() if each.id not in self._unfit]
        if not all(any(node.fits(place) for node in fit) for place in (self._resources, self._latency)):
            self._results.put(UserError(reason))
        elif not known:
            self._results.put(f"{reason}; it gets no jobs until this is fixed and it joins again")
        if candidate in self._jobs:
            self._counter.jobs.put(self._jobs[candidate])

    def _leave(self) -> None:
        remove_token(self._context.weights, self._token)
        self._logs.cleanup()
        if self._own_ray:
            ray.shutdown()


class _Counter(Searcher):
    """A Searcher that passes the jobs in `jobs` to Tune, until None. shunned: nodes that get no jobs."""

    def __init__(self, on_done: Callable[[Result], None], on_refused: Callable[[int, str, str], None]) -> None:
        super().__init__()
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.shunned = ""
        self._out: set[str] = set()
        self._on_done, self._on_refused = on_done, on_refused

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        try:
            job = self.jobs.get(block=not self._out)  # without anything to watch, Tune would poll only once a second
        except queue.Empty:
            return None
        if job is None:
            return cast(dict[str, Any], Searcher.FINISHED)
        self._out.add(trial_id)
        config = {"candidate": job.candidate, "kind": job.kind, "seed": job.seed, "arch": dict(job.settings)}
        return {**config, _SHUNNED: self.shunned} if self.shunned else config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._out.discard(trial_id)
        if result and "result" in result:  # cancelled jobs have no result
            self._on_done(result["result"])
        elif result and "refused" in result:
            self._on_refused(*result["refused"])

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: the study is the record."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Failures(tune.Callback):
    """A listener to trials that ended without a report."""

    def __init__(self, on_lost: Callable[[int, str], None]) -> None:
        self._on_lost = on_lost

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._on_lost(trial.config["candidate"], Path(trial.error_file).read_text() if trial.error_file else "")

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Closing(tune.Stopper):
    """A stopper that ends the experiment when the engine closes."""

    closing = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.closing


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)


def _place(resources: Resources, shunned: str) -> tune.PlacementGroupFactory:
    """Return where a trial may run; shunned: ids of nodes where it may not."""
    selector: dict[str, Any] = {"bundle_label_selector": [{"ray.io/node-id": f"!in({shunned})"}]} if shunned else {}
    return tune.PlacementGroupFactory([dict(resources)], **selector)


def _trial_name(trial: Any) -> str:
    return f"{trial.config.get('kind')}-{trial.config.get('candidate')}-{trial.trial_id}"
