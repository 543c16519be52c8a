"""Expected hypervolume improvement: the integral against draws, the regression, in Optuna and in a search."""

import random

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from nasseg.analyse.front import hypervolume
from nasseg.errors import UserError
from nasseg.records import CostProtocol
from nasseg.space import space_from_text
from nasseg.study.engines.jobs import Job
from nasseg.study.propose import graph_features
from nasseg.study.propose.ehvi_sampler import MAX_FINISHED, EHVISampler, Seen, _line, front_and_latest, key_of
from nasseg.study.propose.gaussian_process import GaussianProcess
from nasseg.study.propose.graph_features import Described, recipe_features
from nasseg.study.propose.halving import Halving
from nasseg.study.propose.improvement import Outlook, expected_improvement
from nasseg.study.propose.samplers import make_sampler
from tests.study.fakes import FakeEngine, make_driver, make_study

# The integral


def drawn_improvement(mean, error, front, reference, draws=500):
    """The mean hypervolume that is added, over draws."""
    rng, sides = np.random.default_rng(0), ["minimize"] * len(reference)
    before = hypervolume(front, reference, sides)
    points = mean + error * rng.standard_normal((draws, len(mean)))
    return np.mean([hypervolume(np.vstack([front, point]), reference, sides) - before for point in points])


@pytest.mark.parametrize(
    ("error", "first"),
    [
        ([[1.0, 0.0], [0.3, 0.0], [2.0, 0.0]], 0),  # accuracy unknown, multiply-adds known
        ([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], 0),
        ([[0.0, 0.5], [0.0, 1.0], [0.0, 0.2]], 1),
        ([[1.0, 0.0, 0.5], [0.3, 0.0, 0.2], [2.0, 0.0, 1.0]], 0),  # latency not measured yet
    ],
)
def test_the_integral_is_what_draws_give(error, first):
    size = len(error[0])
    front = np.array([[1.0, 4.0, 2.0], [2.0, 2.0, 2.5], [4.0, 1.0, 1.0]])[:, :size]
    mean = np.array([[1.5, 3.0, 1.5], [3.0, 1.5, 2.0], [0.5, 4.5, 2.0]])[:, :size]
    outlook, reference = Outlook(mean, np.array(error)), np.full(size, 5.0)
    found = expected_improvement(outlook, front, reference, first)
    drawn = np.array([drawn_improvement(m, e, front, reference) for m, e in zip(mean, outlook.error, strict=True)])
    assert found / found.sum() == pytest.approx(drawn / drawn.sum(), abs=0.03)


def test_with_one_objective_it_is_the_expected_improvement():
    outlook = Outlook(np.array([[0.0], [0.0]]), np.array([[1.0], [2.0]]))
    found = expected_improvement(outlook, np.array([[0.0]]), np.array([9.0]), 0)
    assert found == pytest.approx(np.array([1, 2]) / np.sqrt(2 * np.pi))


# The regression


def test_the_process_follows_values_and_knows_where_it_knows_nothing():
    points = np.linspace(0, 4, 30)[:, None]
    process = GaussianProcess()
    process.fit(points, np.sin(points[:, 0]), np.zeros(30))
    mean, error = process.predict(np.array([[1.1], [40.0]]))
    assert mean[0] == pytest.approx(np.sin(1.1), abs=0.05)
    assert error[0] < error[1] / 3


def test_few_values_leave_the_mean_unsure():
    """Points so far apart that each tells of itself only: their mean has the error of a mean of n values."""
    values, errors = np.random.default_rng(0).normal(size=40), {}
    for count in (4, 40):
        process, points = GaussianProcess(), np.arange(count)[:, None] * 1e3
        process.fit(points, values[:count], np.zeros(count))
        errors[count] = process.predict(np.array([[1e9]]))[1][0] / process._spread / process._scale**0.5
        assert errors[count] == pytest.approx((1 + (1 + process._chosen[1]) / count) ** 0.5)
    assert errors[4] > 1.08 * errors[40]


def test_a_noisy_value_weighs_less():
    points, values = np.array([[0.0], [0.1], [3.0], [5.0]]), np.array([0.0, 4.0, 1.0, 2.0])
    found = []
    for noise in (0.0, 100.0):
        process = GaussianProcess()
        process.fit(points, values, np.array([0.0, noise, 0.0, 0.0]))
        found.append(process.predict(np.array([[0.05]]))[0][0])
    assert found[1] < found[0]


