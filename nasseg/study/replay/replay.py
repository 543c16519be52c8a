"""Search a table instead of training, to compare samplers, with and without halving, at equal compute.

The driver, the record (in memory) and the samplers are those of a real search; only the engine differs: a table answers
its jobs and a virtual clock runs. Compute is counted in full trainings: steps trained, over the steps of a full
training. A network counts once it is trained to the end. Hypervolume is a share of that of the table's front, over one
box for all searches. What a sampler proposes is moved to the nearest point of the table.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
import torch
from optuna.storages import InMemoryStorage

from nasseg.analyse.front import Floats, hypervolume_history
from nasseg.errors import UserError
from nasseg.figures import FIGURES
from nasseg.processes.children import Child
from nasseg.study.context import Context
from nasseg.study.data_file import DataFile
from nasseg.study.driver.driver import Driver
from nasseg.study.engines.virtual_engine import VirtualEngine
from nasseg.study.propose.ehvi_proposer import make_proposer
from nasseg.study.propose.samplers import check_sampler
from nasseg.study.replay.policies import BASELINE, Policy, Setting
from nasseg.study.replay.table_answers import COST, LATENCY, ComputeBudget, TableAnswers, TablePoints, accuracy_protocol
from nasseg.study.replay.trained_table import Table
from nasseg.study.store.record import Record
from nasseg.study.study_file import HalvingFile, Study, StudyFile
from nasseg.train.recipe import Recipe

PERCENTILES = (10, 90)  # the bands' bounds, over seeds
POINTS = 201  # of a curve
RESAMPLES = 100


@dataclass(frozen=True)
class Searched:
    """One search. Arrays have an item for each network trained to the end, in that order, up to the budget."""

    policy: Policy
    seed: int
    compute: Floats  # in full trainings, spent by its end
    share: Floats  # of the table's hypervolume, reached by then
    spent: float  # compute of all trainings begun; may exceed the budget
    hours: float  # the whole search on the virtual clock
    thinking: float  # seconds of this processor
    ended: str

    def at(self, compute: Floats) -> Floats:
        """Return the share reached with this much compute: [n] -> [n]."""
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
        """The average share that random search without halving reaches with the budget; NaN without such searches."""
        ends = [search.at(np.array([self.setting.budget]))[0] for search in self.of(BASELINE)]
        return float(np.mean(ends)) if ends else math.nan

    def curves(self) -> pd.DataFrame:
        """Return the share of the table's hypervolume against compute. Columns: policy, compute, mean, low, high."""
        grid = np.linspace(0, self.setting.budget, POINTS)
        frames = []
        for policy in self.policies:
            shares = np.array([search.at(grid) for search in self.of(policy)])
            low, high = np.percentile(shares, PERCENTILES, axis=0)
            rows = {"policy": str(policy), "compute": grid, "mean": shares.mean(axis=0), "low": low, "high": high}
            frames.append(pd.DataFrame(rows))
        return pd.concat(frames, ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """Return a row for each policy: the share it reaches, and the compute at which its mean reaches `target`.

        Columns: policy, end (mean share at the budget), low, high, compute (NaN if the target is not reached), ratio
        (of that to the budget), ratio_low and ratio_high (its 90 % interval over resampled seeds; infinite where the
        target is not reached), reached (share of the searches that reach it themselves), trained (networks to the end),
        hours (virtual), thinking (processor seconds per search).
        """
        rows, budget = [], self.setting.budget
        for policy in self.policies:
            searches = self.of(policy)
            ends = np.array([search.at(np.array([budget]))[0] for search in searches])
            low, high = np.percentile(ends, PERCENTILES)
            compute = self._reaches(searches)
            rows.append(
                {
                    "policy": str(policy),
                    "end": ends.mean(),
                    "low": low,
                    "high": high,
                    "compute": compute,
                    "ratio": compute / budget,
                    **dict(zip(("ratio_low", "ratio_high"), self._interval(searches) / budget, strict=True)),
                    "reached": float(np.mean(ends >= self.target)),
                    "trained": float(np.mean([len(search.compute) for search in searches])),
                    "hours": float(np.mean([search.hours for search in searches])),
                    "thinking": float(np.mean([search.thinking for search in searches])),
                }
            )
        return pd.DataFrame(rows)

    def _interval(self, searches: list[Searched]) -> Floats:
        """Return the 5th and the 95th percentile of `_reaches` over resampled searches."""
        rng, many = np.random.default_rng(0), len(searches)
        draws = [self._reaches([searches[i] for i in rng.integers(0, many, many)]) for _ in range(RESAMPLES)]
        return np.quantile(np.where(np.isnan(draws), np.inf, draws), (0.05, 0.95), method="nearest")

    def _reaches(self, searches: list[Searched]) -> float:
        at = np.unique(np.concatenate([search.compute for search in searches]))
        mean = np.mean([search.at(at) for search in searches], axis=0)
        enough = np.flatnonzero(mean >= self.target)
        return float(at[enough[0]]) if len(enough) else math.nan


def worst_first(results: Sequence[Replayed], policy: Policy) -> pd.DataFrame:
    """Return a row for each table with what a policy reaches on it, the table that takes most compute first.

    Columns: table, ratio, ratio_low, ratio_high, end (see `Replayed.summary`) and random (the target).
    """
    rows = []
    for found in results:
        summary = found.summary().set_index("policy").loc[str(policy)]
        names = ("ratio", "ratio_low", "ratio_high", "end")
        rows.append({"table": found.table, **{name: summary[name] for name in names}, "random": found.target})
    frame = pd.DataFrame(rows)
    order = frame["ratio"].fillna(math.inf).sort_values(ascending=False, kind="stable").index
    return frame.loc[order].reset_index(drop=True)


def replay(
    table: Table,
    policies: Sequence[Policy],
    setting: Setting,
    seeds: int = 20,
    processes: int = 1,
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
    first_seed: int = 0,
) -> Replayed:
    """Search the table with every policy from consecutive seeds; random search without halving is added if possible.

    on_progress: called with the searches done, and their total.

    Raises:
        UserError: a policy needs data that the table lacks, or a sampler does not exist.
    """
    for policy in policies:
        check_sampler(policy.make(0, _points(table, setting)), table.space)
        if policy.halving and not setting.rungs:
            raise UserError(f"halving needs steps below {setting.steps}; table {table.name} has {list(table.steps)}")
        table.require((*setting.rungs, setting.steps) if policy.halving else (setting.steps,), f"policy {policy}")
    wanted = list(dict.fromkeys([BASELINE, *policies]))
    tasks = [(table, policy, setting, seed) for policy in wanted for seed in range(first_seed, first_seed + seeds)]
    searches = []
    with _searching(processes) as each:
        for found in each(search, *zip(*tasks, strict=True)):
            searches.append(found)
            on_progress(len(searches), len(tasks))
    return Replayed(table.name, len(table.networks), setting, tuple(searches))


@contextmanager
def _searching(processes: int) -> Iterator[Callable[..., Iterable[Searched]]]:
    """Give a `map` over this many processes of one thread each."""
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
    except (EOFError, OSError):
        raise UserError("a process of the replay died, most likely for lack of memory; try fewer processes") from None
    finally:
        free.put(child)
    if isinstance(found, Exception):
        raise found
    return found


def _search_all(pipe: Connection) -> None:
    """Do the searches that arrive through a pipe, in a process of one thread."""
    torch.set_num_threads(1)
    while True:
        task = pipe.recv()
        try:
            found: Searched | Exception = search(*task)
        except Exception as error:  # raised again in the parent process
            found = error
        pipe.send(found)


def search(table: Table, policy: Policy, setting: Setting, seed: int) -> Searched:
    """Run one search. In a table with several training seeds, each search looks up one of them, in turn."""
    began = time.thread_time()
    study, context = _study(table, policy, setting)
    lookup = TableAnswers(table, table.seeds[seed % len(table.seeds)], setting)
    engine = VirtualEngine(setting.workers, lookup.answer, lambda job, _answer: lookup.note(job, engine))
    directions: list[str] = [figure.direction for figure in study.objectives]
    objectives = {figure.name: figure.direction for figure in study.objectives}
    record = Record.create(InMemoryStorage(), study.name, objectives, {})
    rungs = 1 + len(context.rungs)
    proposer = make_proposer(study.space, study.objectives, policy.make(seed, _points(table, setting)), seed, rungs)
    driver = Driver(study, record, engine, context, proposer, ComputeBudget(record, engine, setting), seed)
    ended = driver.run()
    values = np.array([lookup.values(network) for network, _ in lookup.finished]).reshape(-1, len(objectives))
    compute = np.array([spent for _, spent in lookup.finished])
    within = compute <= setting.budget + 1e-9
    corner, whole = lookup.box(directions)
    share = hypervolume_history(values[within], corner, directions) / whole
    return Searched(
        policy,
        seed,
        compute[within],
        share,
        engine.begun,
        engine.clock / 3600,
        time.thread_time() - began,
        ended,
    )


def _points(table: Table, setting: Setting) -> TablePoints:
    objectives = tuple(FIGURES[name] for name in setting.objectives)
    return TablePoints(table.points, objectives, {}, COST, table=table)


def _study(table: Table, policy: Policy, setting: Setting) -> tuple[Study, Context]:
    """Return a study of the table's points, without the space's limits: everything in the table was trained."""
    halving = (
        HalvingFile(rungs=list(setting.rungs), factor=setting.factor, straight=policy.straight)
        if policy.halving
        else None
    )
    figures = {name: FIGURES[name] for name in setting.objectives}
    options: dict[str, Any] = {"data": DataFile(name="table"), "recipe": Recipe(steps=setting.steps)}
    file = StudyFile(
        question="",
        expected="",
        space=table.space.name,
        objectives=list(setting.objectives),
        sampler=policy.sampler,
        halving=halving,
        **options,
    )
    study = Study("replay", file, table.points, tuple(figures.values()), {}, figures, Path(), "")
    context = Context(
        **options,
        latency=LATENCY,
        cost=COST,
        accuracy=accuracy_protocol(setting.steps),
        figures=(),
        folder=Path(),
        weights=Path(),
        device="cpu",
        rungs=setting.rungs if policy.halving else (),
    )
    return study, context
