"""Other people's searches beside ours, on tables of networks that are all trained, over one axis of compute.

    python -m tests.benchmarks.bench_search reports/replay/small.csv [TABLE ...] --seeds 20 [--workers 4] [--worthless]

Peers: Optuna used directly (TPE with groups, NSGA-II), pymoo's NSGA-II for mixed variables, syne-tune's MO-ASHA and
BoTorch's qNEHVI. A peer whose library is not installed is left out. Each proposes points of the space one at a time and
trains them to the end; only MO-ASHA stops at the table's rungs. A network that a peer asks for again is answered from
memory, at no cost. Ours run in the replay. --worthless: the values at rungs are dealt out anew among the networks, so
that they say nothing of the end: a search must not be behind random search even then. --families: a part of the table,
which is another table to a search.
"""

import argparse
import importlib.util
import itertools
import random
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
import yaml

from nasseg.analyse.front import hypervolume_history
from nasseg.figures import FIGURES
from nasseg.space import Params, Space, space_from_text
from nasseg.study.propose.samplers import make_sampler
from nasseg.study.replay.policies import DEFAULT, HEDGED, Policy, Setting, setting_of
from nasseg.study.replay.replay import Replayed, Searched, replay
from nasseg.study.replay.table_answers import TableAnswers
from nasseg.study.replay.trained_table import Network, Table, read_table

OURS = (Policy("tpe"), Policy("tpe", True), Policy("tpe", True, HEDGED), Policy("ehvi"), DEFAULT)
DRAWN, FIRST = 256, 10  # qNEHVI: points that it chooses from, and random choices at first
REPEATS = 500  # of networks that are known, in a row: little is left to find


class Over(Exception):  # noqa: N818  (not an error)
    """The budget is used up."""


@dataclass
class Answers:
    """The networks of a table, trained for a peer, and the compute of that."""

    table: Table
    setting: Setting
    seed: int  # of the peer
    training_seed: int
    spent: float = 0.0
    repeats: int = 0
    reached: dict[str, int] = field(default_factory=dict)
    finished: list[tuple[Network, float]] = field(default_factory=list)

    @property
    def space(self) -> Space:
        return self.table.space

    @property
    def maximised(self) -> list[bool]:
        return [FIGURES[name].direction == "maximize" for name in self.setting.objectives]

    def train(self, point: Params, until: int | None = None) -> list[float]:
        """Return the objectives of a point at a step; the default is the end.

        Raises:
            Over: nothing more can be begun.
        """
        until = until or self.setting.steps
        network = self.table.at(point)
        before = self.reached.get(network.arch_id, 0)
        self.repeats = self.repeats + 1 if until <= before else 0
        if until > before:
            if self.spent >= self.setting.budget - 1e-9:
                raise Over
            self.spent += (until - before) / self.setting.steps
            self.reached[network.arch_id] = until
            if until == self.setting.steps and not np.isnan(network.trained[self.training_seed, until][0]):
                self.finished.append((network, self.spent))
        elif self.repeats > REPEATS:
            raise Over
        miou = network.trained[self.training_seed, until][0]
        figures = {"miou": 0.0 if np.isnan(miou) else miou, "macs": network.macs, "params": network.count}
        figures["latency_ms"] = network.latency_ms
        return [float(figures[name]) for name in self.setting.objectives]


def active(space: Space, places: Mapping[str, int | str]) -> Params:
    """Return the point with these places among each parameter's values, without what its conditions leave out."""
    point: Params = {}
    for name, parameter in space.parameters.items():
        if parameter.active(point):
            point[name] = parameter.values[int(places[name])]
    return point


def of_optuna(name: str) -> Callable[[Answers], None]:
    def search(answers: Answers) -> None:
        directions = ["maximize" if up else "minimize" for up in answers.maximised]
        study = optuna.create_study(directions=directions, sampler=make_sampler(name, {}, answers.seed))
        while True:
            trial = study.ask()
            point = answers.space.suggest(trial)
            if answers.space.excluded_by(point):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, answers.train(point))

    return search