def test_a_rung_that_does_not_rank_teaches_nothing():
    early = np.arange(8.0)
    slope, _, final, left = _line(zip(early, 2 * early + 1, strict=True))
    assert slope == pytest.approx(2 * 8 / 10)  # as if two more had shown none
    assert final == pytest.approx(8)
    assert left > 0
    assert _line(zip(early, -early, strict=True)) is None
    assert _line(zip(early[:4], early[:4], strict=True)) is None
    assert _line([(1.0, 2.0)] * 8) is None


def test_a_long_search_is_seen_by_its_front_and_its_end():
    seen = [Seen({"a": n}, (), [float(n == 3), 1.0]) for n in range(3 * MAX_FINISHED)]
    kept = front_and_latest(seen, ["maximize", "minimize"])
    assert len(kept) == MAX_FINISHED
    assert seen[3] in kept
    assert seen[-1] in kept


# In Optuna


class Shapes:
    """Squares and rods, of which only rods have a length; large ones cannot be had."""

    def draw(self, rng):
        if rng.random() < 0.5:
            return {"kind": "square", "side": rng.randint(1, 9)}
        return {"kind": "rod", "length": rng.randint(1, 20)}

    def near(self, point, rng):
        return self.draw(rng)

    def describe(self, point):
        size = point.get("side", 0) ** 2 + point.get("length", 0)
        return None if size > 60 else Described((float(size), float(point["kind"] == "rod")), {1: float(size)})


def build(trial):
    kind = trial.suggest_categorical("kind", ["square", "rod"])
    if kind == "square":
        side = trial.suggest_int("side", 1, 9)
        return 10 * side, side**2
    length = trial.suggest_int("length", 1, 20)
    return 3 * length, length


def test_optuna_optimizes_a_conditional_space_with_it():
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=EHVISampler(Shapes(), seed=0))
    study.optimize(build, n_trials=22)
    points = [tuple(sorted(trial.params.items())) for trial in study.trials]
    assert len(set(points)) == 22  # of 27
    assert max(trial.params.get("side", 0) for trial in study.trials) == 7  # 8 x 8 cannot be had
    best = {tuple(trial.params.items()) for trial in study.best_trials}
    assert (("kind", "square"), ("side", 7)) in best


def test_a_name_that_a_point_lacks_is_drawn():
    study = optuna.create_study(sampler=EHVISampler(Shapes(), seed=0))
    study.optimize(lambda trial: build(trial)[1] + trial.suggest_float("more", 0, 1), n_trials=5)
    assert all(0 <= trial.params["more"] <= 1 for trial in study.trials)


def test_what_waits_is_chosen_where_it_is_worth_more():
    sampler, rng = EHVISampler(Shapes(), seed=0), random.Random(0)
    points = [Shapes().draw(rng) for _ in range(30)]
    known = [p for p in points if Shapes().describe(p)]
    done = [Seen(p, ([v / 2, s],), [v, s]) for p in known for v, s in [value(p)]]
    good = Seen({"kind": "square", "side": 7}, ([70.0, 49.0],))
    poor = Seen({"kind": "rod", "length": 20}, ([0.0, 20.0],))
    seen, sides = [*done, good, poor], ["maximize", "minimize"]
    squares = ({"kind": "square", "side": side} for side in range(1, 10))
    rods = ({"kind": "rod", "length": length} for length in range(1, 21))
    point, place = sampler.choose(seen, sides, taken={*map(key_of, (*squares, *rods))}, waiting=[poor, good])
    assert (point, place) == (None, 1)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_limits_that_most_finished_networks_no_longer_keep_end_no_search(kept):
    """A study may go on with tighter limits; a point that breaks one is not described."""

    class Tighter(Shapes):
        def describe(self, point):
            known = super().describe(point)
            return known if known and known.known[1] <= 4 else None

    squares = [{"kind": "square", "side": side} for side in (5, 6, 7)]
    rods = [{"kind": "rod", "length": length} for length in range(1, 1 + kept)]
    done = [Seen(point, (), value(point)) for point in (*squares, *rods)]
    sampler = EHVISampler(Tighter(), seed=0)
    for _ in range(3):
        point, place = sampler.choose(done, ["maximize", "minimize"])
        assert Tighter().describe(point)
        assert place is None


def value(point):
    return build(optuna.trial.FixedTrial(point))


# In a search


