"""The policies that a replay compares, and the setting that their searches share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from nasseg.errors import UserError, unknown
from nasseg.files import parse_value
from nasseg.study.propose.graph_features import Points
from nasseg.study.propose.samplers import make_sampler
from nasseg.study.replay.trained_table import Table

OBJECTIVES = ("miou", "macs", "params", "latency_ms")  # figures that a table holds


@dataclass(frozen=True)
class Policy:
    """A sampler, by any name that a study may use, with or without successive halving.

    straight: the share of compute for networks that are trained to the end whatever their rungs say. Options of the
    sampler follow a colon: `nsga2:population_size=20`, `tpe:group=false,multivariate=false`.
    """

    sampler: str
    halving: bool = False
    straight: float = 0.0

    def make(self, seed: int, points: Points | None = None) -> optuna.samplers.BaseSampler:
        name, _, text = self.sampler.partition(":")
        options = {}
        for option in filter(None, text.split(",")):
            key, _, value = option.partition("=")
            options[key.strip()] = found = parse_value(value)
            if not value or (found == value and set(value) & set("[]{}")):  # meant as YAML, but invalid
                raise UserError(f"sampler {self.sampler}: an option is NAME=VALUE, such as {_EXAMPLE}, got {option!r}")
        return make_sampler(name, options, seed, points)

    def __str__(self) -> str:
        if not self.halving:
            return self.sampler
        return f"{self.sampler} + {'hedged halving' if self.straight else 'halving'}"


_EXAMPLE = "population_size=20"
BASELINE = Policy("random")
HEDGED = 0.5  # the share of compute for networks trained straight to the end in hedged halving
DEFAULT = Policy("ehvi", halving=True, straight=HEDGED)  # what `nasseg init` writes


@dataclass(frozen=True)
class Setting:
    """The setting that a replay's searches share. budget: in full trainings. steps: of a full training.

    rungs: below it.
    """

    objectives: tuple[str, ...]
    budget: float
    steps: int
    rungs: tuple[int, ...]
    factor: int = 3
    workers: int = 1


def setting_of(
    table: Table,
    objectives: Sequence[str] = ("miou", "macs"),
    budget: float | None = None,
    steps: int | None = None,
    rungs: Sequence[int] | None = None,
    factor: int = 3,
    workers: int = 1,
) -> Setting:
    """Return a setting for a table.

    Defaults: a budget of a quarter of its networks, its last step, all its steps as rungs.

    Raises:
        UserError: the table lacks something asked for.
    """
    for name in objectives:
        if name not in OBJECTIVES:
            raise unknown("objective of a table", name, OBJECTIVES)
    if len({*objectives}) < len(objectives):
        raise UserError(f"an objective is named once, got {', '.join(objectives)}; drop one")
    if "miou" not in objectives:
        raise UserError(f"objectives need miou, which training decides; got {', '.join(objectives)}; add miou")
    if "latency_ms" in objectives and any(math.isnan(network.latency_ms) for network in table.networks):
        raise UserError(f"table {table.name} has networks without latency_ms; drop that objective")
    steps = table.steps[-1] if steps is None else steps
    below = tuple(step for step in table.steps if step < steps) if rungs is None else tuple(rungs)
    for step in (steps, *below):
        if step not in table.steps:
            raise unknown(f"step of table {table.name}", step, map(str, table.steps))
    if list(below) != sorted({*below}) or (below and below[-1] >= steps):
        raise UserError(f"rungs must ascend and end before the last step, {steps}; got {list(below)}")
    if factor < 2 or workers < 1 or (budget is not None and budget <= 0):
        raise UserError(
            "factor is 2 or more, workers 1 or more and the budget above 0, "
            f"got {factor}, {workers} and {budget}; change the option"
        )
    networks = {(one.arch_id, *table.space.training_of(one.params).items()) for one in table.networks}
    whole = budget if budget is not None else max(1.0, len(networks) / 4)
    return Setting(tuple(objectives), whole, steps, below, factor, workers)