def pymoo_nsga2(answers: Answers) -> None:
    from pymoo.algorithms.moo.nsga2 import RankAndCrowdingSurvival
    from pymoo.core.mixed import MixedVariableGA
    from pymoo.core.problem import Problem
    from pymoo.core.variable import Choice

    counts = {name: len(parameter.values) for name, parameter in answers.space.parameters.items()}
    variables = {name: Choice(options=list(range(count))) for name, count in counts.items()}
    problem = Problem(vars=variables, n_obj=len(answers.maximised))
    algorithm = MixedVariableGA(pop_size=20, survival=RankAndCrowdingSurvival())
    algorithm.setup(problem, seed=answers.seed, termination=("n_gen", 10**6))
    signs = np.where(answers.maximised, -1.0, 1.0)
    while True:
        asked = algorithm.ask()
        for one in asked:
            point = active(answers.space, one.X)
            one.F = signs * (np.full(len(signs), 1e12) if answers.space.excluded_by(point) else answers.train(point))
            one.evaluated.add("F")
        algorithm.tell(infills=asked)


def moasha(answers: Answers) -> None:
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    setting = answers.setting
    counts = {name: len(parameter.values) for name, parameter in answers.space.parameters.items()}
    scheduler = MOASHA(
        config_space={name: choice([str(place) for place in range(count)]) for name, count in counts.items()},
        metrics=list(setting.objectives),
        time_attr="step",
        max_t=setting.steps,
        grace_period=setting.rungs[0],
        reduction_factor=setting.factor,
    )
    signs = np.where(answers.maximised, -1.0, 1.0)
    for number in itertools.count():
        config = scheduler.suggest().config
        point = active(answers.space, config)
        if answers.space.excluded_by(point):
            continue
        answers.train(point, setting.rungs[0])
        if answers.repeats:  # it ranks repeats again among all, at great length
            continue
        trial = Trial(number, config, datetime.now())
        scheduler.on_trial_add(trial)
        for step in (*setting.rungs, setting.steps):
            found = dict(zip(setting.objectives, signs * answers.train(point, step), strict=True))
            if scheduler.on_trial_result(trial, {"step": step, **found}) == SchedulerDecision.STOP:
                break


def botorch_qnehvi(answers: Answers) -> None:
    """Choose from points drawn at random, with a Gaussian process for each objective over one code a parameter value.

    BoTorch's defaults in all else; the first choices are random.
    """
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from gpytorch.mlls import SumMarginalLogLikelihood

    rng, signs = random.Random(answers.seed), torch.tensor(np.where(answers.maximised, 1.0, -1.0))
    items = [(name, value) for name, parameter in answers.space.parameters.items() for value in parameter.values]
    seen: dict[tuple[Any, ...], tuple[Params, list[float]]] = {}

    def coded(points: Iterable[Params]) -> torch.Tensor:
        rows = [[float(name in point and point[name] == value) for name, value in items] for point in points]
        return torch.tensor(rows, dtype=torch.float64)

    while True:
        drawn = [answers.space.sample(rng) for _ in range(DRAWN)]
        pool = [point for point in drawn if tuple(point.items()) not in seen] or drawn
        point = pool[0]
        if len(seen) >= FIRST:
            x = coded(point for point, _ in seen.values())
            y = signs * torch.tensor([values for _, values in seen.values()], dtype=torch.float64)
            model = ModelListGP(*(SingleTaskGP(x, column[:, None]) for column in y.T))
            fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
            improvement = qLogNoisyExpectedHypervolumeImprovement(model, y.min(dim=0).values, x, prune_baseline=True)
            with torch.no_grad():
                scores = [improvement(part[:, None]) for part in coded(pool).split(64)]
            point = pool[int(torch.cat(scores).argmax())]
        seen[tuple(point.items())] = point, answers.train(point)


PEERS: dict[str, tuple[str, Callable[[Answers], None]]] = {  # name -> library, search
    "Optuna TPE": ("optuna", of_optuna("tpe")),
    "Optuna NSGA-II": ("optuna", of_optuna("nsga2")),
    "pymoo NSGA-II": ("pymoo", pymoo_nsga2),
    "syne-tune MO-ASHA": ("syne_tune", moasha),
    "BoTorch qNEHVI": ("botorch", botorch_qnehvi),
}