def test_a_share_of_the_steps_goes_straight():
    halving, names = Halving((2, 5, 10), 3, ["miou", "macs"], ["maximize", "minimize"], straight=0.5), ("miou", "macs")
    assert not Halving((2, 5, 10), 3, names, ("maximize", "minimize")).goes_straight([], [])
    for n in range(8):
        halving._compare(float(n), float(n))
    kinds = []
    for _ in range(60):
        kinds.append(halving.goes_straight([], kinds))
    assert 10 * kinds.count(True) == pytest.approx(2 * kinds.count(False), abs=10)
    for n in range(8):
        halving._compare(float(n), float(-n))
    assert halving.goes_straight([], [True] * 60)


HEDGED = "{rungs: [2, 5], factor: 3, straight: 0.5}"


def by_rung(driver):
    trials = [t for t in driver.record.trials() if "stopped_at_rung" in t.user_attrs or t.state == TrialState.COMPLETE]
    return [(t.user_attrs["rung"], t.user_attrs.get("straight"), t.state) for t in trials]


@pytest.fixture
def quick(monkeypatch):
    """Networks are not built to be described."""
    engine = FakeEngine()
    measured = lambda arch, _size, _classes: engine.measure(Job(0, "cost", arch.params())).cost  # noqa: E731
    graph_features.cost_of_settings.cache_clear()
    monkeypatch.setattr(graph_features, "measure_cost", measured)
    yield
    graph_features.cost_of_settings.cache_clear()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("sampler", ["random", "ehvi"])
def test_all_go_straight_to_the_end_until_rungs_are_known_to_rank_and_then_some(tmp_path, sampler):
    engine = FakeEngine(workers=3)
    driver = make_driver(str(tmp_path / "s.log"), make_study(halving=HEDGED), engine, trials=16, sampler=sampler)
    assert driver.run() == "all 16 trials are done"
    rungs = by_rung(driver)
    assert {since for rung, since, _ in rungs[:6]} == {0}  # at first all go straight
    assert any(since is None for rung, since, _ in rungs[18:])
    assert len([1 for rung, since, _ in rungs if since == 0 and rung == 2]) == len(
        [1 for rung, since, _ in rungs if (rung, since) == (0, 0)]
    )  # whoever starts straight gets to the end
    assert {state for rung, _, state in rungs if rung == 2} == {TrialState.COMPLETE}


@pytest.mark.slow
def test_rungs_that_rank_backwards_are_followed_no_longer(tmp_path):
    engine = FakeEngine(miou=lambda job, macs: macs % 97 if (job.until or 10) == 10 else 97 - macs % 97)
    driver = make_driver(str(tmp_path / "s.log"), make_study(halving=HEDGED), engine, trials=24)
    driver.run()
    late = [since for rung, since, _ in by_rung(driver)[-15:-5] if rung == 0]
    assert late
    assert set(late) == {0}


@pytest.mark.usefixtures("quick")
def test_a_search_with_it_gives_the_same_again(tmp_path):
    drawn = []
    for place in range(2):
        study = make_study(space="regseg")
        driver = make_driver(f"{tmp_path}/{place}.log", study, FakeEngine(), trials=8, sampler="ehvi")
        driver.run()
        drawn.append([trial.params for trial in driver.record.trials()])
    assert drawn[0] == drawn[1]


def test_a_point_that_cannot_be_built_ends_no_search():
    """The Detail Branch has no place beside DABNet's encoder."""
    text = "about: x\nparameters: {family: composed, encoder: [dabnet, regseg], decoder: none, detail_width: [0, 64]}"
    points = graph_features.SpacePoints(
        space_from_text(text, "x"), (), {}, CostProtocol(input_size=(64, 128), num_classes=2)
    )
    fits = {"family": "composed", "encoder": "dabnet", "decoder": "none", "detail_width": 0}
    assert points.describe(fits)
    assert points.describe({**fits, "detail_width": 64}) is None


def test_it_takes_no_options():
    with pytest.raises(UserError, match="ehvi takes no options, got depth"):
        make_sampler("ehvi", {"depth": 3}, 0)


def test_numbers_of_the_recipe_are_features_and_names_are_codes():
    text = """
about: one network
parameters:
  family: regseg
  recipe.learning_rate: {choices: [0.1, 0.01, 0.05], when: {recipe.ohem: hard}}
  recipe.ohem: {choices: {none: null, hard: {loss_above: 0.5}}}
"""
    space = space_from_text(text, "one")
    hard = {"family": "regseg", "recipe.ohem": "hard"}
    found = [recipe_features(space, {**hard, "recipe.learning_rate": rate}) for rate in (0.01, 0.05, 0.1)]
    assert found == [(0.0,), (0.5,), (1.0,)]
    assert recipe_features(space, {"family": "regseg", "recipe.ohem": "none"}) == (0.5,)
