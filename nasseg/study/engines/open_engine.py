"""Open the engine that runs a study's jobs, and measure through it before the driver starts.

To add an engine, write a module beside local_engine.py, name its opening function in `ENGINES`, and add it to
tests/study/engines/test_conformance.py.
"""

from collections.abc import Callable, Iterable
from typing import Any

from nasseg.errors import Fault, UserError, unknown
from nasseg.records import Latency, Measurement
from nasseg.study.engines.engine import Engine, OpenEngine, Setup
from nasseg.study.engines.jobs import MAX_ATTEMPTS, Job
from nasseg.study.engines.local_engine import open_local
from nasseg.study.engines.open_ray import open_ray

ENGINES: dict[str, Callable[[Setup], OpenEngine]] = {
    "local": open_local,
    "ray": open_ray,
}


def begin_engine(name: str, setup: Setup) -> OpenEngine:
    """Open the engine with this name.

    Raises:
        UserError: there is no such engine, it does not take a setting, or the cluster cannot run this study.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    return ENGINES[name](setup)


def timed(
    engine: Engine,
    networks: Iterable[dict[str, Any]],
    look: Callable[[], None] = lambda: None,
    reference_ms: float | None = None,
) -> list[Measurement | None]:
    """Measure cost and latency of networks (family and fields), one after another, on the engine's own devices.

    None: the network cannot be measured (a user's own figure may fail on it). If a worker dies, its network is tried
    again. look: called while an engine works; it may raise. reference_ms: the reference network's time in this study.

    Raises:
        UserError: no network can be measured now.
    """
    settings = list(networks)
    # All costs first, so that a cluster keeps its worker.
    costs = [_measured(engine, Job(-1, "cost", each), look) for each in settings]
    pairs = zip(settings, costs, strict=True)
    return [
        cost and _measured(engine, Job(-1, "latency", each, cost, reference_ms=reference_ms), look)
        for each, cost in pairs
    ]


def time_reference(engine: Engine, look: Callable[[], None]) -> Latency:
    """Time the reference network on the device of the study's latencies.

    Raises:
        UserError: it cannot be timed now.
    """
    found = _measured(engine, Job(-1, "reference", {}), look)
    if found is None or found.latency is None:
        raise UserError("the reference network cannot be timed here: run `nasseg latency regseg` to see what is wrong")
    return found.latency


def _measured(engine: Engine, job: Job, look: Callable[[], None]) -> Measurement | None:
    for _ in range(MAX_ATTEMPTS):
        engine.submit(job)  # the driver numbers its candidates from 1
        while not (results := engine.wait(1.0)):
            look()
        look()
        if results[0].fault is Fault.SURROUNDINGS:
            raise UserError(results[0].reason)
        if results[0].fault not in (Fault.WORKER_DIED, Fault.DEVICE, Fault.CROWDED):
            return results[0].measurement
    return None
