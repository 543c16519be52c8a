"""A table's answers to the jobs of a search, and the search's budget of compute."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from nasseg.analyse.front import Floats, hypervolume, reference_box
from nasseg.errors import Fault
from nasseg.measure.environment import environment
from nasseg.records import Accuracy, AccuracyProtocol, Cost, CostProtocol, Latency, LatencyProtocol, Measurement
from nasseg.study.driver.budget import Budget
from nasseg.study.engines.jobs import Job, Result
from nasseg.study.engines.virtual_engine import Answer, VirtualEngine
from nasseg.study.propose.graph_features import (
    Described,
    SpacePoints,
    cost_of_settings,
    graph_features,
    recipe_features,
)
from nasseg.study.replay.policies import Setting
from nasseg.study.replay.trained_table import Network, Table
from nasseg.study.store.record import Record

_SIZE = (1, 1)  # tables do not have it
_USUAL, _CLASSES = (256, 512), 19
COST = CostProtocol(input_size=_SIZE, num_classes=2)
LATENCY = LatencyProtocol(device="cpu", input_size=_SIZE, num_classes=2)


@dataclass(frozen=True)
class TablePoints(SpacePoints):
    """The points of a table, with the table's costs, and the graph's features at a usual image size."""

    table: Table = field(kw_only=True)

    def describe(self, point: Mapping[str, Any]) -> Described | None:
        settings = self.space.settings(point)
        cost = cost_of_settings(json.dumps(settings, sort_keys=True), _USUAL, _CLASSES)
        network = self.table.at(dict(point))
        costs = {"macs": float(network.macs), "params": float(network.count)}
        known = {i: costs[figure.name] for i, figure in enumerate(self.objectives) if figure.name in costs}
        return Described((*graph_features(cost), *recipe_features(self.space, point)), known)


@dataclass
class TableAnswers:
    """Answer jobs from a table, and remember the questions."""

    table: Table
    seed: int  # of the trainings
    setting: Setting
    reached: dict[str, int] = field(default_factory=dict)  # eval_key -> step
    finished: list[tuple[Network, float]] = field(default_factory=list)  # with the compute spent by then

    def answer(self, job: Job) -> Answer:
        network = self.table.find(job.settings, job.recipe)
        if job.kind == "train":
            return self._train(job, network)
        if job.kind == "cost":
            cost = Cost(
                protocol=COST,
                environment=environment(),
                params=network.count,
                macs=network.macs,
                fvcore_flops=network.macs,
                activations=0,
                field_of_view=0,
            )
            measurement = Measurement(arch_id=network.arch_id, cost=cost)
        else:
            assert job.measurement is not None
            ms = 0.0 if math.isnan(network.latency_ms) else network.latency_ms  # then it is no objective
            latency = Latency(
                protocol=LATENCY, environment=environment(), p50_ms=ms, p90_ms=ms, p99_ms=ms, iqr_ms=None, n=1
            )
            measurement = replace(job.measurement, latency=latency)
        return Answer(Result(job.candidate, job.kind, measurement), 0.0)

    def _train(self, job: Job, network: Network) -> Answer:
        """Train from this network's last step to the requested one."""
        assert job.measurement is not None
        until, before = job.until or self.setting.steps, self.reached.get(job.key, 0)
        miou, seconds = network.trained[self.seed, until]
        seconds_before = network.trained[self.seed, before][1] if before else 0.0
        accuracy = Accuracy(
            protocol=replace(accuracy_protocol(self.setting.steps), seed=job.seed, steps=until),
            environment=environment(),
            miou=miou,
            pixel_accuracy=0.0,
            class_iou={},
            train_seconds=seconds,
        )
        measurement = replace(job.measurement, accuracy=accuracy)
        if math.isnan(miou):
            result = Result(job.candidate, "train", fault=Fault.DIVERGED, reason="diverged, according to the table")
        else:
            result = Result(job.candidate, "train", measurement)
        cost = (until - before) / self.setting.steps
        return Answer(result, max(0.0, seconds - seconds_before), cost)

    def note(self, job: Job, engine: VirtualEngine) -> None:
        """Note a job that ended."""
        if job.kind != "train":
            return
        until = job.until or self.setting.steps
        self.reached[job.key] = until
        network = self.table.find(job.settings, job.recipe)
        if until == self.setting.steps and not math.isnan(network.trained[self.seed, until][0]):
            self.finished.append((network, engine.spent))

    def values(self, network: Network) -> list[float]:
        miou = network.trained[self.seed, self.setting.steps][0]
        figures: dict[str, float] = {
            "miou": miou,
            "macs": network.macs,
            "params": network.count,
            "latency_ms": network.latency_ms,
        }
        return [figures[name] for name in self.setting.objectives]

    def box(self, directions: Sequence[str]) -> tuple[Floats, float]:
        """Return the reference point, and the hypervolume of the whole table."""
        values = np.array([self.values(network) for network in self.table.networks])
        corner = reference_box(values, directions).reference
        return corner, hypervolume(values, corner, directions)


class ComputeBudget(Budget):
    """A budget of compute: once it is used up, nothing new begins. Trials and hours are unlimited."""

    def __init__(self, record: Record, engine: VirtualEngine, setting: Setting) -> None:
        self.record, self.trials, self.hours, self.max_trial_minutes = record, 10**9, math.inf, None
        self.seconds = 0.0
        self._engine, self._limit = engine, setting.budget

    def tick(self) -> float:
        return 0.0

    @property
    def hours_over(self) -> bool:
        return self._engine.begun >= self._limit - 1e-9

    def learn(self, trial: FrozenTrial) -> None:
        pass

    def counted(self, unfinished: Iterable[FrozenTrial], before: int | None = None) -> int:
        return 0


@cache
def accuracy_protocol(steps: int) -> AccuracyProtocol:
    return AccuracyProtocol(data="table", data_fingerprint="", recipe="", recipe_hash="", steps=steps, seed=0)