def searched(name: str, peer: Callable[[Answers], None], table: Table, setting: Setting, seed: int) -> Searched:
    begun = time.thread_time()
    answers = Answers(table, setting, seed, table.seeds[seed % len(table.seeds)])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    with suppress(Over):
        peer(answers)
    lookup = TableAnswers(table, answers.training_seed, setting)
    directions = ["maximize" if up else "minimize" for up in answers.maximised]
    values = np.array([lookup.values(network) for network, _ in answers.finished]).reshape(-1, len(directions))
    compute = np.array([spent for _, spent in answers.finished])
    corner, whole = lookup.box(directions)
    share = hypervolume_history(values, corner, directions) / whole
    thinking = time.thread_time() - begun
    return Searched(Policy(name), seed, compute, share, answers.spent, 0.0, thinking, "")


def worthless(table: Table, seed: int = 0) -> Table:
    """Return the table with the values at its rungs dealt out anew among the networks."""
    rng, last = random.Random(seed), table.steps[-1]
    networks = []
    for network, other in zip(table.networks, rng.sample(table.networks, len(table.networks)), strict=True):
        early = {key: value for key, value in other.trained.items() if key[1] != last}
        networks.append(replace(network, trained={**network.trained, **early}))
    return replace(table, name=f"{table.name}, rungs worthless", networks=tuple(networks))


def of_families(table: Table, names: list[str]) -> Table:
    """Return the part of a table that some families are."""
    raw = yaml.safe_load(table.space.source)
    others = {*table.space.families} - {*names}
    kept = {name: value for name, value in raw["parameters"].items() if name.partition(".")[0] not in others}
    raw["parameters"] = {**kept, "family": names}
    networks = tuple(network for network in table.networks if network.params["family"] in names)
    name = f"{table.name} of {', '.join(names)}"
    return replace(
        table, name=name, space=space_from_text(yaml.safe_dump(raw, sort_keys=False), name), networks=networks
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", type=Path, nargs="+", help="CSV files")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0, help="choose by some seeds, and judge by others")
    parser.add_argument("--workers", type=int, default=1, help="of our searches; peers have one")
    parser.add_argument("--jobs", type=int, default=1, help="processes of our searches")
    parser.add_argument("--peer", action="append", choices=[*PEERS, "none"], help="default: all that are installed")
    parser.add_argument("--worthless", action="store_true", help="deal the values at rungs out anew")
    parser.add_argument("--families", nargs="+", help="only networks of these")
    parser.add_argument("--objectives", default="miou,macs")
    parser.add_argument("--rungs", help="steps of the tables, such as 30,90; default: all")
    parser.add_argument("--default-only", action="store_true", help="of our policies only what `nasseg init` writes")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for path in asked.tables:
        table = read_table(path)
        table = of_families(table, asked.families) if asked.families else table
        table = worthless(table) if asked.worthless else table
        rungs = [int(step) for step in asked.rungs.split(",")] if asked.rungs else None
        setting = setting_of(table, asked.objectives.split(","), rungs=rungs, workers=asked.workers)
        ours, first = [DEFAULT] if asked.default_only else OURS, asked.first_seed
        found = replay(table, ours, setting, asked.seeds, asked.jobs, first_seed=first)
        searches = list(found.searches)
        for name, (library, peer) in PEERS.items():
            if asked.peer and name not in asked.peer:
                continue
            if importlib.util.find_spec(library) is None:
                print(f"{name} is left out: {library} is not installed")
                continue
            seeds = range(first, first + asked.seeds)
            searches += [searched(name, peer, table, setting, seed) for seed in seeds]
        frame = Replayed(table.name, len(table.networks), setting, tuple(searches)).summary()
        print(f"{table.name}: {len(table.networks)} networks, {asked.seeds} seeds, {asked.workers} workers")
        print(frame.to_string(index=False, float_format=lambda value: f"{value:.3g}"), flush=True)


if __name__ == "__main__":
    main()
