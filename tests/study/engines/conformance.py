"""What every engine does: the functions here are tests that each of them passes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nasseg.errors import Fault
from nasseg.figures import Figure
from nasseg.own_code import load_code
from nasseg.study.engines.engine import Engine, Setup
from nasseg.study.engines.jobs import Job, Result
from tests import HUNG_SECONDS

NETWORK = {"family": "regseg", "width": 0.25}
# Figures of a user's own, by which a job says what becomes of its worker.
FIGURES = """
import os, signal, time

def slow(model, measurement):
    time.sleep(3600)

def deadly(model, measurement):
    os.kill(os.getpid(), signal.SIGKILL)

def breaks(model, measurement):
    raise RuntimeError(f"CUDA error: an illegal memory access in process {os.getpid()}")
"""


@dataclass(frozen=True)
class Case:
    """An engine under test; `open` gives it two workers."""

    open: Callable[[Setup], Engine]
    setup: Setup


def results(engine: Engine, count: int) -> list[Result]:
    """Return that many results, in the order in which they come."""
    found, until = [], time.monotonic() + HUNG_SECONDS
    while len(found) < count:
        assert time.monotonic() < until, f"{len(found)} of {count} results came"
        found += engine.wait(1.0)
    return found


def with_figure(setup: Setup, function: str) -> Setup:
    """Return a setup whose jobs call a figure of `FIGURES` once a network is costed."""
    folder = Path(setup.context.weights)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(FIGURES)
    figure = Figure(function, "", "minimize", "cost", f"own.py:{function}")
    code = {figure.source: load_code(figure.source, folder)[1]}
    return replace(setup, context=replace(setup.context, figures=(figure,), folder=folder, code=code))


def every_job_gives_its_result_once(case: Case) -> None:
    engine = case.open(case.setup)
    try:
        assert engine.idle >= 2
        for number in (1, 2):
            engine.submit(Job(number, "cost", NETWORK))
        found = results(engine, 2)
        assert sorted(one.candidate for one in found) == [1, 2]
        assert all(one.fault is None and one.kind == "cost" and one.measurement.cost for one in found)
        assert engine.wait(0.1) == []
    finally:
        engine.close()


def idle_counts_the_jobs_that_it_takes(case: Case) -> None:
    engine = case.open(case.setup)
    try:
        before = engine.idle
        engine.submit(Job(1, "cost", NETWORK))
        assert engine.idle == before - 1
        results(engine, 1)
        assert engine.idle == before
        assert not engine.waiting(1)
    finally:
        engine.close()


def an_error_is_the_jobs_result(case: Case) -> None:
    """A network that cannot be built: the worker says so, and takes the next job."""
    engine = case.open(case.setup)
    try:
        engine.submit(Job(1, "cost", {"family": "regseg", "width": -1.0}))
        (failed,) = results(engine, 1)
        assert (failed.candidate, failed.fault, failed.measurement) == (1, Fault.NETWORK, None)
        assert "width" in failed.reason
        engine.submit(Job(2, "cost", NETWORK))
        assert results(engine, 1)[0].fault is None
    finally:
        engine.close()


def a_cancelled_job_gives_no_result(case: Case) -> None:
    engine = case.open(case.setup)
    try:
        before = engine.idle
        engine.submit(Job(1, "cost", NETWORK))
        engine.cancel(1)
        engine.cancel(99)  # nothing that it knows
        assert engine.idle == before
        engine.submit(Job(2, "cost", NETWORK))
        assert [one.candidate for one in results(engine, 1)] == [2]
        assert engine.wait(0.1) == []
    finally:
        engine.close()


def a_worker_that_dies_is_its_jobs_fault_and_is_replaced(case: Case) -> None:
    engine = case.open(with_figure(case.setup, "deadly"))
    try:
        for number in (1, 2):
            engine.submit(Job(number, "cost", NETWORK))
            (died,) = results(engine, 1)
            assert (died.candidate, died.fault) == (number, Fault.WORKER_DIED)
            assert died.reason.startswith("worker died")
        assert engine.idle >= 2
    finally:
        engine.close()


def a_broken_device_ends_its_worker(case: Case) -> None:
    """After an error of CUDA no later job may run in that process."""
    engine = case.open(with_figure(case.setup, "breaks"))
    try:
        processes = set()
        for number in range(3):
            engine.submit(Job(number, "cost", NETWORK))
            (broken,) = results(engine, 1)
            assert (broken.candidate, broken.fault) == (number, Fault.DEVICE)
            assert broken.reason.startswith("the device failed: CUDA error: an illegal memory access")
            processes.add(broken.reason.split("process ")[1].split(";")[0])
        assert len(processes) == 3
        assert engine.idle >= 2
    finally:
        engine.close()


def closing_ends_what_runs(case: Case) -> None:
    engine = case.open(with_figure(case.setup, "slow"))
    begun = time.monotonic()
    engine.submit(Job(1, "cost", NETWORK))
    engine.wait(0.5)
    engine.close()
    assert time.monotonic() - begun < HUNG_SECONDS


def what_surrounds_the_networks_stops_the_search(case: Case) -> None:
    """Data that are gone are no network's fault."""
    gone = case.setup.context.data.model_copy(update={"name": "./no-such-data"})
    setup = replace(case.setup, context=replace(case.setup.context, data=gone))
    engine = case.open(setup)
    try:
        engine.submit(Job(1, "cost", NETWORK))
        (costed,) = results(engine, 1)
        engine.submit(Job(2, "train", NETWORK, costed.measurement, "key"))
        (stopped,) = results(engine, 1)
        assert (stopped.candidate, stopped.fault, stopped.measurement) == (2, Fault.SURROUNDINGS, None)
        assert "no-such-data" in stopped.reason
    finally:
        engine.close()


ANY_ENGINE = (
    every_job_gives_its_result_once,
    idle_counts_the_jobs_that_it_takes,
    an_error_is_the_jobs_result,
    a_cancelled_job_gives_no_result,
)
WITH_WORKERS = (
    a_worker_that_dies_is_its_jobs_fault_and_is_replaced,
    a_broken_device_ends_its_worker,
    closing_ends_what_runs,
)
# A cluster asks every node for its data before the first job, and refuses those that lack them.
HERE = (what_surrounds_the_networks_stops_the_search,)
