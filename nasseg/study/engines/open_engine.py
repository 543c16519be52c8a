"""Which engine runs a study's jobs, and what is measured through it before the driver starts."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from nasseg.errors import Fault, UserError, unknown
from nasseg.measure.environment import environment
from nasseg.records import Measurement
from nasseg.study.context import Context
from nasseg.study.engines.jobs import MAX_ATTEMPTS, Engine, Job
from nasseg.study.engines.local_engine import LocalEngine, Step
from nasseg.study.engines.ray_nodes import latency_device

EngineName = Literal["local", "ray"]
ENGINES = ("local", "ray")
_RAY_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # Ray's own lines between ours: what matters to a search comes as an error
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it prints stacks at SIGTERM
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # at SIGTERM, of a node that serves requests
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 otherwise, and latencies would wait for whatever else runs
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


class Closable(Engine, Protocol):
    """An engine, which is ended when it is no longer needed."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class OpenEngine:
    """An engine at work. latency_device: the name of what all its latencies come from."""

    engine: Closable
    latency_device: str


def begin_engine(
    name: EngineName, context: Context, *, storage: str, workers: int | None, local_workers: int,
    address: str | None = None, resources: Mapping[str, float] | None = None,
    on_step: Callable[[Step], None] = lambda _step: None, tell: Callable[[str], None] = lambda _line: None,
    callbacks: Sequence[Any] = (),
) -> OpenEngine:  # fmt: skip
    """The engine of that name, begun.

    workers: jobs at once, if the user says so; else local_workers here, and on a cluster as many as it takes. address,
    resources (of a job), tell (hears of nodes that are of no use), callbacks: of Ray.

    Raises:
        UserError: no such engine, a setting that this engine does not have, or a cluster that cannot run this study.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    if name == "local":
        if address or callbacks:
            raise UserError("an address and Tune's callbacks belong to the engine ray: give --engine ray")
        engine = LocalEngine(context, workers or local_workers, on_step)
        return OpenEngine(engine, latency_device(context.latency, environment()))
    for key, value in _RAY_SETTINGS.items():
        os.environ.setdefault(key, value)  # before Ray is imported, which reads them
    try:
        from nasseg.study.engines.ray_engine import RayEngine
    except ImportError as error:
        raise UserError(f"the engine ray needs Ray ({error}): pip install 'nasseg[ray]'") from None
    cluster = RayEngine(
        context, storage=storage, address=address, resources=resources, workers=workers, on_step=on_step,
        tell=tell, callbacks=callbacks,
    )  # fmt: skip
    return OpenEngine(cluster, cluster.latency_device)


def timed(
    engine: Engine, networks: Iterable[dict[str, Any]], look: Callable[[], None] = lambda: None
) -> list[Measurement | None]:
    """Measure cost and latency of networks (family and fields), one after another, where the engine measures a study's.

    None: it cannot be measured (a figure of the user's own may fail on it). A worker that dies is tried again. look: is
    called while an engine works, and may raise.

    Raises:
        UserError: no network can be measured now.
    """
    settings = list(networks)
    costs = [_measured(engine, Job(-1, "cost", each), look) for each in settings]  # a cluster keeps a worker for them
    pairs = zip(settings, costs, strict=True)
    return [cost and _measured(engine, Job(-1, "latency", each, cost), look) for each, cost in pairs]


def _measured(engine: Engine, job: Job, look: Callable[[], None]) -> Measurement | None:
    for _ in range(MAX_ATTEMPTS):
        engine.submit(job)  # the driver's candidates count from 1
        while not (results := engine.wait(1.0)):
            look()
        look()
        if results[0].fault is Fault.SURROUNDINGS:
            raise UserError(results[0].reason)
        if results[0].fault is not Fault.WORKER_DIED:
            return results[0].measurement
    return None
