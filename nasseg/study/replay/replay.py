"""Searches on a table instead of on machines: which sampler, with or without halving, finds more for the same compute.

The driver, the record (in memory) and the samplers are those of a real search; only the engine is not: a table answers
its jobs and a virtual clock runs. Compute is counted in full trainings: steps trained over the steps of a whole
training. A network counts once it is trained to the end. Hypervolume is a share of that of the table's own front, over
one box for all searches.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
import torch
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial

from nasseg.analyse.front import Floats, hypervolume, hypervolume_history, reference_box
from nasseg.errors import Fault, UserError
from nasseg.figures import FIGURES
from nasseg.measure.environment import environment
from nasseg.processes import Child
from nasseg.records import Accuracy, AccuracyProtocol, Cost, CostProtocol, Latency, LatencyProtocol, Measurement
from nasseg.study.context import Context
from nasseg.study.data_file import DataFile
from nasseg.study.driver.budget import Budget
from nasseg.study.driver.driver import Driver
from nasseg.study.engines.jobs import Job, Result
from nasseg.study.engines.virtual_engine import Answer, VirtualEngine
from nasseg.study.propose.proposer import Proposer
from nasseg.study.replay.policies import BASELINE, Policy, Setting
from nasseg.study.replay.trained_table import Network, Table
from nasseg.study.store.record import Record
from nasseg.study.study_file import HalvingFile, Study, StudyFile
from nasseg.train.recipe import Recipe

PERCENTILES = (10, 90)  # of the bands, over seeds
POINTS = 201  # of a curve
_SIZE = (1, 1)  # tables do not say
_COST = CostProtocol(input_size=_SIZE, num_classes=2)
_LATENCY = LatencyProtocol(device="cpu", input_size=_SIZE, num_classes=2)


@dataclass(frozen=True)
class Searched:
    """One search. Arrays have an item for each network trained to the end, in that order, up to the budget."""

    policy: Policy
    seed: int
    compute: Floats  # in full trainings, spent when it ended
    share: Floats  # of the table's hypervolume, with it
    spent: float  # compute of all that was begun, which may pass the budget
    hours: float  # on the virtual clock, of the whole search
    proposals: int
    off_table: int  # of them
    thinking: float  # seconds of this processor
    ended: str

    def at(self, compute: Floats) -> Floats:
        """The share reached with that much compute: [n] -> [n]."""
        return np.concatenate([[0.0], self.share])[np.searchsorted(self.compute, compute, side="right")]


@dataclass(frozen=True)
class Replayed:
    """Searches of several policies, each from several seeds, under one setting."""

    table: str
    networks: int
    setting: Setting
    searches: tuple[Searched, ...]

    def of(self, policy: Policy) -> list[Searched]:
        return [search for search in self.searches if search.policy == policy]

    @property
    def policies(self) -> list[Policy]:
        return list(dict.fromkeys(search.policy for search in self.searches))

    @property
    def target(self) -> float:
        """What random search without halving reaches at its whole budget, on average; NaN without such searches."""
        ends = [search.at(np.array([self.setting.budget]))[0] for search in self.of(BASELINE)]
        return float(np.mean(ends)) if ends else math.nan

    def curves(self) -> pd.DataFrame:
        """Share of the table's hypervolume against compute. Columns: policy, compute, mean, low, high."""
        grid = np.linspace(0, self.setting.budget, POINTS)
        frames = []
        for policy in self.policies:
            shares = np.array([search.at(grid) for search in self.of(policy)])
            low, high = np.percentile(shares, PERCENTILES, axis=0)
            rows = {"policy": str(policy), "compute": grid, "mean": shares.mean(axis=0), "low": low, "high": high}
            frames.append(pd.DataFrame(rows))
        return pd.concat(frames, ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """One row a policy: what it reaches, and the compute with which its mean reaches `target`.

        Columns: policy, end (mean share at the budget), low, high, compute (NaN where the target is not reached), ratio
        (of that to the budget), reached (share of the searches that reach it themselves), trained (networks to the
        end), hours (virtual), off_table (share of the proposals), thinking (processor seconds a search).
        """
        rows, budget = [], self.setting.budget
        for policy in self.policies:
            searches = self.of(policy)
            ends = np.array([search.at(np.array([budget]))[0] for search in searches])
            low, high = np.percentile(ends, PERCENTILES)
            compute = self._reaches(searches)
            rows.append(
                {
                    "policy": str(policy), "end": ends.mean(), "low": low, "high": high, "compute": compute,
                    "ratio": compute / budget, "reached": float(np.mean(ends >= self.target)),
                    "trained": float(np.mean([len(search.compute) for search in searches])),
                    "hours": float(np.mean([search.hours for search in searches])),
                    "off_table": sum(s.off_table for s in searches) / max(1, sum(s.proposals for s in searches)),
                    "thinking": float(np.mean([search.thinking for search in searches])),
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def _reaches(self, searches: list[Searched]) -> float:
        at = np.unique(np.concatenate([search.compute for search in searches]))
        mean = np.mean([search.at(at) for search in searches], axis=0)
        enough = np.flatnonzero(mean >= self.target)
        return float(at[enough[0]]) if len(enough) else math.nan


def replay(
    table: Table, policies: Sequence[Policy], setting: Setting, seeds: int = 20, processes: int = 1,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Replayed:  # fmt: skip
    """Search the table with every policy from seeds 0, 1, ... ; random search to the end is among them where it can be.

    on_progress: searches done, of how many.

    Raises:
        UserError: a policy needs what is not in the table, or a sampler does not exist.
    """
    for policy in policies:
        policy.make(0)
        if policy.halving and not setting.rungs:
            raise UserError(f"halving needs steps below {setting.steps}; table {table.name} has {list(table.steps)}")
        table.require((*setting.rungs, setting.steps) if policy.halving else (setting.steps,), f"policy {policy}")
    wanted = list(dict.fromkeys([BASELINE, *policies]))
    tasks = [(table, policy, setting, seed) for policy in wanted for seed in range(seeds)]
    searches = []
    with _searching(processes) as each:
        for found in each(search, *zip(*tasks, strict=True)):
            searches.append(found)
            on_progress(len(searches), len(tasks))
    return Replayed(table.name, len(table.networks), setting, tuple(searches))


@contextmanager
def _searching(processes: int) -> Iterator[Callable[..., Iterable[Searched]]]:
    """Give a `map` in that many processes of one thread each."""
    if processes > 1:
        children = [Child(_search_all) for _ in range(processes)]
        free: SimpleQueue[Child] = SimpleQueue()
        for child in children:
            free.put(child)
        pool = ThreadPoolExecutor(processes)  # a thread waits for each process
        try:
            yield lambda _search, *columns: pool.map(partial(_in_child, free), *columns)
        finally:
            for child in children:
                child.kill()
            pool.shutdown(cancel_futures=True)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield map
    finally:
        torch.set_num_threads(threads)


def _in_child(free: "SimpleQueue[Child]", *task: Any) -> Searched:
    """Search in a process that is free."""
    child = free.get()
    try:
        child.pipe.send(task)
        found: Searched | Exception = child.pipe.recv()
    except EOFError:
        raise RuntimeError("a process of the replay died; try fewer processes") from None
    finally:
        free.put(child)
    if isinstance(found, Exception):
        raise found
    return found


def _search_all(pipe: Connection) -> None:
    """Do the searches that come through a pipe, in a process of one thread."""
    torch.set_num_threads(1)
    while True:
        task = pipe.recv()
        try:
            found: Searched | Exception = search(*task)
        except Exception as error:  # raised anew where the replay runs
            found = error
        pipe.send(found)


def search(table: Table, policy: Policy, setting: Setting, seed: int) -> Searched:
    """One search. A table of several training seeds is looked up under one of them, in turn."""
    began = time.thread_time()
    study, context = _study(table, policy, setting)
    lookup = _Lookup(table, table.seeds[seed % len(table.seeds)], setting)
    engine = VirtualEngine(setting.workers, lookup.answer, lambda job, _answer: lookup.note(job, engine))
    directions: list[str] = [figure.direction for figure in study.objectives]
    record = Record.create(InMemoryStorage(), study.name, directions, {})
    rungs = 1 + len(context.rungs)
    proposer = Proposer(study.space, study.objectives, policy.make(seed), seed, rungs)
    driver = Driver(study, record, engine, context, proposer, _Compute(record, engine, lookup, setting), seed)
    ended = driver.run()
    values = np.array([lookup.values(network) for network, _ in lookup.finished]).reshape(-1, len(directions))
    compute = np.array([spent for _, spent in lookup.finished])
    within = compute <= setting.budget + 1e-9
    corner, whole = lookup.box(directions)
    share = hypervolume_history(values[within], corner, directions) / whole
    return Searched(
        policy, seed, compute[within], share, engine.begun, engine.clock / 3600, lookup.proposals, lookup.off_table,
        time.thread_time() - began, ended,
    )  # fmt: skip


@dataclass
class _Lookup:
    """Answers jobs from a table, and remembers what it was asked."""

    table: Table
    seed: int  # of the trainings
    setting: Setting
    proposals: int = 0
    off_table: int = 0
    since_training: int = 0  # proposals
    reached: dict[str, int] = field(default_factory=dict)  # eval_key -> step
    finished: list[tuple[Network, float]] = field(default_factory=list)  # with the compute spent by then

    def answer(self, job: Job) -> Answer:
        network, exact = self.table.find(job.settings)
        if job.kind == "train":
            return self._train(job, network)
        if job.kind == "cost":
            self.proposals += 1
            self.since_training += 1
            self.off_table += not exact
            cost = Cost(
                protocol=_COST, environment=environment(), params=network.count, macs=network.macs,
                fvcore_flops=network.macs, activations=0, field_of_view=0,
            )  # fmt: skip
            measurement = Measurement(arch_id=network.arch_id, cost=cost)
        else:
            assert job.measurement is not None
            ms = 0.0 if math.isnan(network.latency_ms) else network.latency_ms  # then it is no objective
            latency = Latency(
                protocol=_LATENCY, environment=environment(), p50_ms=ms, p90_ms=ms, p99_ms=ms, iqr_ms=None, n=1
            )
            measurement = replace(job.measurement, latency=latency)
        return Answer(Result(job.candidate, job.kind, measurement), 0.0)

    def _train(self, job: Job, network: Network) -> Answer:
        """From where this network stands to the step that is asked for."""
        assert job.measurement is not None
        self.since_training = 0
        until, before = job.until or self.setting.steps, self.reached.get(job.key, 0)
        miou, seconds = network.trained[self.seed, until]
        seconds_before = network.trained[self.seed, before][1] if before else 0.0
        accuracy = Accuracy(
            protocol=replace(_accuracy(self.setting.steps), seed=job.seed, steps=until), environment=environment(),
            miou=miou, pixel_accuracy=0.0, class_iou={}, train_seconds=seconds,
        )  # fmt: skip
        measurement = replace(job.measurement, accuracy=accuracy)
        if math.isnan(miou):
            result = Result(job.candidate, "train", fault=Fault.DIVERGED, reason="diverged: so says the table")
        else:
            result = Result(job.candidate, "train", measurement)
        cost = (until - before) / self.setting.steps
        return Answer(result, max(0.0, seconds - seconds_before), cost)

    def note(self, job: Job, engine: VirtualEngine) -> None:
        """Hear of a job that ended."""
        if job.kind != "train":
            return
        until = job.until or self.setting.steps
        self.reached[job.key] = until
        network, _ = self.table.find(job.settings)
        if until == self.setting.steps and not math.isnan(network.trained[self.seed, until][0]):
            self.finished.append((network, engine.spent))

    def values(self, network: Network) -> list[float]:
        miou = network.trained[self.seed, self.setting.steps][0]
        figures: dict[str, float] = {
            "miou": miou, "macs": network.macs, "params": network.count, "latency_ms": network.latency_ms,
        }  # fmt: skip
        return [figures[name] for name in self.setting.objectives]

    def box(self, directions: Sequence[str]) -> tuple[Floats, float]:
        """The reference point, and the hypervolume of the whole table."""
        values = np.array([self.values(network) for network in self.table.networks])
        corner = reference_box(values, directions).reference
        return corner, hypervolume(values, corner, directions)

    @property
    def exhausted(self) -> bool:
        """Whether proposals have long been answered without training: little or nothing of the table is left."""
        return self.since_training > 100 + 20 * len(self.table.networks)


class _Compute(Budget):
    """A budget of compute: when it is begun, nothing new begins. Trials and hours are without limit."""

    def __init__(self, record: Record, engine: VirtualEngine, lookup: _Lookup, setting: Setting) -> None:
        self.record, self.trials, self.hours, self.max_trial_minutes = record, 10**9, math.inf, None
        self.seconds = 0.0
        self._engine, self._lookup, self._limit = engine, lookup, setting.budget

    def tick(self) -> float:
        return 0.0

    @property
    def hours_over(self) -> bool:
        return self._engine.begun >= self._limit - 1e-9 or self._lookup.exhausted

    def learn(self, trial: FrozenTrial) -> None:
        pass

    def counted(self, unfinished: Iterable[FrozenTrial], before: int | None = None) -> int:
        return 0


@cache
def _accuracy(steps: int) -> AccuracyProtocol:
    return AccuracyProtocol(data="table", data_fingerprint="", recipe="", recipe_hash="", steps=steps, seed=0)


def _study(table: Table, policy: Policy, setting: Setting) -> tuple[Study, Context]:
    """A study of the table's space. Limits of the space do not apply: what the table holds was trained."""
    halving = HalvingFile(rungs=list(setting.rungs), factor=setting.factor) if policy.halving else None
    figures = {name: FIGURES[name] for name in setting.objectives}
    options: dict[str, Any] = {"data": DataFile(name="table"), "recipe": Recipe(steps=setting.steps)}
    file = StudyFile(
        question="", expected="", space=table.space.name, objectives=list(setting.objectives),
        sampler=policy.sampler, halving=halving, **options,
    )  # fmt: skip
    study = Study("replay", file, table.space, tuple(figures.values()), {}, figures, Path(), "")
    context = Context(
        **options, latency=_LATENCY, cost=_COST, accuracy=_accuracy(setting.steps), figures=(), folder=Path(),
        weights=Path(), device="cpu", rungs=setting.rungs if policy.halving else (),
    )  # fmt: skip
    return study, context
