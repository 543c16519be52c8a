"""Certainty and budgets, by hand: chances of the front, spread over seeds and runs, the best within a budget."""

import math

import numpy as np
import pytest

from nasseg.analyse.front import front_probability, pareto_front
from nasseg.analyse.trials import (
    best_within,
    front_probabilities,
    objective_values,
    seed_spread,
    seeds_frame,
    standard_errors,
)
from nasseg.limits import Breach
from nasseg.records import PublishedPoint
from tests.analyse.networks import MACS, MIOU, TIME, network, study
from tests.analyse.test_parameters import families


@pytest.mark.slow
def test_front_probability_of_two_that_are_alike_is_a_half():
    values = [[50.0, 10.0], [50.0, 10.0], [40.0, 5.0], [30.0, 9.0]]
    chance = front_probability(values, [[0, 1.0], [0, 1.0], [0, 0], [0, 0.1]], ["maximize", "minimize"], draws=4000)
    assert chance[0] + chance[1] == pytest.approx(1.0)  # mIoU alike, so the faster one alone is on the front
    assert chance[0] == pytest.approx(0.5, abs=0.03)
    assert chance[2] == 1.0
    assert chance[3] == 0.0


def test_front_probability_without_errors_is_the_front_and_leaves_nothing_out_that_could_be_on_it():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 3))
    values[5, 1] = np.nan
    directions = ["minimize", "maximize", "minimize"]
    exact = front_probability(values, np.zeros_like(values), directions)
    assert exact.tolist() == pareto_front(values, directions).astype(float).tolist()
    errors = np.full_like(values, 0.2)
    chance = front_probability(values, errors, directions, draws=50, seed=3)
    whole = np.zeros(len(values))
    for seed in range(50):  # every row drawn anew, none left out beforehand
        noise = np.clip(np.random.default_rng(seed).standard_normal(values.shape), -4, 4)
        whole += pareto_front(values + errors * noise, directions)
    assert (chance[whole == 0] < 0.1).all()
    assert np.abs(chance - whole / 50).max() < 0.35
    assert chance[5] == 0


SEEDS = study(
    [
        network(0, {"a": 0}, 50.0, time=10.0, iqr=1.349, seed=0, arch_id="x"),
        network(1, {"a": 0}, 52.0, time=10.0, seed=1, arch_id="x"),
        network(2, {"a": 0}, 51.0, time=10.0, seed=2, arch_id="x"),
        network(3, {"a": 1}, 40.0, time=5.0, seed=0, arch_id="y"),
        network(4, {"a": 1}, 44.0, time=5.0, seed=1, arch_id="y"),
        network(5, {"a": 2}, 30.0, time=4.0, arch_id="z"),
        network(6, {"a": 2}, 30.0, time=4.0, arch_id="z", seed=1, reused_from=5),
    ],
    (MIOU, MACS, TIME),
)


def test_seeds_and_replicates_give_the_standard_errors():
    frame = seeds_frame(SEEDS)
    assert frame["numbers"].tolist() == [(0, 1, 2), (3, 4)]
    assert frame[["seeds", "mean", "low", "high"]].values.tolist() == [[3, 51, 50, 52], [2, 42, 40, 44]]
    pooled = math.sqrt((1.0 * 2 + 8.0) / 3)  # variances 1 and 8 with 2 and 1 degrees of freedom
    assert seed_spread(SEEDS) == pytest.approx(pooled)
    errors = standard_errors(SEEDS)
    assert errors[:, 0].tolist() == pytest.approx([pooled] * 7)
    assert errors[:, 1].tolist() == [0.0] * 7
    assert errors[0, 2] == pytest.approx(1.253 / 5)  # a standard deviation of 1 ms over 25 runs
    assert seed_spread(families(10)) is None
    assert front_probabilities(SEEDS)[6] == 0
    exact = standard_errors(families(10))
    assert exact.tolist() == np.zeros_like(exact).tolist()


def test_the_best_network_within_a_budget_its_runner_up_and_the_best_published():
    published = (
        PublishedPoint(name="P", citation="", family="toy", figures={"latency_ms": 9.0, "miou": 45.0}),
        PublishedPoint(name="Q", citation="", family="toy", figures={"latency_ms": 90.0, "miou": 60.0}),
        PublishedPoint(name="R", citation="", family="toy", figures={"macs": 1.0, "miou": 70.0}),
    )
    record = study(SEEDS.trials, SEEDS.objectives, published=published)
    found = best_within(record, "latency_ms", 10.0, "miou")
    # Not trial 2, another seed of the same network.
    assert (found.number, found.value, found.runner_up, found.runner_up_value) == (1, 52.0, 4, 44.0)
    assert (found.published, found.published_value) == ("P", 45.0)
    assert best_within(record, "latency_ms", 9.99, "miou").number == 4
    alone = best_within(record, "latency_ms", 4.5, "miou")
    assert (alone.number, alone.runner_up) == (5, None)
    assert (alone.published, alone.published_over) == ("Q", Breach("latency_ms", 90.0, "max", 4.5))
    assert best_within(record, "latency_ms", 3.9, "miou") is None
    quick = best_within(record, "miou", 45.0, "latency_ms")  # any objective may be the gain
    assert (quick.number, quick.value) == (5, 4.0)
    assert objective_values(record).shape == (7, 3)
